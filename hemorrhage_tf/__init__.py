"""Find intracranial hemorrhage in head CT.

Research software, not a medical device. Public names are loaded on first use, so importing the
package does not import TensorFlow.
"""

from importlib import import_module
from typing import Any

from hemorrhage_tf.version import __version__

_HOMES = {
    "Audit": "hemorrhage_tf.auditing.audit_result",
    "Evaluation": "hemorrhage_tf.verbs.results",
    "Export": "hemorrhage_tf.exporters.export",
    "FitSettings": "hemorrhage_tf.training.settings",
    "HemorrhageError": "hemorrhage_tf.core.errors",
    "Manifest": "hemorrhage_tf.datasets.records",
    "Model": "hemorrhage_tf.inference.model",
    "Phantom": "hemorrhage_tf.synthesis.draw",
    "Prediction": "hemorrhage_tf.inference.predictions",
    "Recalibration": "hemorrhage_tf.verbs.results",
    "Record": "hemorrhage_tf.datasets.records",
    "Run": "hemorrhage_tf.verbs.results",
    "ScanPrediction": "hemorrhage_tf.inference.predictions",
    "SliceIndex": "hemorrhage_tf.datasets.slice_index",
    "SlicePrediction": "hemorrhage_tf.inference.predictions",
    "WINDOWS": "hemorrhage_tf.imaging.windows",
    "Window": "hemorrhage_tf.imaging.windows",
    "audit": "hemorrhage_tf.verbs.audit",
    "benchmark": "hemorrhage_tf.verbs.benchmark",
    "cache_clear": "hemorrhage_tf.verbs.cache",
    "cache_info": "hemorrhage_tf.verbs.cache",
    "cache_prune": "hemorrhage_tf.verbs.cache",
    "crop_head": "hemorrhage_tf.imaging.head_crop",
    "draw_phantom": "hemorrhage_tf.synthesis.draw",
    "draw_phantom_scan": "hemorrhage_tf.synthesis.draw_scan",
    "evaluate": "hemorrhage_tf.verbs.evaluate",
    "export": "hemorrhage_tf.verbs.export",
    "fit": "hemorrhage_tf.verbs.fit",
    "load": "hemorrhage_tf.inference.loading",
    "phantoms": "hemorrhage_tf.verbs.phantoms",
    "predict": "hemorrhage_tf.verbs.predict",
    "read_manifest": "hemorrhage_tf.datasets.manifest",
    "read_slice": "hemorrhage_tf.imaging.readers",
    "recalibrate": "hemorrhage_tf.verbs.recalibrate",
}

_MODULES = {"plots": "hemorrhage_tf.evaluation.plots"}

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
