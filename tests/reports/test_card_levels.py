from __future__ import annotations

import pytest
from report_examples import draw_level_metrics

from hemorrhage_tf.reports.card_levels import card_levels, describe_counts
from hemorrhage_tf.reports.model_card import CardContent, model_card


@pytest.fixture(scope="module")
def metrics():
    return draw_level_metrics()


@pytest.fixture(scope="module")
def card(metrics):
    return model_card(CardContent("a model", metrics, "same set", "one split"))


def test_each_level_has_a_column(card, metrics):
    markdown, values = card
    assert "| metric | slices alone | slices in their scans | scans |" in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| ROC AUC |"))
    areas = [
        metrics["roc_auc"],
        *(metrics[name]["roc_auc"] for name in ("slices_in_scans", "scans")),
    ]
    assert [
        f"{area['estimate']:.3f}" in cell
        for area, cell in zip(areas, row.split("|")[2:-1], strict=True)
    ] == [True] * 3
    assert "| n (with hemorrhage) | 60 (30) | 300 (53) | 30 (12) |" in markdown
    assert [level["n"] for level in values["levels"]] == [60, 300, 30]


def test_false_alarms_sizes_and_subtypes(card):
    markdown, values = card
    assert "| Normal scans flagged | 0.0% (0.0% to 29.9%) |" in markdown
    assert "| 1 to 19 | 30 |" in markdown
    assert "| subdural | - | - | - |" in markdown
    assert values["scan_details"]["subtypes"][0][0] == "epidural"


def test_a_model_that_sees_scans_says_so(card, metrics):
    markdown, values = card
    assert "head CT slices and scans" in values["intended_use"]
    assert "sees one slice at a time" not in markdown
    assert "the pixels of the slices of one scan" in markdown
    without = {**metrics, "slices_in_scans": None}
    markdown, _ = model_card(CardContent("a model", without, "same set", "one split"))
    assert "sees one slice at a time" in markdown
    assert "| metric | slices alone | scans |" in markdown


def test_notes_of_all_levels_are_limits_once(card, metrics):
    _, values = card
    of_scans = [one for one in metrics["scans"]["notes"] if "15 patients only" in one]
    assert sum("scans are of 15 patients only" in text for text in values["limits"]) == 1
    assert len(of_scans) == 1
    assert any("takes at least 10" in text for text in values["limits"])


def test_counts(metrics):
    assert describe_counts(metrics) == "60 slices and 30 scans"
    scans = {**metrics["scans"], "level": "scan", "scans": metrics["scans"]}
    assert describe_counts(scans) == "30 scans"
    assert [level["name"] for level in card_levels(scans)] == ["scans"]
    slices = {key: metrics[key] for key in ("n",)}
    assert describe_counts(slices) == "60 slices" and card_levels(slices) == []
