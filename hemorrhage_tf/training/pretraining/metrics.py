"""Metrics of a pretrained model on phantoms, and its thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.training.pretraining.samples import Samples, to_rgb_float

_BATCH_SIZE = 100


def feature_computer(backbone: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes pooled features.

    Args:
        backbone: PhantomNet, a `keras.Model`.

    Returns:
        A function from uint8 gray model inputs `(n, height, width)` to float32
        `(n, 2 * channels)`, average and maximum pooled.
    """
    import tensorflow as tf

    from hemorrhage_tf.models.backbones import backbone_spec
    from hemorrhage_tf.models.classifier import build_feature_model
    from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL

    model = build_feature_model(backbone, backbone_spec(EMBEDDED_MODEL).normalization)
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)

    def compute(images: np.ndarray) -> np.ndarray:
        parts = np.split(images, range(_BATCH_SIZE, len(images), _BATCH_SIZE))
        return np.concatenate([forward(to_rgb_float(part)).numpy() for part in parts])

    return compute


def threshold_for(probabilities: np.ndarray, specificity: float) -> float:
    """Return the lowest threshold that reaches a specificity.

    Args:
        probabilities: `(n,)`, of slices or scans without a hemorrhage.
        specificity: The share of them that must lie below the threshold.

    Returns:
        The threshold; 1 if all must lie below it.
    """
    above = np.sort(probabilities)[math.ceil(specificity * len(probabilities)) :]
    return float(above[0]) if len(above) else 1.0


def slice_metrics(probabilities: np.ndarray, samples: Samples, threshold: float) -> dict[str, Any]:
    """Compute metrics of slices.

    Args:
        probabilities: `(n,)`, of each sample.
        samples: The samples.
        threshold: The threshold of slices.

    Returns:
        `n`, `roc_auc`, `accuracy`, `sensitivity` and `specificity`; and in `subtypes` for each
        subtype `n`, `sensitivity`, and `roc_auc` against the samples without a hemorrhage.
    """
    from sklearn.metrics import roc_auc_score

    labels = samples.labels.astype(bool)
    predicted = probabilities >= threshold
    subtypes = {}
    for bit, name in enumerate(SUBTYPES):
        with_subtype = (samples.blood >> bit & 1).astype(bool)
        compared = with_subtype | ~labels
        subtypes[name] = {
            "roc_auc": float(roc_auc_score(with_subtype[compared], probabilities[compared])),
            "sensitivity": float(predicted[with_subtype].mean()),
            "n": int(with_subtype.sum()),
        }
    return {
        "n": len(labels),
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "accuracy": float((predicted == labels).mean()),
        "sensitivity": float(predicted[labels].mean()),
        "specificity": float((~predicted[~labels]).mean()),
        "subtypes": subtypes,
    }


def pointing_hits(cams: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """Return for each slice whether the maximum of its map lies in the hemorrhage.

    Args:
        cams: float32 `(n, cells, cells)`, class activation maps.
        blood: bool `(n, size, size)`, masks; the size is a multiple of the cells.

    Returns:
        bool `(n,)`: whether the cell of the maximum contains a pixel of blood.

    Reference:
        J. Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016 (the pointing
        game).
    """
    count, cells = cams.shape[:2]
    part = blood.shape[1] // cells
    with_blood = blood.reshape(count, cells, part, cells, part).any(axis=(2, 4))
    peaks = cams.reshape(count, -1).argmax(axis=1)
    return with_blood.reshape(count, -1)[np.arange(count), peaks]


def pointing_accuracy(classifier: Any, samples: Samples) -> dict[str, dict[str, float]]:
    """Compute how often the maximum of the class activation map lies in the hemorrhage.

    Args:
        classifier: The whole model.
        samples: The samples; those without a hemorrhage are ignored.

    Returns:
        For "any" and each subtype: `hits`, a share, and `n`. See `pointing_hits`.
    """
    import tensorflow as tf

    from hemorrhage_tf.models.classifier import with_class_activation_map

    model = with_class_activation_map(classifier)
    forward = tf.function(lambda images: model(images, training=False)["cam"])
    positive = np.flatnonzero(samples.labels)
    hits = np.concatenate(
        [
            pointing_hits(
                forward(to_rgb_float(samples.images[part])).numpy(),
                np.unpackbits(samples.pointable[part], axis=-1).astype(bool),
            )
            for part in np.split(positive, range(_BATCH_SIZE, len(positive), _BATCH_SIZE))
        ]
    )
    shares = {"any": {"hits": float(hits.mean()), "n": len(hits)}}
    for bit, name in enumerate(SUBTYPES):
        with_subtype = (samples.blood[positive] >> bit & 1).astype(bool)
        shares[name] = {"hits": float(hits[with_subtype].mean()), "n": int(with_subtype.sum())}
    return shares


def flatten_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of slices, subtypes and pointing in one level, rounded.

    Args:
        metrics: `slice_metrics`, with `pointing_accuracy` under "pointing".
    """
    rows = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    rows["pointing_accuracy"] = metrics["pointing"]["any"]["hits"]
    for name in SUBTYPES:
        rows |= {f"{name}: {key}": value for key, value in metrics["subtypes"][name].items()}
        rows[f"{name}: pointing_accuracy"] = metrics["pointing"][name]["hits"]
    return {name: round(value, 4) for name, value in rows.items()}
