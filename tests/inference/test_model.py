from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from scipy import special

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, ModelError, OptionError, OutputError
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.loading import load_classifier, model_and_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanPrediction, SlicePrediction
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.pipeline.model_input import ModelInput

FIT = {"backbone": "tiny", "image_size": 32, "epochs": 1, "quiet": True}
THREE = ("brain", "subdural", "bone")


@pytest.fixture
def run(kaggle_folder, tmp_path):
    return htf.fit(kaggle_folder, out=tmp_path / "run", **FIT)


@pytest.fixture
def series(tmp_path, head, write_series):
    """A series of five slices whose names do not tell their order."""
    folder = tmp_path / "series"
    return write_series(folder, [head(index) for index in range(5)])


@pytest.fixture
def volume(tmp_path, head, write_nifti):
    """The same slices as the series."""
    return write_nifti(tmp_path / "a.nii.gz", np.stack([head(index) for index in range(5)]))


def probabilities(prediction):
    return [finding.probability for finding in prediction]


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


class TestScans:
    def test_a_series_comes_from_the_neck_up_with_a_line_of_its_own(self, run, series):
        folder = series[0].parent
        prediction = htf.predict(run, folder, quiet=True)
        assert [finding.path for finding in prediction] == [str(path) for path in series]
        assert [str(path) for path in sorted(series)] != [finding.path for finding in prediction]
        assert {finding.scan for finding in prediction} == {str(folder)}
        found = probabilities(prediction)
        (scan,) = prediction.scans
        threshold = run.model().threshold
        top = np.mean(sorted(found)[-3:])
        assert scan == ScanPrediction(
            scan=str(folder),
            slices=5,
            flagged=sum(probability >= threshold for probability in found),
            highest=max(found),
            mean_of_highest=pytest.approx(top, abs=1e-6),
            threshold=threshold,
            is_hemorrhage=bool(top >= threshold),
        )

    def test_a_slice_is_predicted_as_alone_and_as_in_every_format(
        self, run, series, volume, head, tmp_path, write_dicom
    ):
        model = run.model()
        expected = probabilities(model.predict(series[0].parent))
        assert len(set(expected)) == 5
        prediction = model.predict(volume)
        assert [finding.path for finding in prediction] == [f"{volume}#{i}" for i in range(5)]
        assert probabilities(prediction) == pytest.approx(expected, abs=1e-6)
        heads = np.stack([head(index) for index in range(5)])
        # The frames of this file count from the vertex down.
        frames = write_dicom(tmp_path / "frames.dcm", heads[::-1], [20, 15, 10, 5, 0])
        prediction = model.predict(frames)
        assert [finding.path for finding in prediction] == [
            f"{frames}#{frame}" for frame in (4, 3, 2, 1, 0)
        ]
        assert probabilities(prediction) == pytest.approx(expected, abs=1e-6)
        alone = model.predict(series[3])
        assert probabilities(alone) == pytest.approx(expected[3:4], abs=1e-6)
        assert alone.scans == () and alone[0].scan is None

    def test_they_are_what_the_model_says_of_its_input(self, run, series, head):
        model = run.model()
        images = np.stack([ModelInput(32, ("brain",))(head(index)) for index in range(5)])
        assert probabilities(model.predict(series)) == pytest.approx(model.run(images), abs=1e-6)

    def test_scans_and_pictures_together(self, run, series, volume, kaggle_folder):
        picture = kaggle_folder / "head_ct" / "head_ct" / "001.png"
        prediction = htf.predict(run, [volume, picture, series[0].parent], quiet=True)
        assert [scan.scan for scan in prediction.scans] == [str(volume), str(series[0].parent)]
        assert [finding.scan for finding in prediction][4:7] == [
            *(str(volume), None, str(series[0].parent)),
        ]
        assert len(prediction) == 11 and prediction[5].path == str(picture)

    def test_flagged_slices_and_the_scans_own_decision(self, run):
        scans = ["a", "a", None, "a", "b", "b", "a"]
        values = np.array([0.9, 0.1, 1.0, 0.7, 0.4, 0.6, 0.2], np.float32)
        a, b = run.model().scan_predictions(scans, values)
        assert (a.scan, a.slices, a.flagged, a.is_hemorrhage) == ("a", 4, 2, True)
        assert a.highest == pytest.approx(0.9) and a.mean_of_highest == pytest.approx(0.6)
        assert (b.scan, b.slices, b.flagged) == ("b", 2, 1)
        assert b.mean_of_highest == pytest.approx(0.5)

    @pytest.mark.parametrize(("chosen", "threshold"), [(None, 0.5), (0.7, 0.7), (0.3, 0.3)])
    def test_scans_have_a_threshold_of_their_own(self, chosen, threshold):
        model, _ = asymmetric()
        metadata = replace(model.metadata, scan_threshold=chosen)
        model = Model(model.path, metadata, model.run)
        assert (model.threshold, model.scan_threshold) == (0.5, threshold)
        values = np.array([0.8, 0.55, 0.45, 0.2], np.float32)  # the three highest: 0.6 in the mean
        (found,) = model.scan_predictions(["a"] * 4, values)
        assert found.flagged == 2 and found.threshold == threshold
        assert found.is_hemorrhage == (threshold <= 0.6)

    def test_to_dict_is_plain_json(self, run, series):
        prediction = htf.predict(run, series[0].parent, quiet=True)
        values = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
        assert list(values) == ["slices", "scans"]
        assert [list(row) for row in values["slices"]] == [
            ["path", "probability", "hemorrhage", "scan", "warning"]
        ] * 5
        assert list(values["scans"][0]) == [
            *("scan", "slices", "flagged", "highest", "mean_of_top_3", "threshold"),
            "hemorrhage",
        ]

    def test_is_a_sequence_of_findings(self, run, series):
        prediction = htf.predict(run, series, quiet=True)
        assert isinstance(prediction, htf.Prediction) and isinstance(
            prediction[-1], SlicePrediction
        )
        assert list(prediction) == list(prediction.findings) == [prediction[i] for i in range(5)]

    def test_missing_slices_are_warned_of(self, run, tmp_path, head, write_dicom, capsys):
        for index, z in enumerate([0, 5, 10, 25, 30, 35]):
            write_dicom(tmp_path / "gap" / f"{index}.dcm", head(index), z)
        htf.predict(run, tmp_path / "gap")
        told = " ".join(capsys.readouterr().err.split())
        assert "slices seem to be missing: 15.0 mm between 2.dcm and 3.dcm" in told

    def test_a_bad_slice_is_told_or_left_out(self, run, series):
        series[2].write_bytes(series[2].read_bytes()[:-500])
        with pytest.raises(DataError, match=f"{series[2].name}.*(?s:.*)--skip-invalid"):
            htf.predict(run, series, quiet=True)
        prediction = htf.predict(run, series, skip_invalid=True, quiet=True)
        assert len(prediction) == 4 and prediction.scans[0].slices == 4


