"""Robustness: how far predictions move when a slice changes but its meaning does not.

Each perturbation is one fixed change; the random views of training are in `pipeline.augmentation`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.areas import weighted_areas
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions

NOISE = 0.05  # of the range
JPEG_QUALITY = 50
DEGREES = 5.0
CONTRASTS = (0.8, 1.2)

# For Hounsfield units the range is that of the brain window: center 40 HU, width 80 HU. Noise of
# 5 % is then 4 HU, as in a usual head CT; 5 % of the whole range of a CT would be 200 HU.
_CENTER_HU, _RANGE_HU = 40.0, 80.0
_RANGE_PIXELS = 255.0

_Perturbation = Callable[[np.ndarray, np.random.Generator], np.ndarray | None]


def robustness(
    predict: Callable[[list[np.ndarray]], np.ndarray],
    slices: Sequence[np.ndarray],
    labels: np.ndarray,
    threshold: float,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Predict slices again after each of several changes, and compare.

    Args:
        predict: Maps slices to probabilities, `(n,)` in [0, 1]; called once for each change.
        slices: uint8 display pixels, `(height, width)` or `(height, width, 3)` in [0, 255], or
            float32 Hounsfield units, `(height, width)`.
        labels: `(n,)`, 0 or 1.
        threshold: Probabilities at or above it are predicted hemorrhage.
        seed: Random seed of the noise. Defaults to 0.

    Returns:
        A row for each change, plain values for JSON: `name`; `n`, number of slices it applies to;
        `roc_auc` and `roc_auc_change`, None where a class is missing; `changed_decisions`, of which
        `to_hemorrhage` and `to_normal`; `mean_change` and `largest_change`, absolute changes of the
        probability. All but `name` and `n` are None where n is 0; `note` is then the reason.

    Raises:
        DataError: No slices, different lengths, or a slice of another type or shape.
    """
    for index, pixels in enumerate(slices):
        _check(pixels, index)
    before = check_predictions(labels, predict(list(slices)))[1]
    labels = np.asarray(labels)
    rows = []
    for name, perturb in PERTURBATIONS.items():
        # Seeded by slice, so that the noise of a slice does not depend on the other slices.
        changed = [
            perturb(pixels, np.random.default_rng([seed, index]))
            for index, pixels in enumerate(slices)
        ]
        used = np.array([one is not None for one in changed], bool)
        if not used.any():
            note = "JPEG stores 8 bits per sample, and these are Hounsfield units"
            rows.append(_empty_row(name, note))
            continue
        perturbed = [one for one in changed if one is not None]
        after = check_predictions(labels[used], predict(perturbed))[1]
        rows.append(_row(name, labels[used], before[used], after, threshold))
    return rows


def flip_horizontally(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Swap left and right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def flip_vertically(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Swap top and bottom."""
    return np.ascontiguousarray(pixels[::-1])


def change_contrast(factor: float) -> _Perturbation:
    """Return a change of contrast: around the mean of display pixels, or around 40 HU.

    Args:
        factor: Below 1 for less contrast.
    """

    def perturb(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        values = pixels.astype(np.float64)
        center = values.mean() if pixels.dtype == np.uint8 else _CENTER_HU
        return _like(pixels, center + factor * (values - center))

    return perturb


def add_noise(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, the same to all channels: 5 % of 255, or of the 80 HU of the window."""
    span = _RANGE_PIXELS if pixels.dtype == np.uint8 else _RANGE_HU
    noise = rng.normal(0.0, NOISE * span, pixels.shape[:2])
    return _like(pixels, pixels + (noise if pixels.ndim == 2 else noise[..., None]))


def recompress(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Compress display pixels as a JPEG of quality 50; return None for Hounsfield units."""
    if pixels.dtype != np.uint8:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    with Image.open(file) as image:
        return np.asarray(image)


def resize_and_back(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Halve width and height, and double them again: fine detail is lost."""
    image = Image.fromarray(pixels)
    half = image.resize(
        (max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BILINEAR
    )
    return np.asarray(half.resize(image.size, Image.Resampling.BILINEAR))


def rotate(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate by 5 degrees counterclockwise; the darkest value fills the corners."""
    image = Image.fromarray(pixels)
    darkest = pixels.min()
    fill: Any = (
        (int(darkest),) * 3
        if pixels.ndim == 3
        else (int(darkest) if pixels.dtype == np.uint8 else float(darkest))
    )
    return np.asarray(image.rotate(DEGREES, Image.Resampling.BILINEAR, fillcolor=fill))


PERTURBATIONS: dict[str, _Perturbation] = {
    "horizontal flip": flip_horizontally,
    "vertical flip": flip_vertically,
    **{f"contrast {factor:g}": change_contrast(factor) for factor in CONTRASTS},
    "noise, 5 % of the range": add_noise,
    "JPEG of quality 50": recompress,
    "half the size and back": resize_and_back,
    "rotation by 5 degrees": rotate,
}


def _check(pixels: np.ndarray, index: int) -> None:
    shape = pixels.shape
    plain = len(shape) == 2 and pixels.dtype in (np.uint8, np.float32)
    colored = len(shape) == 3 and shape[2] == 3 and pixels.dtype == np.uint8
    if not (plain or colored) or not pixels.size:
        raise DataError(
            f"slice {index} is {pixels.dtype} {shape}: a slice must be uint8 display pixels, "
            "(height, width) or (height, width, 3), or float32 Hounsfield units, (height, width). "
            "Convert it first."
        )


def _like(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return values.round().clip(0, 255).astype(np.uint8)
    return values.astype(np.float32)


def _empty_row(name: str, note: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "n": 0,
        "roc_auc": None,
        "roc_auc_change": None,
        "changed_decisions": None,
        "to_hemorrhage": None,
        "to_normal": None,
        "mean_change": None,
        "largest_change": None,
        "note": note,
    }


def _row(
    name: str, labels: np.ndarray, before: np.ndarray, after: np.ndarray, threshold: float
) -> dict[str, Any]:
    now, previously = after >= threshold, before >= threshold
    moved = np.abs(after - before)
    area, reference = _area(labels, after), _area(labels, before)
    return {
        **_empty_row(name),
        "n": len(labels),
        "roc_auc": area,
        "roc_auc_change": None if area is None or reference is None else area - reference,
        "changed_decisions": int(np.sum(now != previously)),
        "to_hemorrhage": int(np.sum(now & ~previously)),
        "to_normal": int(np.sum(~now & previously)),
        "mean_change": float(moved.mean()),
        "largest_change": float(moved.max()),
    }


def _area(labels: np.ndarray, scores: np.ndarray) -> float | None:
    area = float(weighted_areas(labels, scores)(np.ones((1, len(labels))))[0, 0])
    return area if math.isfinite(area) else None
