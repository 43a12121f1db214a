from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.keras_model import load_classifier


def test_is_the_default_model(embedded_model, kaggle_once, capsys):
    prediction = htf.predict(kaggle_once)
    printed = " ".join(capsys.readouterr().err.split())
    assert "trained on synthetic phantoms alone" in printed and "not a medical device" in printed
    assert len({one.probability for one in prediction}) > 12
    assert htf.predict(str(kaggle_once), model="phantomnet", quiet=True) == prediction
    assert htf.load("phantomnet").predict([kaggle_once]) == prediction
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("cam", [False, True])
def test_agrees_with_its_keras_form_under_test_time_augmentation(
    embedded_model, kaggle_once, tmp_path, cam
):
    folder = tmp_path / "cam" if cam else None
    paths = sorted(kaggle_once.rglob("*.png"))[:3]
    prediction = htf.predict(paths, tta=True, cam=folder, quiet=True)
    metadata, classifier = load_classifier(Path("phantomnet"))
    for one in prediction:
        image = metadata.model_input(read_slice(Path(one.path)))
        views = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
        each = classifier(np.stack(views)).numpy()[:, 0].astype(np.float64)
        expected = special.expit(special.logit(each).mean())
        assert one.probability == pytest.approx(expected, abs=5e-3)


def test_rejects_a_missing_file(tmp_path, kaggle_once, monkeypatch):
    monkeypatch.setattr("hemorrhage_tf.models.pretrained_files.FOLDER", tmp_path)
    with pytest.raises(ModelError, match="[Ii]nstall"):
        htf.predict(kaggle_once, quiet=True)


@pytest.mark.parametrize("way", ["verb", "command"])
def test_predicts_without_importing_tensorflow(kaggle_once, volume, way):
    call = {
        "verb": "import hemorrhage_tf; hemorrhage_tf.predict(sys.argv[1:])",
        "command": "from hemorrhage_tf.cli.main import main; "
        "main(['predict', *sys.argv[1:], '--csv'], standalone_mode=False)",
    }[way]
    code = (
        f"import sys; {call}; heavy = {{'tensorflow', 'keras', 'keras_cv', 'sklearn', 'h5py'}}; "
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    image = kaggle_once / "head_ct" / "head_ct" / "001.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(image), str(volume)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if way == "command":
        assert len(done.stdout.splitlines()) == 7
