"""What a terminal shows, to the character. Trailing blanks of a line do not count."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hemorrhage_tf.auditing.audit_result import Audit, Pair, Patients, Storage
from hemorrhage_tf.auditing.class_differences import Difference
from hemorrhage_tf.auditing.shortcuts import Shortcut
from hemorrhage_tf.cli import prediction_tables, tables
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.evaluation.intervals import Interval
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.verify import Verification
from hemorrhage_tf.inference.predictions import Prediction, ScanPrediction, SlicePrediction
from hemorrhage_tf.training.features.cache import FORMAT
from hemorrhage_tf.training.features.cache_limits import CacheEntry, CacheInfo, PruneResult
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.verbs.results import Run


def metric(estimate, low, high, n):
    return {"estimate": estimate, "low": low, "high": high, "n": n}


# All numbers differ, so that no two can change places unseen.
METRICS = {
    "n": 40,
    "accuracy": metric(0.9, 0.769, 0.96, 40),
    "sensitivity": metric(0.85, 0.64, 0.948, 20),
    "specificity": metric(0.95, 0.764, 0.991, 21),
    "ppv": metric(0.944, 0.742, 0.99, 18),
    "npv": metric(0.864, 0.667, 0.953, 22),
    "roc_auc": metric(0.975, 0.912, 0.993, 40),
    "pr_auc": metric(0.971, 0.901, 0.992, 40),
    "brier": metric(0.0712, 0.04, 0.11, 40),
    "calibration": {"slope": metric(1.1, 0.6, 2.1, 40), "intercept": metric(0.2, -0.3, 0.7, 40)},
    "confusion": {
        "true_positive": 17,
        "false_negative": 3,
        "false_positive": 1,
        "true_negative": 19,
    },
    "repeats": {"accuracy": [0.9]},
    "threshold": 0.5,
    "operating_point": {"criterion": "balanced"},
    "evaluated_on": "40 slices",
    "intervals_of": "slices",
    "notes": [],
}
MORE = METRICS | {
    "sensitivity": None,
    "roc_auc": None,
    "calibration": {"slope": None, "intercept": None},
    "at_prevalence": {
        "prevalence": 0.1,
        "ppv": metric(0.654, 0.2, 0.9, None),
        "npv": metric(0.983, 0.95, 0.99, None),
    },
    "best_shortcut": {"name": "gray levels", "roc_auc": metric(0.557, 0.476, 0.635, 200)},
    "repeats": {"accuracy": [0.9, 0.8]},
    "threshold": 0.31234,
    "operating_point": {"criterion": "sensitivity=0.95"},
    "intervals_of": "patients",
    "n_groups": 13,
    "notes": ["the probabilities separate the classes"],
    "leaks": ["a", "b"],
}
RUN = Run(
    Path("runs/first"),
    {
        "settings": FitSettings(backbone="tiny", folds=5, repeats=2).to_dict(),
        "head_solver": "lbfgs",
        "data": {"slices": 40, "hemorrhage": 20, "layout": "kaggle", "groups": 38},
        "model": {"crop_head": True, "image_size": 64, "window": None},
        "training_feature_precision": "float32",
        "replicas": 1,
        "seconds": 12.4,
    },
    METRICS,
)
COMPARISON = {
    name: {
        "first": {"estimate": first},
        "second": {"estimate": second},
        "difference": {"estimate": second - first, "low": low, "high": high},
        "p_value": p,
        "method": method,
    }
    for name, first, second, low, high, p, method in (
        ("accuracy", 0.9, 0.8, -0.2, 0.01, 0.125, "McNemar, exact"),
        ("sensitivity", 0.85, 0.95, -0.01, 0.2, None, "bootstrap"),
        ("roc_auc", 0.975, 0.899, -0.15, -0.01, 0.0004, "DeLong, paired"),
    )
} | {"specificity": None}
PREDICTION = Prediction(
    (
        SlicePrediction("series/1.dcm", 0.1234, False, scan="series"),
        SlicePrediction("series/[red]2.dcm", 0.9876, True, scan="series"),
        SlicePrediction("a.png", 0.5, True, warning="no skull"),
    ),
    (
        ScanPrediction(
            scan="series",
            probability=0.5555,
            threshold=0.7,
            is_hemorrhage=False,
            slices=2,
            flagged=1,
            highest=0.9876,
            mean_of_highest=0.5555,
            top_slices=("series/[red]2.dcm", "series/1.dcm"),
            top_positions=(2, 1),
        ),
    ),
)
SUBTYPES = {"epidural": 0.2, "subdural": 0.8}
IN_SCAN = Prediction(
    (
        SlicePrediction(
            "s/1.dcm", 0.9, False, scan="s", probability_in_scan=0.25, subtypes=SUBTYPES
        ),
        SlicePrediction(
            "s/2.dcm", 0.8, True, scan="s", probability_in_scan=0.75, subtypes=SUBTYPES
        ),
    ),
    (
        ScanPrediction(
            scan="s",
            probability=0.875,
            threshold=0.5,
            is_hemorrhage=True,
            slices=2,
            flagged=1,
            highest=0.9,
            mean_of_highest=0.85,
            top_slices=("s/2.dcm", "s/1.dcm"),
            top_positions=(2, 1),
        ),
    ),
)
PLAIN = Prediction((SlicePrediction("a.png", 0.5, True),), ())
EXPORT = Export(
    Path("first.tflite"),
    "tflite int8",
    1_420_000,
    {
        "serving_default": Verification(
            slices=40,
            hemorrhage=20,
            largest_difference=0.025,
            mean_difference=0.0024,
            changed=1,
            roc_auc=0.9876,
            roc_auc_before=0.9901,
        )
    },
)
MEASUREMENT = Measurement(
    path="runs/first",
    format="run folder",
    size_bytes=12_340_000,
    load_seconds=1.25,
    latency_ms_median=4.04,
    latency_ms_p95=5.05,
    throughput=321.4,
    peak_mib=456.7,
    largest_difference=0.012,
    mean_difference=0.0034,
    changed=2,
    slices=64,
)
AUDIT = Audit(
    root="head_ct",
    layout="kaggle",
    slices=40,
    hemorrhage=19,
    groups=38,
    problems=(Problem("bad.png", "the file is empty"),),
    pairs=(
        Pair("a.png", "b.png", "same pixels", 1.0, (128, 120), (128, 120), 0, 1, False),
        Pair("c.png", "d.png", "alike", 0.983, (128, 120), (64, 60), 1, 1, False),
    ),
    patients=Patients(
        count=20,
        unnamed=3,
        with_hemorrhage=8,
        without=7,
        with_both=5,
        across_split=0,
        median_slices=1.5,
        most_slices=4,
    ),
    storage=(Storage("PNG", "L", 8, 18, 21, ("a.png",)),),
    differences=(
        Difference("width", "128 (120 to 130)", "100 (90 to 110)", "AUC", 0.81, 0.0002, 0.0004),
        Difference("color", "0", "0.1", "AUC", 0.5, 0.8, 0.9),
    ),
    unvaried={},
    shortcuts=(
        Shortcut("gray levels", "random forest", 32, True, Interval(0.9, 0.85, 0.94, 40)),
        Shortcut("border", "random forest", 16, False, None, "one class only"),
    ),
    audited=40,
)
ENTRY = CacheEntry(
    about={
        "format": FORMAT,
        "backbone": "resnet152",
        "feature_layer": "conv4_block36_out",
        "image_size": 224,
        "policy": "float32",
        "dtype": "float32",
    },
    rows=12345,
    bytes=98_765_432,
    used=time.mktime((2026, 11, 29, 12, 30, 0, 0, 0, -1)),
    in_use=True,
    path=Path("cache/features/1"),
)
CACHE = CacheInfo(Path("cache"), 20_000_000_000, (ENTRY,), 1234)
EMPTY_CACHE = CacheInfo(Path("cache"), None, (), 0)
PRUNED = PruneResult((ENTRY,), 98_765_432, (ENTRY,))

CALLS = {
    "metrics": lambda: tables.print_metrics(METRICS, "runs/first on [head_ct]"),
    "more metrics": lambda: tables.print_metrics(MORE, "phantomnet"),
    "run": lambda: tables.print_run(RUN),
    "comparison": lambda: tables.print_comparison(COMPARISON, "runs/first", "phantomnet"),
    "prediction": lambda: prediction_tables.print_prediction(PREDICTION),
    "prediction of a scan model": lambda: prediction_tables.print_prediction(IN_SCAN),
    "plain prediction": lambda: prediction_tables.print_prediction(PLAIN),
    "export": lambda: tables.print_export(EXPORT),
    "benchmark": lambda: tables.print_benchmark([MEASUREMENT]),
    "audit": lambda: tables.print_audit(AUDIT),
    "cache": lambda: tables.print_cache(CACHE),
    "empty cache": lambda: tables.print_cache(EMPTY_CACHE),
    "pruned": lambda: tables.print_pruned(PRUNED),
}
# ruff: noqa: E501
EXPECTED = {
    "metrics": """
