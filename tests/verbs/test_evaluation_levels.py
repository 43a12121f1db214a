from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import recall_score, roc_auc_score

import hemorrhage_tf as htf
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import ModelMetadata

SCANS, LENGTH, SIDE = 6, 5, 16
# Slices with hemorrhage, which are brighter: none in the scans 1, 3 and 5.
POSITIVE = np.zeros((SCANS, LENGTH), int)
POSITIVE[0, 1:3] = POSITIVE[2, 4] = POSITIVE[4, 0] = 1
THRESHOLDS = {"threshold": 0.45, "slice_in_scan_threshold": 0.4, "scan_threshold": 0.55}


class BrightnessModel(Model):
    """A model whose probability is the mean brightness of a slice."""

    def __init__(self, **changes):
        required = {
            **dict.fromkeys(("weights_hash", "data_hash"), ""),
            **{"image_size": SIDE, "backbone": "tiny", "feature_layer": None, "pooling": "avg"},
            "versions": {},
        }
        super().__init__(Path("brightness"), ModelMetadata(**required | THRESHOLDS | changes))

    def _compute(self, images, features, cam):
        return {"probability": (images.mean(axis=(1, 2, 3)) / 255).astype(np.float32)}


class ScanModel(BrightnessModel):
    """A model that averages neighboring slices, and takes the highest mean for the scan."""

    has_scan_model = True

    def _compute(self, images, features, cam):
        outputs = super()._compute(images, features, cam)
        return {**outputs, "features": outputs["probability"][:, None]}

    def _compute_scan(self, features, geometry):
        in_scan = smooth(features[:, 0])
        return ScanOutput(float(in_scan.max()), in_scan)


def smooth(values):
    return np.convolve(np.pad(values, 1, mode="edge"), np.full(3, 1 / 3), "valid").astype(
        np.float32
    )


