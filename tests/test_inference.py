from __future__ import annotations

import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.errors import ModelError


@pytest.fixture
def run(kaggle_folder, tmp_path):
    return htf.fit(
        kaggle_folder, out=tmp_path / "run", backbone="tiny", image_size=32, epochs=1, quiet=True
    )


def test_threshold_belongs_to_the_positive_side(run, kaggle_folder):
    model = run.model()
    for finding in model.predict(kaggle_folder):
        assert finding.is_hemorrhage == (finding.probability >= model.threshold)


def test_predictions_do_not_depend_on_what_else_is_predicted(run, kaggle_folder):
    model = run.model()
    every = model.predict(kaggle_folder)
    alone = model.predict(every[7].path)[0]
    assert alone.path == every[7].path
    assert alone.probability == pytest.approx(every[7].probability, abs=1e-6)


def test_grey_rgb_and_transparent_copies_get_the_same_probability(run, kaggle_folder, tmp_path):
    source = kaggle_folder / "head_ct" / "head_ct" / "001.png"
    paths = [source]
    for mode in ("RGB", "RGBA", "LA"):
        paths.append(tmp_path / f"{mode}.png")
        Image.open(source).convert(mode).save(paths[-1])
    probabilities = [finding.probability for finding in htf.predict(run, paths, quiet=True)]
    assert np.ptp(probabilities) == 0


@pytest.mark.parametrize("name", ["missing", "empty_folder", "model.onnx"])
def test_what_is_no_model_is_told_with_what_is_accepted(name, tmp_path):
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "model.onnx").write_text("x")
    with pytest.raises(ModelError, match="Accepted: a run folder"):
        htf.load(tmp_path / name)


def test_truncated_model_is_told(run, tmp_path):
    broken = tmp_path / "broken.keras"
    content = (run.path / "model.keras").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="not a whole .keras file"):
        htf.load(broken)


def test_foreign_keras_model_is_told(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "foreign.keras")
    with pytest.raises(ModelError, match="hemorrhage-tf did not write"):
        htf.load(tmp_path / "foreign.keras")


def test_model_whose_weights_are_damaged_is_told(run, tmp_path):
    damaged = tmp_path / "damaged.keras"
    with (
        zipfile.ZipFile(run.path / "model.keras") as source,
        zipfile.ZipFile(damaged, "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:100] if name.endswith(".h5") else content)
    with pytest.raises(ModelError, match="damaged"):
        htf.load(damaged)
