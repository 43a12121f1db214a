"""What the package must show on the real slices and weights; skips where they are not there."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.data.scan import scan
from hemorrhage_tf.reporting import Reporter

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def weights(shared):
    return str(shared / "weights" / "resnet152_conv4_imagenet.weights.h5")


def test_the_known_duplicates_are_found_and_few_groups_are_merged(shared):
    slices = scan(htf.read_manifest(shared / "head_ct"), Reporter(quiet=True))
    assert len(slices) == 200 and slices.labels.sum() == 100
    assert [pair for pair in slices.exact_pairs] == [(188, 189)]
    near = {(i, j) for i, j, _ in slices.near_pairs}
    assert {(198, 199), (11, 61), (107, 108), (5, 22), (5, 58), (10, 66), (105, 187)} <= near
    assert 180 <= len(np.unique(slices.groups)) <= 195


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