@pytest.fixture(scope="module")
def brightness():
    """The brightness of each slice `(SCANS, LENGTH)`, which is its probability."""
    rng = np.random.default_rng(5)
    return (rng.uniform(0.2, 0.5, (SCANS, LENGTH)) + 0.3 * POSITIVE).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, brightness):
    """Noise of that brightness, and a manifest: two scans of each patient, with subtypes."""
    folder, rng = tmp_path_factory.mktemp("levels"), np.random.default_rng(6)
    lines = ["path,label,patient,scan,position,subdural"]
    for scan in range(SCANS):
        for place in rng.permutation(LENGTH):  # the order comes from the positions
            pixels = rng.normal(255 * brightness[scan, place], 20, (SIDE, SIDE))
            pixels += 255 * brightness[scan, place] - np.clip(pixels, 0, 255).mean()
            name = f"{scan}-{place}.png"
            Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8)).save(folder / name)
            label = POSITIVE[scan, place]
            subdural = label if scan == 0 else 0
            lines.append(f"{name},{label},P{scan // 2},S{scan},{place * 5},{subdural}")
    (folder / "all.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def values(folder):
    """The exact brightness of each file."""
    return np.array(
        [
            [
                np.asarray(Image.open(folder / f"{scan}-{place}.png")).mean() / 255
                for place in range(LENGTH)
            ]
            for scan in range(SCANS)
        ]
    )


@pytest.fixture(scope="module")
def evaluated(folder):
    return htf.evaluate(
        folder / "all.csv", model=ScanModel(), against=BrightnessModel(), quiet=True
    )


class TestWithScanModel:
    def test_slices_alone_are_the_main_metrics(self, evaluated, values):
        metrics = evaluated.metrics
        assert (evaluated.level, metrics["level"], metrics["n"]) == ("slice", "slice", 30)
        expected = roc_auc_score(POSITIVE.ravel(), values.ravel())
        assert metrics["roc_auc"]["estimate"] == pytest.approx(expected)
        assert (metrics["intervals_of"], metrics["n_groups"]) == ("patients", 3)

    def test_slices_in_their_scans(self, evaluated, values):
        metrics = evaluated.in_scan_metrics
        in_scans = np.array([smooth(each) for each in values])
        expected = roc_auc_score(POSITIVE.ravel(), in_scans.ravel())
        assert metrics["roc_auc"]["estimate"] == pytest.approx(expected)
        decisions = in_scans.ravel() >= THRESHOLDS["slice_in_scan_threshold"]
        share = recall_score(POSITIVE.ravel(), decisions)
        assert metrics["sensitivity"]["estimate"] == pytest.approx(share)
        assert metrics["threshold"] == THRESHOLDS["slice_in_scan_threshold"]
        assert metrics["evaluated_on"] == "30 slices"

    def test_scans(self, evaluated, values):
        metrics = evaluated.scan_metrics
        scores, labels = [smooth(each).max() for each in values], POSITIVE.max(1)
        assert metrics["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(labels, scores))
        assert (metrics["n"], metrics["threshold"]) == (6, THRESHOLDS["scan_threshold"])
        assert (metrics["intervals_of"], metrics["n_groups"]) == ("patients", 3)
        by_name = {one.scan: one for one in evaluated.scans}
        for name, score in zip(sorted(by_name), scores, strict=True):
            assert by_name[name].probability == pytest.approx(score, abs=1e-3)
            assert by_name[name].is_hemorrhage == (score >= THRESHOLDS["scan_threshold"])
        assert evaluated.scan_labels.tolist() == labels.tolist()

    def test_false_alarms_and_subtypes(self, evaluated, values):
        details = evaluated.scan_details
        in_scans = np.array([smooth(each) for each in values])
        flagged = details["false_alarms"]["flagged_slices"]
        alone = (values[1::2] >= THRESHOLDS["threshold"]).sum(1).mean()
        assert flagged["slices"]["estimate"] == pytest.approx(alone)
        in_scan = (in_scans[1::2] >= THRESHOLDS["slice_in_scan_threshold"]).sum(1).mean()
        assert flagged["slices_in_scans"]["estimate"] == pytest.approx(in_scan)
        subtypes = details["by_subtype"]
        assert list(subtypes) == ["slices", "slices_in_scans", "scans"]
        assert (subtypes["slices"]["subdural"]["n"], subtypes["scans"]["subdural"]["n"]) == (2, 1)

    def test_the_probability_in_the_scan_decides_on_a_slice(self, evaluated, values):
        in_scans = np.array([smooth(each) for each in values])
        for one in evaluated.predictions:
            scan, place = map(int, one.path.removesuffix(".png").split("-"))
            assert one.scan == f"S{scan}"
            assert one.probability == pytest.approx(values[scan, place], abs=1e-3)
            assert one.probability_in_scan == pytest.approx(in_scans[scan, place], abs=1e-3)
            assert one.is_hemorrhage == (one.probability_in_scan >= 0.4)

    def test_compares_at_each_level_that_both_models_have(self, evaluated, values):
        assert evaluated.comparison["n"] == 30 and evaluated.in_scan_comparison is None
        assert evaluated.comparison["roc_auc"]["difference"]["estimate"] == 0
        labels = POSITIVE.max(1)
        areas = [
            roc_auc_score(labels, [smooth(each).max() for each in values]),
            roc_auc_score(labels, np.sort(values)[:, -3:].mean(1)),
        ]
        difference = evaluated.scan_comparison["roc_auc"]["difference"]["estimate"]
        assert difference == pytest.approx(areas[0] - areas[1])

    def test_the_summary_has_both_levels(self, evaluated):
        assert "n = 30" in evaluated.summary and "; by scan: accuracy" in evaluated.summary


class TestWithoutScanModel:
    def test_the_mean_of_the_three_highest_is_the_scans_probability(self, folder, values):
        evaluation = htf.evaluate(folder / "all.csv", model=BrightnessModel(), quiet=True)
        assert evaluation.in_scan_metrics is None and evaluation.metrics["n"] == 30
        expected = roc_auc_score(POSITIVE.max(1), np.sort(values)[:, -3:].mean(1))
        assert evaluation.scan_metrics["roc_auc"]["estimate"] == pytest.approx(expected)
        assert all(one.probability_in_scan is None for one in evaluation.predictions)
        assert list(evaluation.scan_details["by_subtype"]) == ["slices", "scans"]


class TestLabelsOfScans:
    def write(self, folder, own: set[int]) -> Path:
        """Write a manifest in which only some scans have labels of slices."""
        lines = ["path,label,patient,scan,position,scan_label"]
        for scan in range(SCANS):
            for place in range(LENGTH):
                label = POSITIVE[scan, place] if scan in own else ""
                row = f"{scan}-{place}.png,{label},P{scan // 2},S{scan},{place}"
                lines.append(f"{row},{POSITIVE[scan].max()}")
        path = folder / f"scans-{len(own)}.csv"
        path.write_text("\n".join(lines))
        return path

    def test_alone_leave_the_level_of_scans(self, folder):
        evaluation = htf.evaluate(self.write(folder, set()), model=ScanModel(), quiet=True)
        assert (evaluation.level, evaluation.metrics["n"]) == ("scan", 6)
        assert evaluation.in_scan_metrics is None
        assert evaluation.metrics["roc_auc"] == evaluation.scan_metrics["roc_auc"]
        assert evaluation.comparison is None and len(evaluation.predictions) == 30

    def test_mixed_with_those_of_slices_leave_out_unknown_slices(self, folder):
        evaluation = htf.evaluate(self.write(folder, {0, 1}), model=ScanModel(), quiet=True)
        # The slices of the scans 2 and 4 are unknown; 3 and 5 are normal.
        assert (evaluation.level, evaluation.metrics["n"]) == ("slice", 20)
        assert evaluation.metrics["n_positive"] == 2
        assert (evaluation.in_scan_metrics["n"], evaluation.scan_metrics["n"]) == (20, 6)
        assert evaluation.metrics["evaluated_on"] == "20 slices"


def test_reports_show_all_levels(folder, tmp_path):
    report = tmp_path / "report.html"
    htf.evaluate(folder / "all.csv", model=ScanModel(), report=report, quiet=True)
    html = report.read_text("utf-8")
    for part in ("Slices in their scans", "Sensitivity by subtype, scans", "6, 3 with hemorrhage"):
        assert part in html
