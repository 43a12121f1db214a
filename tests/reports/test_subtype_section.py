from __future__ import annotations

from report_examples import METRIC, minimal_content

from hemorrhage_tf.reports.html_report import render
from hemorrhage_tf.reports.subtype_section import subtype_rows, subtype_section

KNOWN = {
    "n": 60,
    "n_positive": 12,
    "roc_auc": METRIC,
    "pr_auc": METRIC,
    "sensitivity": METRIC,
    "specificity": METRIC,
    "notes": [],
}
ABSENT = {**KNOWN, **dict.fromkeys(("roc_auc", "pr_auc", "sensitivity")), "notes": ["no <slice>"]}
METRICS = {"subtypes": {"epidural": KNOWN, "subdural": ABSENT}, "weighted_log_loss": METRIC}


def test_rows_hold_metrics_as_text_and_notes():
    known, absent = subtype_rows(METRICS)
    assert (known["name"], known["n_positive"], known["notes"]) == ("epidural", 12, "")
    assert known["sensitivity"].endswith("%)") and "%" not in known["roc_auc"]
    assert absent["roc_auc"] == "not available" and absent["notes"] == "no <slice>"


def test_without_subtypes_there_is_no_section():
    assert subtype_rows({}) == [] and subtype_section({}) is None
    assert 'id="subtypes"' not in render(minimal_content())


def test_the_report_has_a_section_with_the_weighted_log_loss():
    content = minimal_content()
    content.metrics.update(METRICS)
    html = render(content)
    assert 'id="subtypes"' in html and 'href="#subtypes"' in html
    assert "no &lt;slice&gt;" in html and "Weighted log loss of RSNA 2019" in html
    assert "12 of 60" in html
