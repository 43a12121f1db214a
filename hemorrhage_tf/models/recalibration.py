"""A second calibration inside the weights of a trained model, on top of the one that it has.

Only the scale of the logits and their offset change, so the order of the probabilities stays.
"""

from __future__ import annotations

from typing import Any


def recalibrate_classifier(classifier: Any, temperature: float, offset: float) -> None:
    """Divide the logits of any hemorrhage by a temperature, and add an offset.

    Subtypes keep their own logits; each stays capped at the probability of any hemorrhage.

    Args:
        classifier: The `keras.Model` from `classifier.build_classifier`, or loaded from a file.
        temperature: Above 0.
        offset: Added to the divided logits.
    """
    _recalibrate(classifier.get_layer("logit"), temperature, offset)


def recalibrate_scan_model(
    model: Any, scans: tuple[float, float], slices: tuple[float, float]
) -> None:
    """Divide the logits of a scan model by temperatures, and add offsets.

    Args:
        model: From `scan_model.build_scan_model`, or loaded from a file.
        scans: Temperature and offset for the scan's probability.
        slices: Temperature and offset for the slices' probabilities.
    """
    _recalibrate(model.get_layer("scan_calibration"), *scans)
    _recalibrate(model.get_layer("slice_calibration"), *slices)


def _recalibrate(layer: Any, temperature: float, offset: float) -> None:
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel / temperature, bias / temperature + offset])