class TestOverlays:
    def test_each_slice_gets_one_of_its_own_size(self, run, series, tmp_path, head, write_dicom):
        wide = write_dicom(tmp_path / "wide.dcm", np.pad(head(7), ((0, 0), (9, 30))))
        picture = tmp_path / "b.png"
        Image.fromarray(draw_phantom(0, 3, 1)).resize((200, 150)).save(picture)
        folder = tmp_path / "made" / "overlays"
        prediction = htf.predict(run, [*series, wide, picture], cam=folder, quiet=True)
        assert [finding.cam for finding in prediction] == [
            str(folder / f"{path.name}.cam.png") for path in (*series, wide, picture)
        ]
        sizes = []
        for finding in prediction:
            with Image.open(finding.cam) as overlay:
                assert (overlay.format, overlay.mode) == ("PNG", "RGB")
                sizes.append(overlay.size)
        assert sizes == [(128, 128)] * 5 + [(167, 128), (200, 150)]
        assert len(list(folder.iterdir())) == 7
        without = htf.predict(run, [*series, wide, picture], quiet=True)
        assert probabilities(prediction) == pytest.approx(probabilities(without), abs=1e-5)
        assert {finding.cam for finding in without} == {None}
        assert all("cam" in row for row in prediction.to_dict()["slices"])

    def test_shows_the_slice_through_the_window(self, run, series, head, tmp_path):
        (finding,) = htf.predict(run, series[0], cam=tmp_path / "cam", quiet=True)
        shown = ModelInput(128, ("brain",), crop_head=False)(head(0))
        overlay = np.asarray(Image.open(finding.cam)).astype(np.float32)
        # Red is added to it, and to nothing that the model does not see.
        assert (overlay[..., 1] <= shown[..., 1] + 0.51).all()
        np.testing.assert_array_equal(overlay[..., 1], overlay[..., 2])
        corner = (slice(0, 4), slice(0, 4))
        np.testing.assert_allclose(overlay[corner], shown[corner], atol=0.51)

    def test_frames_are_numbered(self, run, volume, tmp_path):
        prediction = htf.predict(run, volume, cam=tmp_path / "cam", quiet=True)
        names = [f"a.nii.gz.{frame:04d}.cam.png" for frame in range(5)]
        assert sorted(path.name for path in (tmp_path / "cam").iterdir()) == names
        assert [finding.cam for finding in prediction] == [
            str(tmp_path / "cam" / name) for name in names
        ]

    def test_slices_of_one_name_are_numbered(self, run, tmp_path, head, write_dicom):
        for index, name in enumerate(("x", "y", "z")):
            write_dicom(tmp_path / name / "a.dcm", head(index))
        htf.predict(run, [tmp_path / name for name in "xyz"], cam=tmp_path / "cam", quiet=True)
        assert sorted(path.name for path in (tmp_path / "cam").iterdir()) == [
            *("a.dcm.2.cam.png", "a.dcm.3.cam.png", "a.dcm.cam.png"),
        ]

    def test_a_place_that_cannot_be_written(self, run, series, tmp_path):
        (tmp_path / "file").write_text("notes")
        with pytest.raises(OutputError, match="--cam .*file: cannot be written"):
            htf.predict(run, series, cam=tmp_path / "file", quiet=True)
        assert (tmp_path / "file").read_text() == "notes"

    def test_a_model_without_a_map_is_told(self, run, series, tmp_path):
        htf.export(run, tmp_path / "a.tflite", quiet=True)
        with pytest.raises(ModelError, match="gives no class activation map.*--cam"):
            htf.predict(tmp_path / "a.tflite", series, cam=tmp_path / "cam", quiet=True)


