from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from scipy import special

from hemorrhage_tf.core.errors import DataError, ModelError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.scan_model import scan_geometry
from hemorrhage_tf.pipeline.model_input import ModelInput

THREE = ("brain", "subdural", "bone")


def probabilities(prediction):
    return [one.probability for one in prediction]


class PositionModel(Model):
    """A model whose logit depends on where the brightness is."""

    has_cam = True
    weights = np.random.default_rng(0).normal(0, 0.02, (4, 4))

    def __init__(self, **changes):
        metadata = ModelMetadata(4, 0.5, "tiny", None, "avg", "", "", {}, crop_head=False)
        super().__init__(Path("model"), replace(metadata, **changes))

    def _compute(self, images, features, cam):
        maps = images[..., 0] * self.weights - 0.3
        return {"probability": special.expit(maps.mean(axis=(1, 2))), "cam": maps}


class ConstantModel(Model):
    """A model without a class activation map that returns given probabilities in turn."""

    def __init__(self, *values):
        super().__init__(Path("constant"), PositionModel().metadata)
        self._values = iter(values)

    def _compute(self, images, features, cam):
        return {"probability": np.array([next(self._values)], np.float32)}


class ScanModel(PositionModel):
    """A model with a scan model, which smooths over the slices and counts the places."""

    has_scan_model = True

    def __init__(self, **changes):
        super().__init__(scan_model="pooling", **changes)
        self.lengths = []

    def _compute(self, images, features, cam):
        outputs = super()._compute(images, features, cam)
        logits = outputs["cam"].mean(axis=(1, 2))
        of_slices = np.stack([logits, images.mean(axis=(1, 2, 3))], axis=1).astype(np.float32)
        return {**outputs, "features": of_slices}

    def _compute_scan(self, features, geometry):
        assert features.shape == (len(geometry), 2)
        assert geometry.shape == (len(geometry), 3) and geometry.dtype == np.float32
        self.lengths.append(len(features))
        logits = features[:, 0] + geometry[:, 0] + geometry[:, 1]
        logits = (logits + logits.mean()) / 2
        return ScanOutput(float(special.expit(logits.max())), special.expit(logits))


class TestThresholds:
    def test_a_scan_uses_the_threshold_for_slices_unless_it_has_its_own(self):
        assert PositionModel(threshold=0.4).scan_threshold == 0.4
        assert PositionModel(threshold=0.4, scan_threshold=0.7).scan_threshold == 0.7

    def test_a_probability_at_the_threshold_counts_as_hemorrhage(self, model, kaggle_once):
        for one in model.predict(kaggle_once):
            assert one.is_hemorrhage == (one.probability >= model.threshold)


