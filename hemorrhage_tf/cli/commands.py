"""The commands: their order and what each does, in a line. Their own files hold the rest."""

from __future__ import annotations

# In the order of use. `--help` lists them from here, so that it imports none of them.
COMMANDS = {
    "fit": "Train a classifier and write a run folder.",
    "evaluate": "Compute the metrics of a model on labeled slices or scans.",
    "predict": "Predict slices and scans.",
    "recalibrate": "Fit the calibration and thresholds of a model to local data.",
    "export": "Export a model to TFLite or SavedModel, and verify it.",
    "audit": "Check labeled slices for errors, duplicates and shortcut features.",
    "phantoms": "Draw synthetic head-CT slices or studies with masks and a manifest.",
    "cache": "Show and prune the feature cache.",
    "benchmark": "Measure size, latency, throughput, memory and agreement of models.",
    "explain": "Explain a metric: its meaning, formula, source and limits.",
}
