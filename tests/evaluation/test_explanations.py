import dataclasses
import json

import pytest
from report_examples import draw_level_metrics

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.evaluation.explanations import EXPLANATIONS, find_explanation

# What metrics.json says about its own metrics, in words, and where it only groups them.
TEXTS = {"notes", "note", "evaluated_on"}
GROUPS = {"scan_details", "false_alarms"}


def names_of(values):
    """The names of all metrics in metrics.json, without those of subtypes."""
    if isinstance(values, list):
        for each in values:
            yield from names_of(each)
    elif isinstance(values, dict):
        for name, each in values.items():
            if name in TEXTS:
                continue
            if name not in (*GROUPS, *SUBTYPES):
                yield name
            if name not in ("reliability", "best_shortcut"):
                yield from names_of(each)


def test_every_metric_of_a_run_is_explained(fit_once):
    metrics = json.loads((fit_once() / "metrics.json").read_text())
    for name in set(names_of(metrics)):
        find_explanation(name)


def test_every_metric_of_scans_is_explained():
    names = set(names_of(draw_level_metrics(prevalence=0.1)))
    assert {"slices_in_scans", "roc_auc", "scans_flagged", "by_size", "at_prevalence"} <= names
    for name in names:
        find_explanation(name)


def test_names_are_unique_and_texts_are_whole_sentences():
    names = [name for one in EXPLANATIONS for name in {one.key, *one.aliases}]
    assert len(names) == len(set(names))
    for one in EXPLANATIONS:
        for text in (one.meaning, one.formula, one.limits):
            assert text.endswith(".") and text[0] == text[0].strip()
        assert not one.source or one.source.endswith(".")
        assert dataclasses.replace(one) == one


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("roc_auc", "roc_auc"),
        ("ROC AUC", "roc_auc"),
        ("calibration-slope", "calibration_slope"),
        ("Recall", "sensitivity"),
        ("95 % interval", "interval"),
        ("specificity at 95% sensitivity", "at_sensitivity"),
    ],
)
def test_names_as_files_and_tables_have_them(name, key):
    assert find_explanation(name).key == key


def test_an_unknown_name_gets_similar_ones():
    with pytest.raises(OptionError, match="sensitivty: no metric.*mean sensitivity.*for the list"):
        find_explanation("sensitivty")
    with pytest.raises(OptionError, match="no metric of this name. Run hemorrhage-tf explain"):
        find_explanation("qqqq")
