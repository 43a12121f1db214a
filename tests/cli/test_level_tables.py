from __future__ import annotations

import io

import pytest
from report_examples import draw_level_metrics
from rich.console import Console

from hemorrhage_tf.cli.level_tables import detail_tables, has_levels, level_tables
from hemorrhage_tf.cli.tables import print_metrics


@pytest.fixture(scope="module")
def metrics():
    return draw_level_metrics(prevalence=0.1)


def show(tables) -> list[str]:
    file = io.StringIO()
    console = Console(width=200, file=file)
    for table in tables:
        console.print(table)
    return file.getvalue().splitlines()


def test_one_short_table_for_each_level(metrics):
    lines = show(level_tables(metrics))
    titles = [line.strip() for line in lines if "threshold" in line]
    assert titles == [
        "Slices alone: 60, 30 with hemorrhage; threshold 0.5",
        "Slices in their scans: 300, 53 with hemorrhage; threshold 0.5",
        "Scans: 30, 12 with hemorrhage; threshold 0.6",
    ]
    areas = [line.split()[2] for line in lines if "ROC AUC" in line]
    assert areas == [
        f"{each['roc_auc']['estimate']:.3f}"
        for each in (metrics, metrics["slices_in_scans"], metrics["scans"])
    ]
    assert sum("at a prevalence of 0.1" in line for line in lines) == 2


def test_all_tables_fit_into_80_columns(metrics):
    sizes = [
        {"least": 20, "most": 44, "n": 12, "sensitivity": None, "specificity": None},
        {
            "least": 180,
            "most": None,
            "n": 1888,
            **dict.fromkeys(
                ("sensitivity", "specificity"), {"estimate": 1, "low": 1, "high": 1, "n": 1200}
            ),
        },
    ]
    details = {**metrics["scan_details"], "by_size": sizes}
    lines = show([*level_tables(metrics), *detail_tables(details)])
    assert max(map(len, lines)) <= 80
    assert any("100% (100 to 100, 1200)" in line for line in lines)


def test_subtypes_that_do_not_occur_are_left_out(metrics):
    text = "\n".join(show(detail_tables(metrics["scan_details"])))
    assert "epidural" in text and "subdural" not in text
    assert "flagged slices per scan, slice in scan" in text
    assert list(detail_tables(None)) == []


def test_notes_are_printed_once_and_each_level_says_what_it_was_evaluated_on(metrics, capsys):
    print_metrics(metrics, "a model on data")
    out = capsys.readouterr().out
    assert out.startswith("a model on data")
    assert out.count(": evaluated on") == 3 and "Scans: evaluated on 30 slices" in out
    assert "Confusion matrix" not in out
    assert out.count("The scans are of 15 patients only") == 1
    assert "it takes at least 10." in out


def test_scans_alone_keep_the_long_table(metrics, capsys):
    scans = {**metrics["scans"], "level": "scan", "slices_in_scans": None}
    scans |= {"scans": metrics["scans"], "scan_details": metrics["scan_details"]}
    assert not has_levels(scans) and has_levels(metrics)
    print_metrics(scans, "a model on data")
    out = capsys.readouterr().out
    assert "Confusion matrix" in out and "False alarms in 18 normal scans" in out