class TestWindow:
    @pytest.fixture
    def picture(self, tmp_path):
        Image.fromarray(draw_phantom(0, 1, 1)).save(tmp_path / "picture.png")
        return tmp_path / "picture.png"

    @pytest.fixture
    def fitted(self, dicom_folder, tmp_path):
        def fit(**settings):
            return htf.fit(dicom_folder, out=tmp_path / "of_units", **settings, **FIT).model()

        return fit

    def test_a_model_of_pictures_sees_units_through_the_brain_window(self, run, series, capsys):
        model = run.model()
        default = htf.predict(model, series)
        told = " ".join(capsys.readouterr().err.split())
        assert "was trained on pictures: Hounsfield units are shown" in told
        assert "the window brain." in told
        named = model.predict(series, window="brain")
        assert probabilities(named) == probabilities(default)
        other = model.predict(series, window="600/2800")
        assert probabilities(other) != pytest.approx(probabilities(default), abs=1e-4)
        assert probabilities(other) == probabilities(model.predict(series, window=("bone",)))

    def test_is_refused_on_pictures(self, run, series, picture):
        with pytest.raises(OptionError, match="--window brain: 1 of 1 slices are pictures"):
            htf.predict(run, picture, window="brain", quiet=True)
        with pytest.raises(OptionError, match="--window bone: 1 of 6 slices are pictures"):
            htf.predict(run, [*series, picture], window="bone", quiet=True)

    def test_another_than_the_models_is_refused(self, fitted, series, picture):
        model = fitted(window="subdural")
        expected = probabilities(model.predict(series))
        assert probabilities(model.predict(series, window="subdural")) == expected
        for window in ("brain", THREE):
            with pytest.raises(OptionError, match="was trained with subdural and knows no other"):
                model.predict(series, window=window)
        # A picture was windowed already, and it is not known how.
        assert len(model.predict(picture)) == 1

    def test_a_model_of_three_takes_units_only(self, fitted, series, picture):
        model = fitted(window="brain,subdural,bone")
        assert model.metadata.window == THREE
        expected = probabilities(model.predict(series))
        assert probabilities(model.predict(series, window=",".join(THREE))) == expected
        with pytest.raises(OptionError, match="1 of 6 slices are pictures. Give DICOM or NIfTI"):
            model.predict([*series, picture])
        with pytest.raises(OptionError, match="knows no other"):
            model.predict(series, window="bone,subdural,brain")

    def test_a_model_of_pictures_takes_three_where_asked(self, run, series):
        model = run.model()
        three = probabilities(model.predict(series, window=THREE))
        assert three != pytest.approx(probabilities(model.predict(series)), abs=1e-4)

    def test_what_is_none_is_told(self, run, series):
        model = run.model()
        for window, message in (
            *((each, f"--window {each}: accepted") for each in ("lung", "brain,bone", "40", "")),
            ("40/0", "width 0.0: both must be finite and the width at least 1"),
        ):
            with pytest.raises(OptionError, match=message):
                model.predict(series, window=window)