class TestPredict:
    def test_a_slice_does_not_depend_on_the_other_slices(self, model, kaggle_once):
        together = model.predict(kaggle_once)
        alone = model.predict(together[7].path)[0]
        assert alone.path == together[7].path
        assert alone.probability == pytest.approx(together[7].probability, abs=1e-6)

    def test_gray_rgb_and_transparent_copies_have_the_same_probability(
        self, model, kaggle_once, tmp_path
    ):
        source = kaggle_once / "head_ct" / "head_ct" / "001.png"
        paths = [source]
        for mode in ("RGB", "RGBA", "LA"):
            paths.append(tmp_path / f"{mode}.png")
            Image.open(source).convert(mode).save(paths[-1])
        assert np.ptp(probabilities(model.predict(paths))) == 0

    @pytest.mark.parametrize("cam", [False, True])
    def test_reads_each_file_once(self, model, kaggle_once, tmp_path, monkeypatch, cam):
        opened = Counter()
        original = Image.open

        def count(file, *arguments, **keywords):
            opened[str(getattr(file, "name", file))] += 1
            return original(file, *arguments, **keywords)

        folder = kaggle_once / "head_ct" / "head_ct"
        monkeypatch.setattr(Image, "open", count)
        model.predict(folder, cam=tmp_path / "cam" if cam else None)
        counts = {name: n for name, n in opened.items() if name.startswith(str(folder))}
        assert set(counts.values()) == {1}
        assert len(counts) == 24

    def test_a_series_is_sorted_from_the_neck_to_the_vertex(self, model, series):
        folder = series[0].parent
        prediction = model.predict(folder)
        assert [one.path for one in prediction] == [str(path) for path in series]
        assert [str(path) for path in sorted(series)] != [str(path) for path in series]
        assert {one.scan for one in prediction} == {str(folder)}
        (scan,) = prediction.scans
        assert (scan.scan, scan.slices) == (str(folder), 5)
        assert scan.highest == max(probabilities(prediction))

    def test_a_slice_has_the_same_probability_in_every_format(
        self, model, series, volume, heads, tmp_path, write_dicom
    ):
        expected = probabilities(model.predict(series[0].parent))
        assert len(set(expected)) == 5
        images = np.stack([ModelInput(32, ("brain",))(pixels) for pixels in heads])
        assert expected == pytest.approx(model.run(images), abs=1e-6)
        prediction = model.predict(volume)
        assert [one.path for one in prediction] == [f"{volume}#{i}" for i in range(5)]
        assert probabilities(prediction) == pytest.approx(expected, abs=1e-6)
        # The frames of this file count from the vertex down.
        frames = write_dicom(tmp_path / "frames.dcm", heads[::-1], [20, 15, 10, 5, 0])
        prediction = model.predict(frames)
        assert [one.path for one in prediction] == [
            f"{frames}#{frame}" for frame in (4, 3, 2, 1, 0)
        ]
        assert probabilities(prediction) == pytest.approx(expected, abs=1e-6)
        alone = model.predict(series[3])
        assert probabilities(alone) == pytest.approx(expected[3:4], abs=1e-6)
        assert alone.scans == () and alone[0].scan is None

    def test_scans_and_single_slices_together(self, model, series, volume, kaggle_once):
        image = kaggle_once / "head_ct" / "head_ct" / "001.png"
        prediction = model.predict([volume, image, series[0].parent])
        assert [scan.scan for scan in prediction.scans] == [str(volume), str(series[0].parent)]
        scans = [one.scan for one in prediction]
        assert scans[4:7] == [str(volume), None, str(series[0].parent)]
        assert len(prediction) == 11 and prediction[5].path == str(image)

    def test_warns_of_missing_slices(self, model, tmp_path, head, write_dicom, capsys):
        for index, z in enumerate([0, 5, 10, 25, 30, 35]):
            write_dicom(tmp_path / "gap" / f"{index}.dcm", head(index), z)
        model.predict(tmp_path / "gap", progress=Progress())
        printed = " ".join(capsys.readouterr().err.split())
        assert "15.0 mm between 2.dcm and 3.dcm" in printed

    def test_lists_all_invalid_files_in_one_error(self, model, series, tmp_path):
        (tmp_path / "empty.png").write_bytes(b"")
        series[2].write_bytes(series[2].read_bytes()[:-500])
        with pytest.raises(DataError) as error:
            model.predict([*series, tmp_path / "empty.png"])
        for text in (series[2].name, "empty.png", "--skip-invalid"):
            assert text in str(error.value)

    def test_skips_invalid_files_on_request(self, model, series):
        series[2].write_bytes(series[2].read_bytes()[:-500])
        prediction = model.predict(series, skip_invalid=True)
        assert len(prediction) == 4 and prediction.scans[0].slices == 4

    def test_several_batches_predict_like_one(self, series, tmp_path, monkeypatch):
        (tmp_path / "empty.png").write_bytes(b"")
        paths = [*series[:3], tmp_path / "empty.png", *series[3:]]
        expected = PositionModel().predict(paths, skip_invalid=True, cam=tmp_path / "cam")
        assert len(expected) == 5
        monkeypatch.setattr("hemorrhage_tf.inference.model.BATCH_SIZE", 2)
        batches = PositionModel().predict(paths, skip_invalid=True, cam=tmp_path / "cam")
        assert [one.path for one in batches] == [one.path for one in expected]
        assert [one.cam for one in batches] == [one.cam for one in expected]
        assert probabilities(batches) == pytest.approx(probabilities(expected), abs=1e-6)
        with pytest.raises(DataError, match="empty.png"):
            PositionModel().predict(paths)

    def test_rejects_images_none_of_which_can_be_read(self, model, tmp_path):
        (tmp_path / "a.png").write_text("no image")
        with pytest.raises(DataError, match="no slice is left"):
            model.predict(tmp_path / "a.png", skip_invalid=True)

    def test_a_warning_is_part_of_the_slice_prediction(self, model, kaggle_once, tmp_path, capsys):
        disc = tmp_path / "disc.png"
        y, x = np.mgrid[:128, :128] - 64
        Image.fromarray((np.hypot(y, x) < 50).astype(np.uint8) * 255).save(disc)
        image = kaggle_once / "head_ct" / "head_ct" / "001.png"
        first, second = model.predict([image, disc], progress=Progress())
        assert first.warning is None
        assert "skull" in second.warning
        assert capsys.readouterr().err.count(second.warning) == 1