runs/first on [head_ct]

  metric                  estimate     95 % interval    n
 ─────────────────────────────────────────────────────────
  ROC AUC                    0.975    0.912 to 0.993   40
  sensitivity                85.0%    64.0% to 94.8%   20
  specificity                95.0%    76.4% to 99.1%   21
  accuracy                   90.0%    76.9% to 96.0%   40
  PPV                        94.4%    74.2% to 99.0%   18
  NPV                        86.4%    66.7% to 95.3%   22
  PR AUC                     0.971    0.901 to 0.992   40
  Brier score                0.071    0.040 to 0.110   40
  calibration slope          1.100    0.600 to 2.100   40
  calibration intercept      0.200   -0.300 to 0.700   40

Confusion matrix

               predicted hemorrhage   predicted normal
 ──────────────────────────────────────────────────────
  hemorrhage                     17                  3
  normal                          1                 19

Evaluated on 40 slices, at a threshold of 0.5 (balanced). Intervals: Wilson for proportions, DeLong on the logit scale for ROC AUC.
""",
    "more metrics": """
phantomnet

  metric                         estimate        95 % interval     n
 ────────────────────────────────────────────────────────────────────
  ROC AUC                               -   needs both classes    40
  ROC AUC of gray levels alone      0.557       0.476 to 0.635   200
  sensitivity                           -       no such slices     0
  specificity                       95.0%       76.4% to 99.1%    21
  accuracy                          90.0%       76.9% to 96.0%    40
  PPV                               94.4%       74.2% to 99.0%    18
  NPV                               86.4%       66.7% to 95.3%    22
  PPV at a prevalence of 0.1        65.4%       20.0% to 90.0%
  NPV at a prevalence of 0.1        98.3%       95.0% to 99.0%
  PR AUC                            0.971       0.901 to 0.992    40
  Brier score                       0.071       0.040 to 0.110    40

