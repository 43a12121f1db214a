"""Rows and sentences that the report and the model card share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hemorrhage_tf.models.backbone_options import describe_backbones
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.models.scan_score import TOP_SLICES
from hemorrhage_tf.pipeline.model_input import ModelInput

_SCANNERS = "Scanners, hospitals, windows and patients other than those of these slices."
_FURTHER = (
    "The type, age and size of a hemorrhage. Small hemorrhages may be missed.",
    "Use by people: how a radiologist would act on the probability.",
)
NOT_TESTED = (
    _SCANNERS,
    "Whole examinations as they are read in practice, with neighboring slices, prior studies and "
    "the clinical history.",
    *_FURTHER,
)
NOT_TESTED_WITH_SCANS = (
    _SCANNERS,
    "Whole examinations as they are read in practice, with prior studies and the clinical history.",
    *_FURTHER,
)

TRAINED_ON_PHANTOMS = (
    "Trained on synthetic phantoms only. Metrics on phantoms show how well the model classifies "
    "phantoms, and nothing about patients."
)


def not_tested(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the metrics do not show; scans were tested where there are metrics of them."""
    return NOT_TESTED if metrics.get("scans") is None else NOT_TESTED_WITH_SCANS


def model_rows(metadata: ModelMetadata) -> list[tuple[str, str]]:
    """Return name and value of each property of a model that a reader needs."""
    backbones = describe_backbones(metadata.backbone, metadata.feature_layer)
    rows = [
        ("backbone", " + ".join(backbones.values())),
        ("pooling", metadata.pooling),
        ("input", describe_model_input(metadata.model_input)),
        ("threshold", f"{metadata.threshold:.4g} ({metadata.operating_point})"),
    ]
    if metadata.scan_model is not None:
        rows.append(("scan model", metadata.scan_model))
    if metadata.slice_in_scan_threshold is not None:
        rows.append(
            ("threshold for a slice in its scan", f"{metadata.slice_in_scan_threshold:.4g}")
        )
    if metadata.scan_threshold is not None:
        rows.append(("scan threshold", _describe_scan_threshold(metadata)))
    recalibrated = []
    if metadata.recalibrated_on is not None:
        recalibrated.append(("recalibrated on", metadata.recalibrated_on))
    return [
        *rows,
        (
            "calibration",
            f"temperature {metadata.temperature:.3g}, offset {metadata.offset:.3g}; included in "
            "the weights",
        ),
        ("backbone weights", metadata.weights_hash),
        ("training data", metadata.data_hash),
        *recalibrated,
    ]


def _describe_scan_threshold(metadata: ModelMetadata) -> str:
    criterion = metadata.scan_operating_point
    reason = "" if criterion is None else f" ({criterion})"
    if metadata.scan_model is not None:
        return (
            f"{metadata.scan_threshold:.4g}{reason}, applied to the probability of the scan model"
        )
    return (
        f"{metadata.scan_threshold:.4g}{reason}, applied to the mean of the {TOP_SLICES} highest "
        "slice probabilities"
    )


def describe_model_input(model_input: ModelInput) -> str:
    """Describe in one phrase how a slice is converted to model input."""
    window = ", ".join(model_input.window) if model_input.window else "none (display images)"
    crop = "cropped to the head and padded to a square, " if model_input.crop_head else ""
    size = model_input.image_size
    return f"{crop}{size} x {size} pixels in [0, 255], window: {window}"