class TestScanModel:
    def expected(self, heads, positions, tta=False):
        """The probabilities of one scan, run by hand."""
        model = ScanModel()
        images = np.stack([ModelInput(4, ("brain",), crop_head=False)(one) for one in heads])
        geometry = scan_geometry(np.array(positions, np.float64))
        axes = ((), (2,), (1,), (1, 2)) if tta else ((),)
        outputs = [
            model.run_scan(model.run_with_features(np.flip(images, axis))[1], geometry)
            for axis in axes
        ]
        logits = np.mean([special.logit(one.slice_probabilities) for one in outputs], axis=0)
        scan = np.mean([special.logit(one.probability) for one in outputs])
        return special.expit(scan), special.expit(logits)

    def test_predicts_the_scan_and_its_slices(self, series, heads):
        model = ScanModel(scan_threshold=0.6, slice_in_scan_threshold=0.55, threshold=0.5)
        prediction = model.predict(series[0].parent)
        alone = probabilities(PositionModel().predict(series[0].parent))
        assert probabilities(prediction) == pytest.approx(alone, abs=1e-6)
        scan, in_scan = self.expected(heads, [0, 5, 10, 15, 20])
        (one,) = prediction.scans
        assert one.probability == pytest.approx(scan, abs=1e-6)
        assert one.is_hemorrhage == (scan >= 0.6) and one.threshold == 0.6
        assert one.mean_of_highest == pytest.approx(np.mean(np.sort(alone)[-3:]), abs=1e-6)
        decided = [each.probability_in_scan for each in prediction]
        assert decided == pytest.approx(in_scan, abs=1e-6)
        flagged = [each.is_hemorrhage for each in prediction]
        assert flagged == [value >= 0.55 for value in decided]
        assert 0 < sum(flagged) < 5 and one.flagged == sum(flagged)
        best = np.argsort(-in_scan)[:3]
        assert one.top_positions == tuple(best + 1)
        assert one.top_slices == tuple(prediction[index].path for index in best)

    def test_the_distance_of_the_slices_counts(self, heads, tmp_path, write_dicom):
        for name, step in (("thin", 20), ("thick", 40)):
            for index, pixels in enumerate(heads):
                write_dicom(tmp_path / name / f"{index}.dcm", pixels, step * index)
        thick, thin = ScanModel().predict(tmp_path).scans
        scan, _ = self.expected(heads, np.arange(5) * 20)
        assert thin.probability == pytest.approx(scan, abs=1e-6)
        assert thick.probability > thin.probability

    def test_averages_the_logits_of_the_flipped_scans(self, series, heads):
        prediction = ScanModel().predict(series[0].parent, tta=True)
        scan, in_scan = self.expected(heads, [0, 5, 10, 15, 20], tta=True)
        assert prediction.scans[0].probability == pytest.approx(scan, abs=1e-6)
        decided = [one.probability_in_scan for one in prediction]
        assert decided == pytest.approx(in_scan, abs=1e-6)
        assert decided != pytest.approx(self.expected(heads, [0, 5, 10, 15, 20])[1], abs=1e-4)

    def test_single_slices_and_several_scans_in_batches(
        self, series, volume, kaggle_once, tmp_path, monkeypatch
    ):
        image = kaggle_once / "head_ct" / "head_ct" / "001.png"
        paths = [volume, image, series[0].parent, image.with_name("002.png")]
        model = ScanModel()
        expected = model.predict(paths)
        assert model.lengths == [5, 5]
        assert [one.probability_in_scan is None for one in expected] == (
            [False] * 5 + [True] + [False] * 5 + [True]
        )
        for one in (expected[5], expected[11]):
            assert one.is_hemorrhage == (one.probability >= model.threshold)
        first, second = expected.scans
        assert first.probability == pytest.approx(second.probability, abs=1e-6)
        monkeypatch.setattr("hemorrhage_tf.inference.model.BATCH_SIZE", 3)
        batches = model.predict(paths, cam=tmp_path / "cam")
        assert [one.probability for one in batches.scans] == pytest.approx(
            [one.probability for one in expected.scans], abs=1e-6
        )
        assert len(list((tmp_path / "cam").glob("*.cam.png"))) == 12

    def test_a_skipped_slice_is_missing_in_its_scan(self, series, heads):
        series[2].write_bytes(series[2].read_bytes()[:-500])
        prediction = ScanModel().predict(series, skip_invalid=True)
        scan, in_scan = self.expected(heads[[0, 1, 3, 4]], [0, 5, 15, 20])
        assert prediction.scans[0].probability == pytest.approx(scan, abs=1e-6)
        assert [one.probability_in_scan for one in prediction] == pytest.approx(in_scan, abs=1e-6)

    def test_a_scan_of_which_every_slice_was_skipped_is_left_out(self, series, volume):
        for path in series:
            path.write_bytes(path.read_bytes()[:-500])
        prediction = ScanModel().predict([*series, volume], skip_invalid=True)
        assert [one.scan for one in prediction.scans] == [str(volume)]

    def test_known_slices_are_predicted_scan_by_scan(self, series, volume, kaggle_once):
        from hemorrhage_tf.imaging.readers import SliceRef

        image = SliceRef(kaggle_once / "head_ct" / "head_ct" / "001.png")
        refs = [image, *(SliceRef(path) for path in series)]
        refs += [SliceRef(volume, frame) for frame in range(5)]
        mixed = [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5]  # slices of both scans in turn
        slices = [refs[index] for index in mixed]
        members = [[2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]
        positions = np.array([np.nan, *np.repeat(np.arange(5) * 5.0, 2)])
        model_input = ModelInput(4, ("brain",), crop_head=False)
        model = ScanModel()
        found = model.scan_probabilities(slices, members, positions, model_input=model_input)
        plain = PositionModel()
        expected = plain.probabilities(slices, model_input=model_input)
        np.testing.assert_allclose(found.slices, expected, atol=1e-6)
        prediction = ScanModel().predict(series[0].parent)
        in_scan = [one.probability_in_scan for one in prediction]
        assert np.isnan(found.in_scans[0])
        for each in members:
            np.testing.assert_allclose(found.in_scans[each], in_scan, atol=1e-6)
        np.testing.assert_allclose(found.scans, [prediction.scans[0].probability] * 2, atol=1e-6)
        without = plain.scan_probabilities(slices, members, positions, model_input=model_input)
        assert np.isnan(without.in_scans).all()
        scores = [np.sort(expected[each])[-3:].mean() for each in members]
        np.testing.assert_allclose(without.scans, scores, atol=1e-6)

    def test_a_model_without_one_says_so(self):
        with pytest.raises(ModelError, match="model: this model has no scan model. Fit one"):
            PositionModel().run_with_features(np.zeros((1, 4, 4, 3), np.float32))
        with pytest.raises(ModelError, match="no scan model"):
            PositionModel().run_scan(np.zeros((2, 2)), np.zeros((2, 3)))


class TestOverlays:
    def test_each_slice_has_an_overlay_of_its_own_size(
        self, model, series, tmp_path, head, write_dicom
    ):
        wide = write_dicom(tmp_path / "wide.dcm", np.pad(head(7), ((0, 0), (9, 30))))
        image = tmp_path / "b.png"
        Image.fromarray(draw_phantom(0, 3, 1)).resize((200, 150)).save(image)
        folder = tmp_path / "new" / "overlays"
        paths = [*series, wide, image]
        prediction = model.predict(paths, cam=folder)
        assert [one.cam for one in prediction] == [
            str(folder / f"{path.name}.cam.png") for path in paths
        ]
        sizes = []
        for one in prediction:
            with Image.open(one.cam) as overlay:
                assert (overlay.format, overlay.mode) == ("PNG", "RGB")
                sizes.append(overlay.size)
        assert sizes == [(128, 128)] * 5 + [(167, 128), (200, 150)]
        names = {path.name for path in folder.iterdir()}
        assert names == {"color_bar.png", *(Path(one.cam).name for one in prediction)}
        without = model.predict(paths)
        assert probabilities(prediction) == pytest.approx(probabilities(without), abs=1e-5)
        assert {one.cam for one in without} == {None}

    def test_shows_the_slice_through_the_window(self, model, series, head, tmp_path):
        (one,) = model.predict(series[0], cam=tmp_path / "cam")
        shown = ModelInput(128, ("brain",), crop_head=False)(head(0))
        overlay = np.asarray(Image.open(one.cam)).astype(np.float32)
        corner = (slice(0, 4), slice(0, 4))  # outside the head crop
        np.testing.assert_allclose(overlay[corner], shown[corner], atol=0.51)

    def test_the_color_follows_the_decision_in_the_scan(self, series, tmp_path):
        class OneSliceModel(ScanModel):
            """Flags the third slice of a scan, whatever each is alone."""

            def _compute_scan(self, features, geometry):
                probabilities = np.full(len(features), 0.01, np.float32)
                probabilities[2] = 0.99
                return ScanOutput(0.9, probabilities)

        model = OneSliceModel()
        plain = model.predict(series[2], cam=tmp_path / "alone")
        prediction = model.predict(series, cam=tmp_path / "scan")
        colored = []
        for one in [*plain, *prediction]:
            overlay = np.asarray(Image.open(one.cam)).astype(int)
            colored.append(bool((overlay[..., 0] != overlay[..., 2]).any()))
        assert [one.is_hemorrhage for one in prediction] == [False, False, True, False, False]
        assert colored == [plain[0].is_hemorrhage, False, False, True, False, False]

    def test_names_number_frames_and_files_of_the_same_name(
        self, model, volume, tmp_path, head, write_dicom
    ):
        model.predict(volume, cam=tmp_path / "frames")
        assert sorted(path.name for path in (tmp_path / "frames").glob("*.cam.png")) == [
            f"volume.nii.gz.{frame:04d}.cam.png" for frame in range(5)
        ]
        for index, name in enumerate("xyz"):
            write_dicom(tmp_path / name / "a.dcm", head(index))
        model.predict([tmp_path / name for name in "xyz"], cam=tmp_path / "same")
        assert sorted(path.name for path in (tmp_path / "same").glob("*.cam.png")) == [
            "a.dcm.2.cam.png",
            "a.dcm.3.cam.png",
            "a.dcm.cam.png",
        ]

    def test_files_that_are_skipped_have_no_number(self, model, tmp_path):
        paths = [tmp_path / name / "1.png" for name in ("a", "b", "c")]
        for index, path in enumerate(paths):
            path.parent.mkdir()
            Image.fromarray(draw_phantom(0, index, 1)).save(path)
        paths[1].write_text("no image")
        prediction = model.predict(paths, cam=tmp_path / "cam", skip_invalid=True)
        names = [Path(one.cam).name for one in prediction]
        assert names == ["1.png.cam.png", "1.png.2.cam.png"]

    def test_none_is_written_where_a_file_is_invalid(self, model, series, tmp_path):
        series[4].write_bytes(b"")
        with pytest.raises(DataError):
            model.predict(series, cam=tmp_path / "cam")
        assert not (tmp_path / "cam").exists()
        assert not list(tmp_path.glob(".overlays*"))

    def test_rejects_a_folder_that_cannot_be_written(self, model, series, tmp_path):
        (tmp_path / "file").write_text("notes")
        with pytest.raises(OutputError, match="--cam .*file: cannot be written"):
            model.predict(series, cam=tmp_path / "file")
        assert (tmp_path / "file").read_text() == "notes"

    def test_rejects_a_model_without_class_activation_maps(self, series, tmp_path):
        with pytest.raises(ModelError, match="no class activation map. Export it with --cam"):
            ConstantModel(0.5).predict(series, cam=tmp_path / "cam")
        assert not (tmp_path / "cam").exists()


class TestWindow:
    @pytest.fixture
    def image(self, tmp_path):
        Image.fromarray(draw_phantom(0, 1, 1)).save(tmp_path / "image.png")
        return tmp_path / "image.png"

    def test_a_model_of_display_images_shows_units_through_the_brain_window(
        self, model, series, capsys
    ):
        default = model.predict(series, progress=Progress())
        printed = " ".join(capsys.readouterr().err.split())
        assert "was trained on display images. Hounsfield units are converted" in printed
        assert "by the window brain." in printed
        assert probabilities(model.predict(series, window="brain")) == probabilities(default)
        other = model.predict(series, window="600/2800")
        assert probabilities(other) != pytest.approx(probabilities(default), abs=1e-4)
        assert probabilities(other) == probabilities(model.predict(series, window=("bone",)))
        three = probabilities(model.predict(series, window=THREE))
        assert three != pytest.approx(probabilities(default), abs=1e-4)

    def test_rejects_a_window_for_display_images(self, model, series, image):
        with pytest.raises(OptionError, match="--window brain: 1 of 1 slices are display images"):
            model.predict(image, window="brain")
        with pytest.raises(OptionError, match="--window bone: 1 of 6 slices are display images"):
            model.predict([*series, image], window="bone")

    def test_rejects_it_before_predicting(self, series, image, monkeypatch):
        class Untouched(PositionModel):
            def _compute(self, images, features, cam):
                raise AssertionError("a slice was predicted")

        model = Untouched()
        monkeypatch.setattr("hemorrhage_tf.inference.model.BATCH_SIZE", 1)
        with pytest.raises(OptionError, match="--window brain: 1 of 6 slices are display images"):
            model.predict([*series, image], window="brain")
        with pytest.raises(OptionError, match="--window brian"):
            model.predict(series, window="brian")

    def test_a_dicom_file_with_the_name_of_an_image_takes_one(self, model, series):
        renamed = series[0].with_name("slice.png")
        series[0].rename(renamed)
        default = model.predict(renamed)
        assert probabilities(model.predict(renamed, window="brain")) == probabilities(default)

    def test_rejects_another_window_than_the_models(self, series, image):
        model = PositionModel(window=("subdural",))
        expected = probabilities(model.predict(series))
        assert probabilities(model.predict(series, window="subdural")) == expected
        for window in ("brain", THREE):
            with pytest.raises(OptionError, match="trained with subdural and accepts no other"):
                model.predict(series, window=window)
        assert len(model.predict(image)) == 1  # a display image already has a window

    def test_a_model_of_three_windows_accepts_units_only(self, series, image):
        model = PositionModel(window=THREE)
        assert len(model.predict(series, window=",".join(THREE))) == 5
        with pytest.raises(OptionError, match="1 of 6 slices are display images. Pass DICOM"):
            model.predict([*series, image])
        with pytest.raises(OptionError, match="accepts no other window"):
            model.predict(series, window="bone,subdural,brain")

    @pytest.mark.parametrize("window", ["lung", "brain,bone", "40", "", "40/0"])
    def test_rejects_an_unknown_window(self, model, series, window):
        with pytest.raises(OptionError, match=f"--window {window}"):
            model.predict(series, window=window)


class TestTestTimeAugmentation:
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 4, 3)).astype(np.float32)

    def test_averages_the_logits_of_a_slice_and_its_flips(self):
        model = PositionModel()
        averaged = model.with_tta().run(self.images)
        for image, probability in zip(self.images, averaged, strict=True):
            views = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
            logits = [special.logit(model.run(view[np.newaxis])[0]) for view in views]
            assert np.ptp(logits) > 0.01
            assert probability == pytest.approx(special.expit(np.mean(logits)), abs=1e-6)

    def test_a_flipped_slice_has_the_same_probability(self):
        model = PositionModel().with_tta()
        for axes in (1, 2, (1, 2)):
            flipped = model.run(np.flip(self.images, axes))
            np.testing.assert_allclose(flipped, model.run(self.images), atol=1e-6)

    def test_the_mean_of_a_map_stays_the_logit(self, tmp_path):
        model = PositionModel()
        paths = [tmp_path / f"{index}.png" for index in range(len(self.images))]
        for path, image in zip(paths, self.images, strict=True):
            Image.fromarray(image.astype(np.uint8)).save(path)
        averaged = model.with_tta()
        values, maps = zip(*averaged.probabilities_with_cams(paths), strict=True)
        values, maps = np.array(values), np.array(maps)
        np.testing.assert_array_equal(values, averaged.probabilities(paths))
        np.testing.assert_allclose(special.expit(maps.mean(axis=(1, 2))), values, atol=1e-6)
        undo = (np.array, np.fliplr, np.flipud, lambda image: np.rot90(image, 2))
        expected = [
            np.mean([flip(model.run_with_cam(flip(image)[np.newaxis])[1][0]) for flip in undo], 0)
            for image in self.images
        ]
        np.testing.assert_allclose(maps, expected, rtol=1e-6)

    def test_certain_predictions_stay_finite(self):
        model = ConstantModel(1.0, 0.0, 1.0, 1.0).with_tta()
        (probability,) = model.run(self.images[:1])
        assert 0.99 < probability < 1
        assert not model.has_cam

    def test_applies_once(self):
        model = PositionModel().with_tta()
        assert model.with_tta() is model and model.uses_tta
