from __future__ import annotations

from rich.console import Console

from hemorrhage_tf.cli.subtype_table import subtype_table

METRIC = {"estimate": 0.9, "low": 0.8, "high": 0.95, "n": 60}
VALUES = {"n": 60, "n_positive": 12, "pr_auc": METRIC, "specificity": METRIC}
METRICS = {
    "subtypes": {
        "epidural": {**VALUES, "roc_auc": METRIC, "sensitivity": METRIC, "notes": []},
        "subdural": {**VALUES, "roc_auc": None, "sensitivity": None, "notes": ["no slice"]},
    },
    "weighted_log_loss": METRIC,
}


def test_one_line_for_each_subtype_and_the_weighted_log_loss():
    console = Console(width=200, record=True, quiet=False)
    console.print(subtype_table(METRICS))
    lines = console.export_text().splitlines()
    [epidural] = [line for line in lines if "epidural" in line]
    assert "12 of 60" in epidural and "0.900 (0.800 to 0.950)" in epidural and "90.0%" in epidural
    [subdural] = [line for line in lines if "subdural" in line]
    assert "not available" in subdural and "no slice" in subdural
    assert any("Weighted log loss of RSNA 2019: 0.900" in line for line in lines)


def test_no_table_without_subtypes():
    assert subtype_table({}) is None
