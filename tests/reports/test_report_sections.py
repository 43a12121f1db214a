from __future__ import annotations

import numpy as np
import pytest
from report_examples import AUDIT, METRIC, draw_predictions, minimal_content

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.reports import report_sections as sections
from hemorrhage_tf.reports.level_section import five_numbers, summary_sentence
from hemorrhage_tf.reports.report_sections import audit_section, report_sections


class TestSummarySentence:
    def test_counts_detected_missed_and_false_alarms(self):
        labels = np.array([1] * 10 + [0] * 10)
        probabilities = np.array([0.9] * 8 + [0.1] * 2 + [0.9] + [0.1] * 9)
        assert summary_sentence(binary_metrics(labels, [probabilities])).startswith(
            "Of 10 slices with hemorrhage, the model detected 8 and missed 2; of 10 slices without "
            "hemorrhage, it predicted hemorrhage in 1. Accuracy at the threshold of 0.5: 85.0% "
            "(95% confidence interval "
        )

    def test_accepts_one_class_and_repeats(self):
        labels, repeats = np.ones(12, int), [np.full(12, 0.9), np.full(12, 0.1)]
        sentence = summary_sentence(binary_metrics(labels, repeats), "scans")
        assert sentence.startswith("Of 12 scans with hemorrhage")
        assert "detected 6 and missed 6 (means over 2 repeats). Accuracy" in sentence


def test_lists_slices_up_to_a_limit(monkeypatch):
    content = minimal_content(names=[f"slice-{index}" for index in range(60)])
    assert len(report_sections(content)["slice_rows"]) == 60
    monkeypatch.setattr(sections, "MAX_LISTED_SLICES", 10)
    assert report_sections(content)["slice_rows"] == []


def test_metrics_of_scans_are_described_as_such():
    values = report_sections(minimal_content(unit="scans"))
    assert values["resampled"] == "scans"
    assert values["metric_rows"][0]["meaning"] == "scans classified correctly"


def test_patients_are_named_as_what_was_resampled():
    labels, repeats = draw_predictions()
    patients = np.arange(60) // 4
    metrics = binary_metrics(labels, list(repeats), 0.5, groups=patients)
    content = minimal_content(metrics=metrics, groups=patients, unit="scans")
    assert report_sections(content)["resampled"] == "patients"


class TestAuditSection:
    def test_best_shortcut_is_the_one_with_the_highest_auc(self):
        better = {"name": "size", "model": "logistic", "roc_auc": {**METRIC, "estimate": 0.85}}
        audit = {**AUDIT, "shortcuts": [*AUDIT["shortcuts"], better]}
        assert audit_section(audit, None)["best"]["name"] == "size"

    def test_accepts_an_audit_of_an_earlier_version(self):
        values = audit_section({"conclusions": ["None."], "shortcuts": []}, METRIC)
        assert values["differences"] == [] and values["chart"] is None and values["best"] is None

    @pytest.mark.parametrize("area", [None, METRIC])
    def test_the_model_itself_is_the_first_row(self, area):
        description = audit_section(AUDIT, area)["chart"].description
        assert description.startswith("this model 0.800" if area else "border 0.800")


class TestFiveNumbers:
    def test_say_in_words_what_they_mean(self):
        labels = np.array([1] * 10 + [0] * 10)
        probabilities = np.array([0.9] * 8 + [0.1] * 2 + [0.9] + [0.1] * 9)
        rows = five_numbers(binary_metrics(labels, [probabilities]), "scans")
        assert [row["sentence"] for row in rows] == [
            "Of 100 scans with hemorrhage, 80 are found and 20 are missed.",
            "Of 100 scans without hemorrhage, 90 are predicted normal and 10 are false alarms.",
            "Of 100 scans predicted hemorrhage here, 89 have one.",
            "Of 100 scans predicted normal here, 82 are normal.",
            "In 85 of 100 pairs, the one with hemorrhage gets the higher probability.",
        ]

    def test_name_the_reason_for_a_missing_one(self):
        rows = five_numbers(binary_metrics(np.zeros(12, int), [np.zeros(12)]), "slices")
        assert rows[0]["sentence"] == "Not available: it needs both classes."
        assert rows[2]["sentence"] == "Not available: nothing is predicted hemorrhage."


def test_curves_of_a_comparison_show_both_models():
    labels, repeats = draw_predictions(repeats=2)
    against = {"slices": LabeledPredictions(labels, [repeats[1]])}
    values = report_sections(minimal_content(against=against, model_names=("a", "a")))
    text = values["curves"][0].description
    assert "a: area" in text and "a (second): area" in text