Confusion matrix

               predicted hemorrhage   predicted normal
 ──────────────────────────────────────────────────────
  hemorrhage                     17                  3
  normal                          1                 19

Evaluated on 40 slices, at a threshold of 0.3123 (sensitivity=0.95, chosen out of fold). Means over the repeats. Intervals: bootstrap over 13 patients.
The probabilities separate the classes.
Slices that share a patient or an exact duplicate with the other side of the split: 2 (--allow-leak). These metrics are optimistic.
""",
    "run": """
runs/first

  metric                  estimate     95 % interval    n
 ─────────────────────────────────────────────────────────
  ROC AUC                    0.975    0.912 to 0.993   40
  sensitivity                85.0%    64.0% to 94.8%   20
  specificity                95.0%    76.4% to 99.1%   21
  accuracy                   90.0%    76.9% to 96.0%   40
  PPV                        94.4%    74.2% to 99.0%   18
  NPV                        86.4%    66.7% to 95.3%   22
  PR AUC                     0.971    0.901 to 0.992   40
  Brier score                0.071    0.040 to 0.110   40
  calibration slope          1.100    0.600 to 2.100   40
  calibration intercept      0.200   -0.300 to 0.700   40

Confusion matrix

               predicted hemorrhage   predicted normal
 ──────────────────────────────────────────────────────
  hemorrhage                     17                  3
  normal                          1                 19

Evaluated on 40 slices, at a threshold of 0.5 (balanced). Intervals: Wilson for proportions, DeLong on the logit scale for ROC AUC.
Settings

  data           40 slices (20 with hemorrhage), kaggle, 38 groups
  split          5 folds x 2 repeats, stratified, grouped; the saved model is trained on all slices
  backbone       tiny, weights none, frozen
  input          head crop, 64 x 64
  pooling        avg_max
  augmentation   horizontal_flip, vertical_flip, contrast (4 views, cached)
  training       L-BFGS to convergence, l2 0.0156, class weights balanced
  devices        1 replica, training features in float32
  random seed    0
  time           12 s

Run folder: runs/first
""",
    "comparison": """
Comparison on the same slices

 metric        runs/first   phantomnet   difference      95 % interval         p
 ───────────────────────────────────────────────────────────────────────────────
 accuracy           0.900        0.800       -0.100   -0.200 to +0.010     0.125
 sensitivity        0.850        0.950       +0.100   -0.010 to +0.200         -
 ROC AUC            0.975        0.899       -0.076   -0.150 to -0.010   < 0.001

p: McNemar, exact (accuracy); bootstrap (sensitivity); DeLong, paired (ROC AUC).
""",
    "prediction": """
series: no hemorrhage
probability 0.555, threshold 0.700; 1 of 2 slices flagged
The scan is below its threshold, although slices are above theirs.
  neck ▁█ vertex

  slices to look at    place   probability
 ──────────────────────────────────────────
  series/[red]2.dcm   2 of 2         0.988
  series/1.dcm        1 of 2         0.123


  place   slice        probability   hemorrhage
 ───────────────────────────────────────────────
      1   1.dcm              0.123   no
      2   [red]2.dcm         0.988   yes


  slice   probability   hemorrhage   warning
 ─────────────────────────────────────────────
  a.png         0.500   yes          no skull