def asymmetric():
    """A model whose logit follows the place, and the function that it asks for it and the map."""
    weights = np.random.default_rng(0).normal(0, 0.02, (4, 4))

    def explained(images):
        maps = images[..., 0] * weights - 0.3
        return 1 / (1 + np.exp(-maps.mean(axis=(1, 2)))), maps

    metadata = ModelMetadata(4, 0.5, "tiny", None, "avg", "", "", {})
    return Model(
        Path("model"), metadata, lambda images: explained(images)[0], lambda: explained
    ), explained


class TestFlips:
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 3)).astype(np.float32)

    def test_logits_are_averaged_over_the_four(self):
        model, explained = asymmetric()
        found = model.with_tta().run(self.images)
        for image, probability in zip(self.images, found, strict=True):
            views = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
            logits = [special.logit(explained(view[np.newaxis])[0][0]) for view in views]
            assert np.ptp(logits) > 0.01
            assert probability == pytest.approx(special.expit(np.mean(logits)), abs=1e-6)

    def test_a_mirror_image_is_predicted_as_the_slice(self):
        model = asymmetric()[0].with_tta()
        for axes in (1, 2, (1, 2)):
            np.testing.assert_allclose(
                model.run(np.flip(self.images, axes)), model.run(self.images), atol=1e-6
            )

    def test_maps_are_turned_back_and_their_mean_stays_the_logit(self, tmp_path):
        model, explained = asymmetric()
        paths = [tmp_path / f"{index}.png" for index in range(len(self.images))]
        for path, image in zip(paths, self.images, strict=True):
            Image.fromarray(image.astype(np.uint8)).save(path)
        flipped = model.with_tta()
        found, maps = zip(*flipped.explained(paths), strict=True)
        found, maps = np.array(found), np.array(maps)
        np.testing.assert_array_equal(found, flipped.probabilities(paths))
        np.testing.assert_allclose(special.expit(maps.mean(axis=(1, 2))), found, atol=1e-6)
        turned = [np.fliplr(explained(np.fliplr(image)[np.newaxis])[1][0]) for image in self.images]
        both = [np.rot90(explained(np.rot90(i, 2)[np.newaxis])[1][0], 2) for i in self.images]
        down = [np.flipud(explained(np.flipud(i)[np.newaxis])[1][0]) for i in self.images]
        expected = (explained(self.images)[1] + turned + both + down) / 4
        np.testing.assert_allclose(maps, expected, rtol=1e-6)

    def test_certain_answers_do_not_become_infinite(self):
        certain = iter([1.0, 0.0, 1.0, 1.0])
        metadata = asymmetric()[0].metadata
        model = Model(Path("m"), metadata, lambda images: np.array([next(certain)], np.float32))
        (found,) = model.with_tta().run(self.images[:1])
        assert 0.99 < found < 1
        assert not model.with_tta().has_cam

    def test_once_is_enough(self):
        model = asymmetric()[0].with_tta()
        assert model.with_tta() is model and model.tta


