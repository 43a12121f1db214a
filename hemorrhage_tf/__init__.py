"""hemorrhage_tf finds intracranial hemorrhage in head-CT slices.

Research software, not a medical device. The public names are loaded when they are first used, so
that importing the package imports no TensorFlow.
"""

from importlib import import_module
from typing import Any

from hemorrhage_tf.version import __version__

_HOMES = {
    "Audit": "hemorrhage_tf.evaluation.audit",
    "Evaluation": "hemorrhage_tf.api",
    "Export": "hemorrhage_tf.exporters.export",
    "FitSettings": "hemorrhage_tf.training.settings",
    "Finding": "hemorrhage_tf.inference",
    "HemorrhageError": "hemorrhage_tf.errors",
    "Manifest": "hemorrhage_tf.data.manifest",
    "Model": "hemorrhage_tf.inference",
    "Phantom": "hemorrhage_tf.data.phantoms",
    "Prediction": "hemorrhage_tf.inference",
    "Record": "hemorrhage_tf.data.manifest",
    "Run": "hemorrhage_tf.api",
    "ScanFinding": "hemorrhage_tf.inference",
    "Window": "hemorrhage_tf.data.windows",
    "WINDOWS": "hemorrhage_tf.data.windows",
    "audit": "hemorrhage_tf.api",
    "benchmark": "hemorrhage_tf.api",
    "cache_clear": "hemorrhage_tf.api",
    "cache_info": "hemorrhage_tf.api",
    "cache_prune": "hemorrhage_tf.api",
    "canonical": "hemorrhage_tf.data.canonical",
    "draw_phantom": "hemorrhage_tf.data.phantoms",
    "draw_phantom_scan": "hemorrhage_tf.data.phantoms",
    "evaluate": "hemorrhage_tf.api",
    "export": "hemorrhage_tf.api",
    "fit": "hemorrhage_tf.api",
    "load": "hemorrhage_tf.inference",
    "phantoms": "hemorrhage_tf.api",
    "predict": "hemorrhage_tf.api",
    "read_manifest": "hemorrhage_tf.data.manifest",
    "read_slice": "hemorrhage_tf.data.readers",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
