"""The scan model: a small sequence model over the standardized features of a scan's slices.

Its first layers repeat the slice head and project the features on a few directions; both are set
from the training slices. What it learns is small enough for a few dozen patients: how much the
neighbors of a slice count, a correction of each slice's logit, and how the slices of a scan are
combined. It has only Keras layers and operations, so it loads in safe mode and converts to TFLite.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.scan_core import DIRECTIONS, build_scan_core

SCAN_MODELS = ("pooling", "attention", "gru")

# The signature of an exported scan model, beside that of slices.
SCAN_SIGNATURE = "serve_scan"
# The same in a `.tflite` file for runtimes without dynamic shapes: scans are padded to this length.
PADDED_SCAN_SIGNATURE = "serve_padded_scan"
PADDED_SCAN_SLICES = 512

_SPACING_UNIT = 10.0  # mm


def check_scan_model(kind: str) -> str:
    """Return the kind of a scan model unchanged, if it is known.

    Raises:
        OptionError: It is not one of `SCAN_MODELS`.
    """
    if kind not in SCAN_MODELS:
        raise OptionError(
            f"--scan-model {kind}: unknown. Pass one of auto, none, {', '.join(SCAN_MODELS)}."
        )
    return kind


def scan_geometry(positions: np.ndarray) -> np.ndarray:
    """Compute what a scan model knows of the places of a scan's slices.

    Where positions are unknown, the slices count as equally spaced, and their spacing as unknown.

    Args:
        positions: float64 `(n,)`, in mm, growing from neck to vertex; NaN where unknown.

    Returns:
        float32 `(n, 3)`: the relative position in [0, 1], 0 for the lowest slice, and 0.5 for a
        single one; the mean distance to the neighbors in cm, 0 if unknown; and 1 if it is known,
        else 0.
    """
    positions = np.asarray(positions, np.float64)
    count = len(positions)
    geometry = np.zeros((count, 3), np.float32)
    if count < 2:
        geometry[:, 0] = 0.5
        return geometry
    extent = positions.max() - positions.min()  # NaN if any position is unknown
    if not extent > 0:
        geometry[:, 0] = _equally_spaced(count)
    else:
        geometry[:, 0] = (positions - positions.min()) / extent
        gaps = np.abs(np.diff(positions))
        gaps = np.concatenate([gaps[:1], gaps, gaps[-1:]])
        geometry[:, 1] = (gaps[:-1] + gaps[1:]) / 2 / _SPACING_UNIT
        geometry[:, 2] = 1
    return geometry


@functools.lru_cache(256)
def _equally_spaced(count: int) -> np.ndarray:
    return np.linspace(0, 1, count)


def build_scan_model(kind: str, width: int) -> Any:
    """Build a scan model.

    Slice head and projection are zero until `set_scan_inputs` is called, and the calibration is
    neutral until `set_scan_calibration` is called.

    Args:
        kind: "pooling", "attention" or "gru".
        width: Number of pooled features of a slice.

    Returns:
        A `keras.Model` from a dictionary of `features`, float32 `(batch, n, width)`, standardized;
        `geometry`, float32 `(batch, n, 3)`, see `scan_geometry`; and `mask`, float32 `(batch, n)`,
        1 for a slice and 0 for padding; to a dictionary of `probability`, float32 `(batch, 1)`, of
        hemorrhage in the scan, and `slice_probability`, float32 `(batch, n)`. Any number n of
        slices; values at padding are arbitrary.

    Raises:
        OptionError: An unknown kind.

    Reference:
        M. Ilse et al., Attention-based deep multiple instance learning, ICML 2018.
    """
    import keras

    layers = keras.layers
    core = build_scan_core(check_scan_model(kind))
    features = keras.Input((None, width), name="features")
    geometry = keras.Input((None, 3), name="geometry")
    mask = keras.Input((None,), name="mask")
    logit = layers.Dense(1, kernel_initializer="zeros", name="slice_head")(features)
    directions = layers.Dense(DIRECTIONS, kernel_initializer="zeros", name="projection")(features)
    outputs = core({"logit": logit, "directions": directions, "geometry": geometry, "mask": mask})
    scan = _calibration("scan_calibration")(outputs["scan_logit"])
    slices = _calibration("slice_calibration")(outputs["slice_logits"])
    probabilities = {
        "probability": layers.Activation("sigmoid", name="probability")(scan),
        "slice_probability": layers.Activation("sigmoid", name="slice_probability")(
            keras.ops.squeeze(slices, -1)
        ),
    }
    inputs = {"features": features, "geometry": geometry, "mask": mask}
    return keras.Model(inputs, probabilities, name="scan_model")


def set_scan_inputs(model: Any, kernel: np.ndarray, bias: np.ndarray, axes: np.ndarray) -> None:
    """Set the layers of a scan model that are not trained: slice head and projection.

    Args:
        model: From `build_scan_model`.
        kernel: `(width, 1)`, of the slice head.
        bias: `(1,)`, of the slice head.
        axes: `(width, DIRECTIONS)`, which standardized features are multiplied by.
    """
    model.get_layer("slice_head").set_weights([kernel, bias])
    model.get_layer("projection").set_weights([axes, np.zeros(axes.shape[1], np.float32)])


def set_scan_calibration(
    model: Any, scans: tuple[float, float], slices: tuple[float, float]
) -> None:
    """Calibrate a scan model inside its weights: logit / temperature + offset.

    Args:
        model: From `build_scan_model`.
        scans: Temperature and offset of the scan's probability.
        slices: Temperature and offset of the slices' probabilities.
    """
    for name, (temperature, offset) in (("scan", scans), ("slice", slices)):
        weights = [np.array([[1 / temperature]], np.float32), np.array([offset], np.float32)]
        model.get_layer(f"{name}_calibration").set_weights(weights)


def _calibration(name: str) -> Any:
    import keras

    return keras.layers.Dense(1, kernel_initializer="ones", name=name)
