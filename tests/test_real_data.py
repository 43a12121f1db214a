"""Requirements on the real slices and weights; skipped where these are not beside the project."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import WeightsError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import expand_paths, list_slices
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.imaging.readers import read_slice

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def slices(shared):
    return shared / "head_ct"


@pytest.fixture(scope="module")
def resnet152(shared):
    """Settings of ResNet152 with ImageNet weights, cut after its fourth stage."""
    weights = shared / "weights" / "resnet152_conv4_imagenet.weights.h5"
    return {"weights": str(weights), "feature_layer": "conv4_block36_out"}


@pytest.fixture(scope="module")
def fit(slices, real_features, tmp_path_factory):
    """Fit the real slices; features of all fits are computed once."""

    def fit(**settings):
        out = tmp_path_factory.mktemp("real") / "run"
        return htf.fit(slices, out=out, cache=real_features, audit=False, quiet=True, **settings)

    return fit


@pytest.fixture(scope="module")
def resnet152_run(fit, resnet152):
    return fit(folds=5, repeats=5, **resnet152)


@pytest.fixture(scope="module")
def mobilenet_run(fit, shared):
    weights = shared / "weights" / "mobilenetv2_imagenet.weights.h5"
    return fit(backbone="mobilenet_v2", weights=str(weights), folds=5)


def test_duplicates_are_detected_and_few_slices_are_grouped(slices):
    index = build_slice_index(htf.read_manifest(slices), QUIET)
    assert len(index) == 200 and index.labels.sum() == 100
    assert [tuple(pair) for pair in index.exact_pairs] == [(188, 189)]
    near = {(i, j) for i, j, _ in index.near_pairs}
    assert {(198, 199), (11, 61), (107, 108), (5, 22), (5, 58), (10, 66), (105, 187)} <= near
    # One of each is a crop of the other.
    assert {(73, 95), (4, 57), (145, 148), (147, 150), (12, 30), (9, 65), (146, 149)} <= near
    assert 165 <= len(np.unique(index.groups)) <= 180
    # Every pair is one image or one scan, and so of one label.
    assert all(index.labels[i] == index.labels[j] for i, j in near)


def test_patients_who_look_alike_are_kept_apart(shared):
    index = build_slice_index(htf.read_manifest(shared / "ct_ich"), QUIET)
    patients = index.manifest.records.patients
    assert len(np.unique(index.groups)) == len(np.unique(index.patient_groups)) == 41
    assert all(patients[i] == patients[j] for i, j, _ in index.near_pairs)
    assert len(index.alike_pairs) > 300
    assert index.alike_pairs["correlation"].max() < index.same_image_limit < 0.97


class TestResNet152:
    def test_repeated_folds_reach_the_required_metrics(self, resnet152_run):
        metrics = resnet152_run.metrics
        assert metrics["accuracy"]["estimate"] >= 0.93
        assert metrics["roc_auc"]["estimate"] >= 0.98

    def test_duplicates_are_in_one_fold(self, resnet152_run):
        with open(resnet152_run.path / "split.csv", newline="") as file:
            rows = {row["path"]: row for row in csv.DictReader(file)}
        for pair in (("188", "189"), ("198", "199"), ("011", "061"), ("105", "187")):
            for repeat in range(1, 6):
                column = f"repeat_{repeat}"
                assert len({rows[f"head_ct/{name}.png"][column] for name in pair}) == 1

    def test_int8_decides_as_the_run(self, resnet152_run, slices, tmp_path):
        target = tmp_path / "a.tflite"
        export = htf.export(resnet152_run, target, quantize="int8", verify=slices, quiet=True)
        assert export.verifications["serving_default"].slices == 200
        assert export.verifications["serving_default"].changed <= 2
        assert export.size_bytes < 0.27 * (resnet152_run.path / "model.keras").stat().st_size

    def test_weights_of_the_cut_backbone_do_not_fit_the_whole_one(self, fit, resnet152):
        with pytest.raises(WeightsError, match="does not fit the whole resnet152"):
            fit(weights=resnet152["weights"])


class TestMobileNetV2:
    def test_learns_the_slices_and_the_model_was_saved(self, mobilenet_run, slices):
        assert mobilenet_run.metrics["roc_auc"]["estimate"] > 0.9
        # The saved model was trained on these slices, so it must separate them.
        metrics = htf.evaluate(slices, model=mobilenet_run, quiet=True).metrics
        assert metrics["accuracy"]["estimate"] > 0.95

    def test_every_export_predicts_as_the_run(self, mobilenet_run, tmp_path):
        sizes = {}
        for quantize, difference, changed in (
            ("none", 1e-5, 0),
            ("float16", 5e-3, 0),
            ("dynamic", 1.0, 2),
            ("int8", 1.0, 2),
        ):
            target = tmp_path / f"{quantize}.tflite"
            export = htf.export(mobilenet_run, target, quantize=quantize, quiet=True)
            verification = export.verifications["serving_default"]
            assert verification.slices == 200
            assert verification.largest_difference <= difference
            assert verification.changed <= changed
            assert abs(verification.roc_auc - verification.roc_auc_before) <= 0.005
            sizes[quantize] = export.size_bytes
        assert sizes["float16"] / sizes["none"] < 0.52
        assert sizes["dynamic"] / sizes["none"] < 0.31 and sizes["int8"] / sizes["none"] < 0.32
        assert sizes["int8"] < 3_000_000
        export = htf.export(mobilenet_run, tmp_path / "saved", quiet=True)
        assert export.verifications["serving_default"].largest_difference <= 1e-5
        assert export.verifications["serve_bytes"].largest_difference <= 1e-3


class TestPhantomNet:
    """Trained on phantoms alone: these slices took no part in its training."""

    def test_detects_hemorrhage_on_the_kaggle_set(self, slices):
        metrics = htf.evaluate(slices, tta=True, quiet=True).metrics
        assert metrics["roc_auc"]["estimate"] >= 0.98
        assert metrics["accuracy"]["estimate"] >= 0.96

    def test_its_features_suffice(self, fit):
        metrics = fit(backbone="phantomnet", folds=5, repeats=2).metrics
        assert metrics["accuracy"]["estimate"] >= 0.94

    def test_its_features_add_to_those_of_resnet152(self, fit, resnet152):
        metrics = fit(
            **{**resnet152, "backbone": "resnet152+phantomnet"}, folds=5, repeats=2
        ).metrics
        assert metrics["accuracy"]["estimate"] >= 0.96
        assert metrics["roc_auc"]["estimate"] >= 0.985


class TestSeries:
    @pytest.fixture
    def series(self, shared):
        folder = shared / "ct" / "ge_series"
        if not folder.is_dir():
            pytest.skip("no real series beside the project")
        return folder

    def test_is_one_scan_from_the_neck_to_the_vertex_without_gaps(self, series, tmp_path):
        # Names without a suffix, in another order than the slices.
        for path in series.glob("*.dcm"):
            shutil.copy(path, tmp_path / f"IM{int(path.stem) * 11 % 29:02d}")
        # Thin slices below and thick ones above: no slice is missing, and all look like a head.
        listing = list_slices(expand_paths([tmp_path]), QUIET)
        assert listing.problems == listing.input_warnings == ()
        [scan] = listing.scans
        assert scan.members == tuple(range(28))
        expected = [f"IM{number * 11 % 29:02d}" for number in range(1, 29)]
        assert [ref.path.name for ref in listing.slices] == expected

    def test_predict_combines_the_slices_of_the_scan(self, series, fit_once, tmp_path, capsys):
        prediction = htf.predict(series, model=fit_once(), cam=tmp_path / "cam")
        assert "may not be axial slices" not in words(capsys.readouterr().err)
        assert [Path(one.path).stem for one in prediction] == [
            f"{number:02d}" for number in range(1, 29)
        ]
        [scan] = prediction.scans
        assert (scan.scan, scan.slices) == (str(series), 28)
        highest = sorted(one.probability for one in prediction)[-3:]
        assert scan.mean_of_highest == pytest.approx(np.mean(highest), abs=1e-6)
        assert {read_slice(one.cam).shape for one in prediction} == {(512, 512, 3)}
