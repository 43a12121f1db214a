"""What the package must show on the real slices and weights; skips where they are not there."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import expand_paths, list_slices
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.imaging.readers import read_slice

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def weights(shared):
    return str(shared / "weights" / "resnet152_conv4_imagenet.weights.h5")


def test_the_known_duplicates_are_found_and_few_groups_are_merged(shared):
    slices = build_slice_index(htf.read_manifest(shared / "head_ct"), Progress(quiet=True))
    assert len(slices) == 200 and slices.labels.sum() == 100
    assert [pair for pair in slices.exact_pairs] == [(188, 189)]
    near = {(i, j) for i, j, _ in slices.near_pairs}
    assert {(198, 199), (11, 61), (107, 108), (5, 22), (5, 58), (10, 66), (105, 187)} <= near
    # Of these one was cut out of the other.
    assert {(73, 95), (4, 57), (145, 148), (147, 150), (12, 30), (9, 65), (146, 149)} <= near
    assert 165 <= len(np.unique(slices.groups)) <= 180
    # By eye every pair is one picture or one scan, and so of one label.
    assert all(slices.labels[i] == slices.labels[j] for i, j in near)


def test_repeated_folds_on_resnet152_reach_the_figures(shared, weights, tmp_path):
    run = htf.fit(
        shared / "head_ct",
        weights=weights,
        feature_layer="conv4_block36_out",
        folds=5,
        repeats=5,
        out=tmp_path / "run",
        quiet=True,
    )
    assert run.metrics["accuracy"]["estimate"] >= 0.93
    assert run.metrics["roc_auc"]["estimate"] >= 0.98
    with open(run.path / "split.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for first, second in (("188", "189"), ("198", "199"), ("011", "061"), ("105", "187")):
        for repeat in range(1, 6):
            column = f"repeat_{repeat}"
            sides = {rows[f"head_ct/{name}.png"][column] for name in (first, second)}
            assert len(sides) == 1


def fit_mobilenet(shared, out):
    return htf.fit(
        shared / "head_ct",
        backbone="mobilenet_v2",
        weights=str(shared / "weights" / "mobilenetv2_imagenet.weights.h5"),
        folds=5,
        out=out,
        quiet=True,
    )


def test_mobilenet_v2_learns_the_real_slices_and_its_model_repeats_them(shared, tmp_path):
    run = fit_mobilenet(shared, tmp_path / "run")
    assert run.metrics["roc_auc"]["estimate"] > 0.9
    # The slices were trained on by now; that the model tells them apart says that it was saved.
    assert htf.evaluate(run, shared / "head_ct", quiet=True).metrics["accuracy"]["estimate"] > 0.95


def test_every_export_of_mobilenet_v2_answers_as_the_run(shared, tmp_path):
    run = fit_mobilenet(shared, tmp_path / "run")
    sizes = {}
    for quantize, difference, changed in (
        ("none", 1e-5, 0),
        ("float16", 5e-3, 0),
        ("dynamic", 1.0, 2),
        ("int8", 1.0, 2),
    ):
        target = tmp_path / f"{quantize}.tflite"
        export = htf.export(run, target, quantize=quantize, quiet=True)
        found = export.verifications["serving_default"]
        assert found.slices == 200
        assert found.largest_difference <= difference
        assert found.changed <= changed
        assert abs(found.roc_auc - found.roc_auc_before) <= 0.005
        sizes[quantize] = export.size_bytes
    assert sizes["float16"] / sizes["none"] < 0.52
    assert sizes["dynamic"] / sizes["none"] < 0.31 and sizes["int8"] / sizes["none"] < 0.32
    export = htf.export(run, tmp_path / "saved", quiet=True)
    assert export.verifications["serving_default"].largest_difference <= 1e-5
    assert export.verifications["serve_bytes"].largest_difference <= 1e-3
    assert sizes["int8"] < 3_000_000


def test_int8_of_resnet152_decides_as_the_run(shared, weights, tmp_path):
    layer = "conv4_block36_out"
    settings = {"weights": weights, "feature_layer": layer, "out": tmp_path / "run"}
    run = htf.fit(shared / "head_ct", quiet=True, **settings)
    target = tmp_path / "a.tflite"
    export = htf.export(run, target, quantize="int8", verify=shared / "head_ct", quiet=True)
    assert export.verifications["serving_default"].slices == 200
    assert export.verifications["serving_default"].changed <= 2
    assert export.size_bytes < 0.27 * (run.path / "model.keras").stat().st_size


def test_weights_of_the_cut_backbone_do_not_fit_another_cut(shared, weights, tmp_path):
    with pytest.raises(htf.HemorrhageError, match="does not fit resnet152, whole"):
        htf.fit(shared / "head_ct", weights=weights, out=tmp_path / "run", quiet=True)


@pytest.fixture
def ge_series(shared):
    folder = shared / "ct" / "ge_series"
    if not folder.is_dir():
        pytest.skip("no real series beside the project")
    return folder


def test_a_real_series_is_one_scan_from_the_neck_up_without_gaps(ge_series, tmp_path):
    # Named against their order, and without suffix.
    for path in ge_series.glob("*.dcm"):
        shutil.copy(path, tmp_path / f"IM{int(path.stem) * 11 % 29:02d}")
    # Thin slices below and thick ones above: no slice is missing, and none looks unlike a head.
    listing = list_slices(expand_paths([tmp_path]), Progress(quiet=True))
    assert listing.problems == listing.input_warnings == ()
    (found,) = listing.scans
    assert found.members == tuple(range(28))
    expected = [f"IM{number * 11 % 29:02d}" for number in range(1, 29)]
    assert [ref.path.name for ref in listing.slices] == expected


def test_predict_on_a_real_series_adds_up_the_scan(ge_series, kaggle_folder, tmp_path, capsys):
    run = htf.fit(
        kaggle_folder, out=tmp_path / "run", backbone="tiny", image_size=32, epochs=2, quiet=True
    )
    prediction = htf.predict(run, ge_series, cam=tmp_path / "cam")
    assert "may not be" not in capsys.readouterr().err
    assert [Path(finding.path).stem for finding in prediction] == [
        f"{number:02d}" for number in range(1, 29)
    ]
    (found,) = prediction.scans
    assert (found.scan, found.slices) == (str(ge_series), 28)
    highest = sorted(finding.probability for finding in prediction)[-3:]
    assert found.mean_of_highest == pytest.approx(np.mean(highest), abs=1e-6)
    sizes = {read_slice(finding.cam).shape for finding in prediction}
    assert sizes == {(512, 512, 3)}


class TestPhantomNet:
    """Trained on phantoms alone; what it shows on slices that took no part in that."""

    def test_finds_hemorrhage_on_the_kaggle_set(self, shared):
        found = htf.evaluate(shared / "head_ct", tta=True, quiet=True).metrics
        assert found["roc_auc"]["estimate"] >= 0.976
        assert found["accuracy"]["estimate"] >= 0.9

    def test_its_features_alone_and_beside_resnet152(self, shared, weights, tmp_path):
        folds = {"folds": 5, "repeats": 5, "quiet": True, "audit": False}
        alone = htf.fit(
            shared / "head_ct", backbone="phantomnet", out=tmp_path / "alone", **folds
        ).metrics
        assert alone["accuracy"]["estimate"] >= 0.94
        both = htf.fit(
            shared / "head_ct",
            backbone="resnet152+phantomnet",
            weights=weights,
            feature_layer="conv4_block36_out",
            out=tmp_path / "both",
            **folds,
        ).metrics
        assert both["accuracy"]["estimate"] >= 0.96
        assert both["roc_auc"]["estimate"] >= 0.985
