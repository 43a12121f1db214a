from __future__ import annotations

import re
import subprocess
import sys

import pytest
from report_examples import draw_level_metrics
from words import words

from hemorrhage_tf.cli.level_tables import detail_tables, level_tables
from hemorrhage_tf.evaluation.explanations import EXPLANATIONS, find_explanation


def test_lists_all_metrics(run):
    result = run("explain")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [one.key for one in EXPLANATIONS]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("key", [one.key for one in EXPLANATIONS])
def test_explains_a_metric_in_80_columns(run, key):
    result = run("explain", key)
    assert result.exit_code == 0
    one = find_explanation(key)
    text = words(result.stdout)
    for part in (one.title, one.meaning, one.formula, one.source, one.limits):
        assert words(part) in text
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_takes_the_words_of_a_name(run):
    assert run("explain", "calibration", "slope").stdout == run("explain", "slope").stdout
    result = run("explain", "rocauc")
    assert result.exit_code == 2
    assert "Did you mean roc_auc" in result.stderr


def test_every_row_of_the_tables_is_explained():
    metrics = draw_level_metrics(prevalence=0.1)
    tables = [*level_tables(metrics), *detail_tables(metrics["scan_details"])]
    labels = [str(label) for table in tables[:4] for label in table.columns[0].cells]
    assert len(labels) > 20
    for label in labels:
        name = re.sub(r" at a prevalence of .*", " at a prevalence", label.split(",")[0])
        find_explanation(name)


def test_imports_nothing_heavy():
    code = (
        "import sys; from hemorrhage_tf.cli.main import main\n"
        "try: main(['explain', 'roc_auc'])\n"
        "except SystemExit as end: assert end.code in (0, None)\n"
        "assert not {'rich', 'scipy', 'tensorflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
