"""Plots of evaluations, trainings and scans, for notebooks and papers.

Each takes a `Run`, an `Evaluation` or plain arrays, and draws with matplotlib on new axes or on
given ones. Bands and intervals are those of the metrics.
"""

from hemorrhage_tf.evaluation.plots.curves import (
    plot_decision_curve,
    plot_precision_recall,
    plot_roc,
)
from hemorrhage_tf.evaluation.plots.distributions import (
    plot_calibration,
    plot_confusion,
    plot_score_histogram,
)
from hemorrhage_tf.evaluation.plots.forest import plot_forest, plot_subgroups
from hemorrhage_tf.evaluation.plots.history import plot_history
from hemorrhage_tf.evaluation.plots.images import plot_scan, plot_slices

__all__ = [
    "plot_calibration",
    "plot_confusion",
    "plot_decision_curve",
    "plot_forest",
    "plot_history",
    "plot_precision_recall",
    "plot_roc",
    "plot_scan",
    "plot_score_histogram",
    "plot_slices",
    "plot_subgroups",
]
