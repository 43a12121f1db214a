"""`fit --target all`, from the data to predictions and exports."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_files import add_table

import hemorrhage_tf as htf
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.datasets.subtype_columns import subtype_labels
from hemorrhage_tf.evaluation.subtype_metrics import weighted_log_loss
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.verbs.fit_request import FitRequest

BLANK = (4, 7)  # rows without subtypes


def cells_of(index: int) -> list[int | str]:
    """Return the subtypes of a slice; none is intraventricular."""
    if index in BLANK:
        return [""] * 5
    is_bleeding = index % 2
    kinds = (index % 4 == 1, index % 4 == 3, False, index % 3 == 0, index % 5 < 3)
    return [int(is_bleeding and kind) for kind in kinds]


@pytest.fixture(scope="session")
def subtypes_once(once, kaggle_once) -> Path:
    """The Kaggle-style folder of 24 slices with subtypes, two rows of which are blank."""

    def create(folder: Path) -> None:
        shutil.copytree(kaggle_once, folder)
        rows = [[index, index % 2, *cells_of(index)] for index in range(24)]
        add_table(folder / "labels.csv", [["id", "hemorrhage", *SUBTYPES], *rows])

    return once("subtypes", create)


@pytest.fixture(scope="session")
def run(fit_once, subtypes_once) -> Path:
    return fit_once(subtypes_once, folds=2, target="all")


def predictions(run: Path) -> list[dict[str, str]]:
    with open(run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


class TestRun:
    def test_any_hemorrhage_is_that_of_a_single_fit(self, fit_once, run, subtypes_once):
        six, one = predictions(run), predictions(fit_once(subtypes_once, folds=2))
        np.testing.assert_allclose(
            column(six, "probability"), column(one, "probability"), atol=1e-4
        )
        assert [row["hemorrhage"] for row in six] == [row["hemorrhage"] for row in one]
        assert "probability_epidural" not in one[0]

    def test_no_subtype_is_above_any_hemorrhage(self, run):
        rows = predictions(run)
        highest = np.max([column(rows, f"probability_{name}") for name in SUBTYPES], axis=0)
        assert (highest <= column(rows, "probability") + 1e-7).all()

    def test_metrics_of_each_subtype(self, run, subtypes_once):
        from sklearn.metrics import roc_auc_score

        metrics = json.loads((run / "metrics.json").read_text())
        by_path = {row["path"]: row for row in predictions(run)}
        manifest = read_manifest(subtypes_once, target="all")
        rows = [by_path[manifest.name_at(index)] for index in range(24)]
        labels = subtype_labels(manifest)
        known = labels[:, 0] >= 0
        for place, name in enumerate(SUBTYPES):
            of_subtype = metrics["subtypes"][name]
            present = labels[known, place]
            assert of_subtype["n"] == 22 and of_subtype["n_positive"] == present.sum()
            assert of_subtype["notes"] and "threshold" in of_subtype  # so few slices
            if name == "intraventricular":
                assert of_subtype["roc_auc"] is None
                assert "no slice shows it" in of_subtype["notes"][0]
                continue
            scores = column(rows, f"probability_{name}")[known]
            expected = roc_auc_score(present, scores)
            assert of_subtype["roc_auc"]["estimate"] == pytest.approx(expected)
            assert set(of_subtype["sensitivity"]) == {"estimate", "low", "high", "n"}
        names = ["probability", *(f"probability_{name}" for name in SUBTYPES)]
        probabilities = np.stack([column(rows, name) for name in names], axis=1)
        targets = np.concatenate([manifest.labels[:, np.newaxis], labels], axis=1)
        expected = weighted_log_loss(targets[known], probabilities[known]).mean()
        assert metrics["weighted_log_loss"]["estimate"] == pytest.approx(expected, rel=1e-5)

    def test_the_model_names_its_subtypes_and_the_card_lists_them(self, run):
        metadata = htf.load(run).metadata
        assert metadata.subtypes == SUBTYPES and len(metadata.subtype_thresholds) == 5
        card = (run / "model_card.md").read_text()
        assert "## Subtypes" in card and "| intraventricular | 0 of 22 | not available |" in card
        assert "Type, location, size" not in card

    @pytest.mark.slow
    def test_a_stopped_fit_resumes_to_the_same_tables(
        self, run, subtypes_once, quick, stop_after, tmp_path
    ):
        out = tmp_path / "run"
        stop_after(2, subtypes_once, out=out, target="all", folds=2, **quick)
        htf.fit(resume=out, quiet=True)
        for name in ("predictions.csv", "metrics.json"):
            assert (out / name).read_bytes() == (run / name).read_bytes()

    def test_other_subtypes_are_another_fit(self, subtypes_once):
        slices = build_slice_index(read_manifest(subtypes_once), Progress(quiet=True))
        labels = subtype_labels(slices.manifest)
        changed = labels.copy()
        changed[1, 0] = 1 - changed[1, 0]
        request, settings = FitRequest(target="all"), FitSettings(backbone="tiny")
        one, other = (request.identity(slices, settings, each) for each in (labels, changed))
        assert {key for key in one if one[key] != other[key]} == {"subtypes of the slices"}


class TestUse:
    def test_evaluate_has_the_metrics_at_the_thresholds_of_the_model(self, run, subtypes_once):
        evaluation = htf.evaluate(subtypes_once, model=run, quiet=True)
        subtypes = evaluation.metrics["subtypes"]
        assert subtypes["epidural"]["n"] == 22
        thresholds = [subtypes[name]["threshold"] for name in SUBTYPES]
        assert thresholds == list(htf.load(run).metadata.subtype_thresholds)
        assert list(evaluation.predictions[0].subtypes) == list(SUBTYPES)

    def test_without_columns_any_hemorrhage_alone_is_evaluated(self, run, kaggle_once):
        assert "subtypes" not in htf.evaluate(kaggle_once, model=run, quiet=True).metrics

    def test_evaluate_says_that_one_subtype_is_compared_with_any_hemorrhage(
        self, run, subtypes_once, capsys
    ):
        evaluation = htf.evaluate(subtypes_once, model=run, target="epidural", skip_invalid=True)
        (warning,) = (one for one in evaluation.metrics["warnings"] if "epidural" in one)
        assert warning.startswith("the labels are those of epidural, and the metrics those of the")
        assert warning.endswith("Pass --target all for the model's probability of epidural")
        printed = capsys.readouterr().err
        assert warning in " ".join(printed.split()) and "has no subtypes" not in printed

    def test_predictions_carry_subtypes(self, run, kaggle_once):
        images = sorted(kaggle_once.rglob("*.png"))[:4]
        for tta in (False, True):
            [*slices] = htf.predict(images, model=run, tta=tta, quiet=True)
            for one in slices:
                values = one.to_dict()["subtypes"]
                assert max(values.values()) <= round(one.probability, 6)
                assert values[one.likeliest_subtype] == max(values.values())
                assert one.to_row()["probability_subdural"] == values["subdural"]

    @pytest.mark.slow
    def test_exports_repeat_the_subtypes(self, run, kaggle_once, tmp_path):
        export = htf.export(run, tmp_path / "model.tflite", quiet=True)
        for name in SUBTYPES:
            verification = export.verifications[f"serving_default, {name}"]
            assert verification.largest_difference < 1e-4 and verification.changed == 0
        images = sorted(kaggle_once.rglob("*.png"))[:3]
        expected = htf.predict(images, model=run, quiet=True)
        for one, other in zip(
            htf.predict(images, model=export.path, quiet=True), expected, strict=True
        ):
            assert one.subtypes == pytest.approx(other.subtypes, abs=1e-5)
