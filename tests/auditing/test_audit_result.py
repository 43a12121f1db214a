from __future__ import annotations

import dataclasses
import json

import pytest

from hemorrhage_tf.auditing.audit_result import (
    Audit,
    Pair,
    Patients,
    best_shortcut_metric,
    summarize_audit,
)
from hemorrhage_tf.auditing.class_differences import Difference
from hemorrhage_tf.auditing.shortcuts import Shortcut
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.evaluation.intervals import Interval

HIGH, CHANCE = Interval(0.8, 0.7, 0.9, 60), Interval(0.5, 0.4, 0.6, 60)
SIZE = Shortcut("size, mode and format", "random forest", 6, False, CHANCE)
BORDER = Shortcut("border", "random forest", 18, False, HIGH)
LEVELS = Shortcut("gray levels", "random forest", 10, True, Interval(0.85, 0.75, 0.92, 60))
PAIR = Pair("a.png", "b.png", "near-duplicate", 0.99, (64, 64), (64, 64), 0, 1, True)
AUDIT = Audit(
    root="set",
    layout="csv",
    slices=60,
    hemorrhage=30,
    groups=60,
    problems=(),
    pairs=(),
    patients=Patients(0, 60, 0, 0, 0, 0, None, 0),
    storage=(),
    differences=(),
    unvaried={},
    shortcuts=(SIZE,),
    audited=60,
)


def change(**changes):
    return dataclasses.replace(AUDIT, **changes)


def patients(**changes):
    return change(patients=dataclasses.replace(AUDIT.patients, count=3, **changes))


@pytest.mark.parametrize(
    ("audit", "sentence"),
    [
        (AUDIT, "The manifest names no patients: slices of one patient may be on both sides of"),
        (AUDIT, "Size, mode and format alone do not predict the label: AUC 0.50 (0.40 to 0.60)."),
        (change(shortcuts=(BORDER,)), "The border alone predicts the label: AUC 0.80 (0.70 to"),
        (change(shortcuts=(SIZE, LEVELS)), "The best shortcut is gray levels, AUC 0.85 (0.75 to"),
        (
            change(shortcuts=(dataclasses.replace(SIZE, roc_auc=None, reason="too few slices"),)),
            "There is no shortcut baseline: too few slices.",
        ),
        (change(problems=(Problem("a", "empty"),)), "1 file or row cannot be used."),
        (change(problems=(Problem("a", "empty"),) * 3), "3 files or rows cannot be used."),
        (change(pairs=(PAIR,)), "1 pair of near-duplicates: the same slice at another size"),
        (change(pairs=(PAIR,)), "1 duplicate pair has contradicting labels."),
        (change(pairs=(PAIR,) * 2), "2 duplicate pairs are separated by the split column: metrics"),
        (
            change(pairs=(dataclasses.replace(PAIR, relation="exact duplicate"),)),
            "1 pair of exact duplicates.",
        ),
        (patients(across_split=1), "1 patient is on both sides of the split column: metrics on"),
        (patients(most_slices=4), "No patient has slices of both labels: a model can predict"),
        (change(hemorrhage=60), "All slices have the same label, so there is nothing to compare."),
        (change(slices=0), "No slice could be read, so there is nothing to compare."),
        (
            change(differences=(Difference("width", "9", "8", "AUC", 0.9, 0.001, 0.01),)),
            "The classes differ in properties other than anatomy: width. Test a model for",
        ),
        (change(notes=("Only a part.",)), "Only a part."),
    ],
)
def test_conclusions(audit, sentence):
    assert any(each.startswith(sentence) for each in audit.conclusions)


def test_only_shortcuts_beyond_anatomy_leak():
    assert not change(shortcuts=(SIZE, LEVELS)).leaks
    assert change(shortcuts=(SIZE, BORDER)).leaks


def test_the_best_shortcut_has_the_largest_area():
    missing = dataclasses.replace(SIZE, roc_auc=None)
    audit = change(shortcuts=(missing, BORDER, LEVELS, SIZE))
    assert audit.best_shortcut == LEVELS
    assert best_shortcut_metric(audit) == {
        "name": "gray levels",
        "roc_auc": audit.to_dict()["shortcuts"][2]["roc_auc"],
    }


@pytest.mark.parametrize("audit", [None, change(shortcuts=())])
def test_no_shortcut_has_no_metric(audit):
    assert best_shortcut_metric(audit) is None


def test_the_summary_has_at_most_four_lines():
    differences = tuple(Difference(f"p{i}", "", "", "AUC", 0.9, 0.001, 0.01) for i in range(6))
    audit = change(
        problems=(Problem("a", "empty"),),
        pairs=(PAIR,),
        differences=differences,
        shortcuts=(SIZE, BORDER, LEVELS),
    )
    assert summarize_audit(audit) == [
        "1 file or row unusable.",
        "0 pairs of exact duplicates, 1 pair of near-duplicates; 1 with contradicting labels.",
        "The classes differ in properties other than anatomy: p0, p1, p2, p3, p4 and 1 more.",
        "Shortcuts: size, mode and format alone AUC 0.50 (0.40 to 0.60); border alone AUC 0.80 "
        "(0.70 to 0.90); the best is gray levels, AUC 0.85 (0.75 to 0.92).",
    ]
    assert summarize_audit(change(shortcuts=())) == []


def test_plain_values_survive_json():
    audit = change(pairs=(PAIR,), problems=(Problem("a", "empty"),), shortcuts=(SIZE, BORDER))
    plain = audit.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["normal"], plain["best_shortcut"], plain["leaks"]) == (30, "border", True)
    assert plain["pairs"][0]["contradicting"]