class TestEmbedded:
    def test_predicts_where_no_model_is_named(self, embedded_model, kaggle_folder, capsys):
        found = htf.predict(kaggle_folder)
        told = " ".join(capsys.readouterr().err.split())
        assert "trained on synthetic phantoms alone" in told and "not a medical device" in told
        assert len(set(probabilities(found))) > 12
        for same in (
            htf.predict("phantomnet", kaggle_folder, quiet=True),
            htf.predict(None, str(kaggle_folder), quiet=True),
            htf.predict(images=[kaggle_folder], quiet=True),
            htf.predict([kaggle_folder], quiet=True),
            htf.load("phantomnet").predict(kaggle_folder),
        ):
            assert same == found
        assert capsys.readouterr().err == ""

    def test_a_path_of_its_name_goes_before_it(
        self, embedded_model, kaggle_folder, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        expected = probabilities(htf.predict(kaggle_folder, quiet=True))
        (tmp_path / "phantomnet").symlink_to(kaggle_folder)
        assert probabilities(htf.predict("phantomnet", quiet=True)) == expected
        with pytest.raises(ModelError, match="no model there"):
            htf.load("phantomnet")

    @pytest.mark.parametrize("cam", [False, True])
    def test_flips_are_those_of_its_keras_form(self, embedded_model, kaggle_folder, cam, tmp_path):
        folder = tmp_path / "cam" if cam else None
        found = htf.predict(kaggle_folder, tta=True, cam=folder, quiet=True)
        metadata, classifier = load_classifier(Path("phantomnet"))
        for finding in found[:4]:
            image = metadata.model_input(read_slice(Path(finding.path)))
            views = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
            each = classifier(np.stack(views)).numpy()[:, 0].astype(np.float64)
            expected = special.expit(special.logit(each).mean())
            assert finding.probability == pytest.approx(expected, abs=5e-3)

    def test_damaged_file_is_told(self, embedded_model, kaggle_folder, tmp_path, monkeypatch):
        monkeypatch.setattr("hemorrhage_tf.models.embedded.FOLDER", tmp_path)
        with pytest.raises(ModelError, match="is missing. Install the package again"):
            htf.predict(kaggle_folder, quiet=True)

    @pytest.mark.parametrize("what", ["predict", "command"])
    def test_predicts_without_tensorflow(self, embedded_model, kaggle_folder, what, volume):
        call = {
            "predict": "import hemorrhage_tf; hemorrhage_tf.predict(sys.argv[2:])",
            "command": "from hemorrhage_tf.cli.main import main; "
            "main(['predict', *sys.argv[2:], '--csv'], standalone_mode=False)",
        }[what]
        code = (
            "import sys; from pathlib import Path; from hemorrhage_tf.models import embedded; "
            f"embedded.FOLDER = Path(sys.argv[1]); {call}; "
            "heavy = {'tensorflow', 'keras', 'keras_cv', 'sklearn', 'h5py'}; "
            "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
        )
        images = [kaggle_folder / "head_ct" / "head_ct" / "001.png", volume]
        done = subprocess.run(
            [sys.executable, "-c", code, str(embedded_model), *map(str, images)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        if what == "command":
            assert len(done.stdout.splitlines()) == 7


class TestArguments:
    def test_model_or_images(self, tmp_path, embedded_model, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("a.png", "m.tflite", "m.keras", "run/model.keras", "saved/saved_model.pb"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        for model in ("m.tflite", "m.keras", "run", "saved", "phantomnet"):
            assert model_and_images([model, "a.png", "*.jpg"]) == (model, ["a.png", "*.jpg"])
        for images in (["a.png"], ["a.png", "typo.png"], ["*.jpg", "a.png"], ["."]):
            assert model_and_images(images) == (None, images)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (["runs/typo", "a.png"], ModelError, "runs/typo: neither a model nor an image is"),
            (["typo.png"], ModelError, "typo.png: neither a model nor an image is there"),
            (["phantomnet"], OptionError, "phantomnet: a model, and no images"),
            (["a.png", "phantomnet"], OptionError, "Name one model, before the images"),
            (["phantomnet", "phantomnet"], OptionError, "Name one model, before the images"),
            ([], OptionError, "no images are named"),
        ],
    )
    def test_mistakes(self, arguments, error, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.png").write_bytes(b"")
        with pytest.raises(error, match=message):
            htf.predict(arguments, quiet=True)

    def test_a_model_and_no_images(self, run):
        for model in (run, run.model(), run.path):
            with pytest.raises(OptionError, match="a model, and no images"):
                htf.predict(model, quiet=True)

    def test_evaluate_takes_data_alone_and_tells_a_model_in_its_place(
        self, run, embedded_model, kaggle_folder
    ):
        alone = htf.evaluate(kaggle_folder, quiet=True)
        named = htf.evaluate("phantomnet", htf.read_manifest(kaggle_folder), quiet=True)
        assert alone.findings == named.findings and len(alone.findings) == 24
        flipped = htf.evaluate(kaggle_folder, against=run, tta=True, quiet=True)
        assert flipped.metrics["evaluated_on"] == "24 slices, each with its tta"
        assert flipped.comparison is not None and flipped.findings != alone.findings
        for arguments in ((run,), (run.path,), ("phantomnet",), (run, run.path)):
            with pytest.raises(OptionError, match="a model, where labeled slices belong"):
                htf.evaluate(*arguments, quiet=True)
        with pytest.raises(OptionError, match="no labeled slices are named"):
            htf.evaluate(quiet=True)


class TestWarnings:
    def test_stand_beside_the_probability(self, run, kaggle_folder, tmp_path, capsys):
        disc = tmp_path / "disc.png"
        y, x = np.mgrid[:128, :128] - 64
        Image.fromarray((np.hypot(y, x) < 50).astype(np.uint8) * 255).save(disc)
        found = htf.predict(run, [kaggle_folder / "head_ct" / "head_ct" / "001.png", disc])
        assert [finding.warning for finding in found] == [None, "no skull was found in it"]
        assert [row["warning"] for row in found.to_dict()["slices"]] == [
            *(None, "no skull was found in it"),
        ]
        told = " ".join(capsys.readouterr().err.split())
        assert told.count("no skull was found in it") == 1

    def test_evaluate_has_them_too(self, run, tmp_path):
        for index in range(4):
            path = tmp_path / "set" / ("normal", "ich")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw_phantom(0, index, index % 2)
            Image.fromarray(pixels // 3 if index == 3 else pixels).save(path)
        found = htf.evaluate(run, tmp_path / "set", quiet=True).findings
        warned = {Path(finding.path).name: finding.warning for finding in found}
        assert [name for name, warning in warned.items() if warning] == ["3.png"]