""",
    "prediction of a scan model": """
s: hemorrhage
probability 0.875, threshold 0.500; 1 of 2 slices flagged
  neck ▃▇ vertex

  slices to look at    place   probability
 ──────────────────────────────────────────
  s/2.dcm             2 of 2         0.750
  s/1.dcm             1 of 2         0.250


  place   slice   alone   in scan   hemorrhage   likeliest subtype
 ──────────────────────────────────────────────────────────────────
      1   1.dcm   0.900     0.250   no
      2   2.dcm   0.800     0.750   yes          subdural 0.800
""",
    "plain prediction": """

  slice   probability   hemorrhage
 ──────────────────────────────────
  a.png         0.500   yes
""",
    "export": """
first.tflite (tflite int8)

  verified          slices   largest difference   mean difference   changed decisions               ROC AUC
 ───────────────────────────────────────────────────────────────────────────────────────────────────────────
  serving_default       40              2.5e-02           2.4e-03                   1   0.9876 (was 0.9901)

Size: 1.42 MB
""",
    "benchmark": """

  model              form      MB   load s   median ms   95 % ms   slices/s   peak MiB   largest diff.   mean diff.   changed
 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
  runs/first   run folder   12.34     1.25         4.0       5.0        321        457         1.2e-02      3.4e-03   2 of 64
""",
    "audit": """
40 slices (19 with hemorrhage), kaggle, 38 groups
Files and rows that cannot be used

  path       reason
 ────────────────────────────────
  bad.png    the file is empty

Duplicates and near-duplicates

  first   second   relation      correlation                sizes               labels
 ──────────────────────────────────────────────────────────────────────────────────────
  a.png   b.png    same pixels         1.000            128 x 120   0, 1 contradicting
  c.png   d.png    alike               0.983   128 x 120, 64 x 60                 1, 1

File formats

  format   mode   bits   hemorrhage   normal
 ────────────────────────────────────────────
  PNG      L         8           18       21

Patients

  patients                       20
  with hemorrhage only            8
  without hemorrhage only         7
  with both                       5
  slices per patient, median    1.5
  slices per patient, maximum     4
  slices without a patient        3

Differences between the classes that are not anatomy

  property   hemorrhage         normal              effect   p (Holm)
 ─────────────────────────────────────────────────────────────────────
  width      128 (120 to 130)   100 (90 to 110)   AUC 0.81    < 0.001
  color      0                  0.1               AUC 0.50      0.900

Shortcut features: simple models without the brain

  features      model           ROC AUC   95 % interval    above chance
 ───────────────────────────────────────────────────────────────────────
  gray levels   random forest     0.900   0.850 to 0.940   yes
  border        random forest         -   one class only   -

1 file or row cannot be used.
2 pairs of near-duplicates: the same slice at another size, flipped or cropped, or neighbors in one scan. If a split separates such a pair, the metrics are optimistic.
1 duplicate pair has contradicting labels.
The classes differ in properties other than anatomy: width. Test a model for shortcut features.
The best shortcut is gray levels, AUC 0.90 (0.85 to 0.94): a model must clearly exceed it to show that it has learned more than shortcuts.
""",
    "cache": """
Cache: cache
98.8 MB of features (limit 20 GB), 1.23 KB of phantoms and other files
Features

  backbone    layer               image size   precision   stored as    views      size   last used
 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────
  resnet152   conv4_block36_out   224          float32     float32     12,345   98.8 MB   2026-11-29 12:30 (in use)
""",
    "empty cache": """
Cache: cache
0 B of features (no limit), 0 B of phantoms and other files
""",
    "pruned": """
Removed: 98.8 MB, 1 feature set
In use, not removed: resnet152, 98.8 MB
""",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_shown_as_expected(name, capsys):
    CALLS[name]()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "\n".join(lines).strip("\n") == EXPECTED[name].strip("\n")


def test_a_run_of_an_earlier_release_is_shown_like_a_new_one(capsys):
    old_model = {"canonical": True, "image_size": 64, "window": None}
    tables.print_run(Run(RUN.path, {**RUN.config, "model": old_model}, METRICS))
    old = capsys.readouterr().out
    tables.print_run(RUN)
    assert capsys.readouterr().out == old


def test_piped_output_is_never_cut(capsys):
    path = "folder/" * 60 + "slice.png"
    prediction_tables.print_prediction(Prediction((SlicePrediction(path, 0.5, True),), ()))
    assert path in capsys.readouterr().out
