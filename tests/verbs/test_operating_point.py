"""The operating point of a fit: chosen out of fold, stored, and applied by the saved model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.models.metadata import read_metadata

QUICK = {"backbone": "tiny", "image_size": 32, "epochs": 2, "audit": False, "quiet": True}


def read_metrics(run):
    return json.loads((run / "metrics.json").read_text("utf-8"))


def read_predictions(run):
    with open(run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(fit_once):
    return fit_once(operating_point="sensitivity=0.9", prevalence=0.1)


class TestOperatingPoint:
    def test_is_chosen_out_of_fold_and_stored_in_the_model(self, run):
        metrics = read_metrics(run)
        point = metrics["operating_point"]
        assert point["criterion"] == "sensitivity=0.9"
        training = 24 - metrics["n"]
        assert point["chosen_on"]["n_positive"] + point["chosen_on"]["n_negative"] == training
        metadata = read_metadata(run / "model.keras")
        assert metadata.threshold == metrics["threshold"] == point["threshold"]
        assert metadata.operating_point == "sensitivity=0.9"
        assert metadata.temperature == metrics["temperature"]
        assert "sensitivity=0.9" in (run / "model_card.md").read_text("utf-8")

    def test_decides_the_written_predictions(self, run):
        threshold = read_metrics(run)["threshold"]
        for row in read_predictions(run):
            assert row["hemorrhage"] == str(int(float(row["probability"]) >= threshold))

    def test_saved_model_predicts_calibrated_probabilities(self, run, kaggle_once):
        assert read_metrics(run)["temperature"] != 1
        written = {row["path"]: float(row["probability"]) for row in read_predictions(run)}
        predictions = htf.load(run).predict([kaggle_once / name for name in written])
        probabilities = [one.probability for one in predictions]
        np.testing.assert_allclose(probabilities, list(written.values()), atol=1e-5)

    def test_without_calibration_the_temperature_is_one(self, fit_once):
        metrics = read_metrics(fit_once(calibration="none"))
        assert metrics["temperature"] == 1 and "best_shortcut" not in metrics

    def test_each_fold_is_decided_by_the_threshold_of_the_others(self, fit_once):
        run = fit_once(folds=3, operating_point="youden")
        metrics = read_metrics(run)
        assert metrics["operating_point"]["chosen_on"]["n_positive"] == 12
        predicted = sum(int(row["hemorrhage"]) for row in read_predictions(run))
        counts = metrics["confusion"]
        assert counts["true_positive"] + counts["false_positive"] == predicted

    def test_fine_tuning_needs_folds(self, kaggle_once, tmp_path):
        tuning = {"fine_tune_from": "block1_convolution", "fine_tune_epochs": 1}
        with pytest.raises(OptionError, match="--operating-point youden: .*--folds 5"):
            htf.fit(kaggle_once, out=tmp_path / "run", operating_point="youden", **tuning, **QUICK)

    @pytest.mark.parametrize("prevalence", [0, 1, -0.1, 2])
    def test_prevalence_is_checked_first(self, kaggle_once, tmp_path, prevalence):
        with pytest.raises(OptionError, match="--prevalence"):
            htf.fit(kaggle_once, out=tmp_path / "run", prevalence=prevalence, **QUICK)
        assert not (tmp_path / "run").exists()


def test_a_patient_on_both_sides_is_an_error_unless_allowed(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    lines = ["path,label,patient,split"]
    for index in range(24):
        Image.fromarray(draw_phantom(0, index, index % 2)).save(folder / f"{index}.png")
        split = "test" if index in (0, 2, 3, 4, 5) else "train"
        lines.append(f"{index}.png,{index % 2},p{index // 2},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"(?s)1\.png: .*same patient.*--allow-leak") as error:
        htf.fit(folder, out=tmp_path / "run", **QUICK)
    assert "p0" not in str(error.value)
    run = htf.fit(folder, out=tmp_path / "run", allow_leak=True, **QUICK)
    assert len(run.metrics["leaks"]) == 1
    assert "on both sides of the split" in (run.path / "model_card.md").read_text("utf-8")
