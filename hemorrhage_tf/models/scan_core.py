"""The trainable part of a scan model: it sees a logit and a few directions of each slice."""

from __future__ import annotations

from typing import Any

import numpy as np

DIRECTIONS = 8  # of the projection of the features
UNITS = 8  # of the hidden layers

# Reach of the averages over neighbors, as a share of the scan: so thin slices are averaged over
# more neighbors than thick ones. In a scan of 30 slices the first is about 0.25, 0.5, 0.25.
REACHES = (0.03, 0.06, 0.12)

# At the start a slice's logit is this mixture of itself and its averages, which in a scan of 30
# slices is close to the fixed weights 0.2, 0.6, 0.2.
_FIRST_MIXTURE = (0.4, 0.6, 0.0, 0.0)

_USUAL_COUNT = float(np.log(30.0))  # of slices in a scan, so that the adjustment is small
_MASKED = -1e9  # added where there is padding before a softmax


def build_scan_core(kind: str, seed: int = 0) -> Any:
    """Build the trainable part of a scan model.

    The logit of a slice is averaged with its neighbors and corrected by a small network, whose
    correction is zero at the start. The logit of the scan is an average of these logits in which
    the highest count most, adjusted for the number of slices.

    Args:
        kind: "pooling", "attention" or "gru"; see `scan_model.build_scan_model`.
        seed: Random seed of the initial weights. Defaults to 0.

    Returns:
        A `keras.Model` from a dictionary of `logit` `(batch, n, 1)`, `directions`
        `(batch, n, DIRECTIONS)`, `geometry` `(batch, n, 3)` and `mask` `(batch, n)` to a dictionary
        of `scan_logit` `(batch, 1)` and `slice_logits` `(batch, n, 1)`, all float32.
    """
    import keras

    ops, layers = keras.ops, keras.layers
    logit = keras.Input((None, 1), name="logit")
    projected = keras.Input((None, DIRECTIONS), name="directions")
    geometry = keras.Input((None, 3), name="geometry")
    mask = keras.Input((None,), name="mask")
    padding = (1.0 - mask) * _MASKED

    place = geometry[:, :, :1]
    neighbors = _neighbor_weights(place, padding)
    logits = ops.concatenate([logit, *(ops.matmul(each, logit) for each in neighbors)], axis=-1)
    averaged = layers.Dense(1, use_bias=False, name="mixture")(logits)
    curve = ops.concatenate([place, ops.square(place)], axis=-1)
    hidden = None
    if kind != "pooling":
        around = ops.matmul(neighbors[0], projected)
        context = ops.concatenate([logits / 4.0, curve, geometry[:, :, 1:], projected, around], -1)
        hidden = _hidden(kind, context, mask, seed)
    correction = layers.Dense(1, kernel_initializer="zeros", name="correction")(
        curve if hidden is None else hidden
    )
    slice_logits = layers.Add(name="slice_logits")([averaged, correction])

    scores = ops.squeeze(slice_logits, -1)
    count = ops.log(ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0))
    if kind == "attention":
        pooled = _attention_pool(slice_logits, hidden, padding, seed)
    else:
        pooled = [_softmax_pool(scores, sharpness, padding) for sharpness in (1.0, 4.0)]
    summary = ops.concatenate([*pooled, count - _USUAL_COUNT], axis=-1)
    scan_logit = layers.Dense(1, name="scan_logit")(summary)
    inputs = {"logit": logit, "directions": projected, "geometry": geometry, "mask": mask}
    outputs = {"scan_logit": scan_logit, "slice_logits": slice_logits}
    core = keras.Model(inputs, outputs, name="scan_core")
    core.get_layer("mixture").set_weights([np.array(_FIRST_MIXTURE, np.float32)[:, np.newaxis]])
    first = np.zeros((summary.shape[-1], 1), np.float32)
    first[0] = 1.0
    core.get_layer("scan_logit").set_weights([first, np.zeros(1, np.float32)])
    return core


def _neighbor_weights(place: Any, padding: Any) -> list[Any]:
    """Weigh the neighbors of each slice by their distance, `(batch, n, n)` for each reach."""
    from keras import ops

    squares = ops.square(place - ops.transpose(place, (0, 2, 1)))
    added = ops.expand_dims(padding, 1)
    return [ops.softmax(squares * (-0.5 / reach**2) + added, axis=-1) for reach in REACHES]


def _hidden(kind: str, context: Any, mask: Any, seed: int) -> Any:
    """Compute the hidden features of each slice: alone, or with all others in both directions."""
    import keras

    kernel = keras.initializers.GlorotUniform(seed)
    if kind == "attention":
        return keras.layers.Dense(UNITS, "tanh", kernel_initializer=kernel, name="hidden")(context)
    recurrent = keras.layers.GRU(
        UNITS,
        kernel_initializer=kernel,
        recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 1),
        return_sequences=True,
        name="gru",
    )
    return keras.layers.Bidirectional(recurrent, name="both_ways")(context, mask=mask > 0.5)


def _softmax_pool(scores: Any, sharpness: float, padding: Any) -> Any:
    """Average scores `(batch, n)` so that the highest count most, to `(batch, 1)`."""
    from keras import ops

    weights = ops.softmax(scores * sharpness + padding, axis=-1)
    return ops.sum(weights * scores, axis=-1, keepdims=True)


def _attention_pool(slice_logits: Any, hidden: Any, padding: Any, seed: int) -> list[Any]:
    """Average slice logits and hidden features by gated attention, `(batch, 1 + UNITS)` in all."""
    import keras

    ops, layers = keras.ops, keras.layers
    gates = [
        layers.Dense(
            UNITS,
            activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed + number),
            name=f"attention_{activation}",
        )(hidden)
        for number, activation in enumerate(("tanh", "sigmoid"), start=2)
    ]
    learned = layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="attention")(
        gates[0] * gates[1]
    )
    scores = ops.squeeze(slice_logits + learned, -1)
    weights = ops.expand_dims(ops.softmax(scores + padding, axis=-1), -1)
    return [ops.sum(weights * each, axis=1) for each in (slice_logits, hidden)]
