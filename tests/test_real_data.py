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


def test_mobilenet_v2_learns_the_real_slices_and_its_model_repeats_them(shared, tmp_path):
    run = htf.fit(
        shared / "head_ct",
        backbone="mobilenet_v2",
        weights=str(shared / "weights" / "mobilenetv2_imagenet.weights.h5"),
        out=tmp_path / "run",
        quiet=True,
    )
    assert run.metrics["roc_auc"]["estimate"] > 0.85
    with open(run.path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    findings = htf.predict(run, [shared / "head_ct" / row["path"] for row in rows], quiet=True)
    assert [finding.probability for finding in findings] == pytest.approx(
        [float(row["probability"]) for row in rows], abs=1e-4
    )


def test_weights_of_the_cut_backbone_do_not_fit_another_cut(shared, weights, tmp_path):
    with pytest.raises(htf.HemorrhageError, match="does not fit resnet152, whole"):
        htf.fit(shared / "head_ct", weights=weights, out=tmp_path / "run", quiet=True)
