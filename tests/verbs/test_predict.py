from __future__ import annotations

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError


@pytest.fixture(scope="module")
def run(fit_once):
    return fit_once()


@pytest.fixture(scope="module")
def images(kaggle_once):
    folder = kaggle_once / "head_ct" / "head_ct"
    return [folder / "000.png", folder / "001.png"]


def test_accepts_images_and_models_in_every_form(run, images):
    finished = htf.fit(resume=run, quiet=True)
    expected = htf.predict(images, model=run, quiet=True)
    assert [one.path for one in expected] == [str(path) for path in images]
    assert len(expected.slices) == 2 and expected.scans == ()
    for model in (str(run), htf.load(run), finished):
        assert htf.predict(iter(images), model=model, quiet=True) == expected
    [first] = htf.predict(str(images[0]), model=run, quiet=True)
    assert first.probability == pytest.approx(expected[0].probability, abs=1e-6)


def test_passes_its_options_on(run, images, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    prediction = htf.predict(
        [*images, tmp_path / "broken.png"],
        model=run,
        cam=tmp_path / "cam",
        tta=True,
        skip_invalid=True,
        quiet=True,
    )
    expected = htf.load(run).with_tta().predict(images)
    assert [one.probability for one in prediction] == pytest.approx(
        [one.probability for one in expected], abs=1e-6
    )
    written = sorted(path.name for path in (tmp_path / "cam").iterdir())
    assert len(written) == 3 and "color_bar.png" in written
    with pytest.raises(OptionError, match="--window bone"):
        htf.predict(images, model=run, window="bone", quiet=True)


def test_a_model_in_place_of_images_is_an_error(run, images):
    with pytest.raises(OptionError, match=f"{run}: this is a model, not an image. Pass it as"):
        htf.predict(run, model=images, quiet=True)
    with pytest.raises(OptionError, match="this is a model, not an image"):
        htf.predict([*images, run / "model.keras"], quiet=True)


def test_no_images_is_an_error():
    with pytest.raises(OptionError, match="no images were passed"):
        htf.predict([], quiet=True)
