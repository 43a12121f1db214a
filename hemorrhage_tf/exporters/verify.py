"""Verification: an exported model beside the one that it was made from, on the same slices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.evaluation.intervals import delong_variance


@dataclass(frozen=True)
class Tolerance:
    """What an exported model may differ by.

    Attributes:
        probability: largest absolute difference of probability, or None for any.
        changed: share of the slices whose decision may change; of few slices, one.
        roc_auc: how far the area under the ROC curve may move, or None for any; of few slices, as
            far as a few pairs of them that change places.
    """

    probability: float | None
    changed: float = 0.0
    roc_auc: float | None = None


# On the real slices float32 differs by at most 4e-6; a backbone with random weights, whose features
# are ill-conditioned, by 2e-5.
TOLERANCES = {
    "saved_model": Tolerance(1e-4),
    "serve_bytes": Tolerance(1e-3),
    "none": Tolerance(1e-4),
    "float16": Tolerance(5e-3),
    "dynamic": Tolerance(None, changed=0.01),
    "int8": Tolerance(None, changed=0.01, roc_auc=0.005),
}


_PAIRS = 4  # of one slice with and one without hemorrhage; 0.01 of the area for 20 and 20


@dataclass(frozen=True)
class Verification:
    """How an exported model compares with the one that it was made from.

    Attributes:
        slices: how many both predicted.
        hemorrhage: how many of them are labeled so.
        largest_difference: largest absolute difference of probability.
        mean_difference: mean absolute difference of probability.
        changed: slices whose decision is another one.
        roc_auc: of the exported model, or None where the labels are of one class or unknown.
        roc_auc_before: of the model that it was made from.
    """

    slices: int
    hemorrhage: int
    largest_difference: float
    mean_difference: float
    changed: int
    roc_auc: float | None
    roc_auc_before: float | None

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON."""
        return asdict(self)


def compare(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, threshold: float
) -> Verification:
    """Compares two models' probabilities of the same slices.

    Args:
        before: `(n,)`, of the model that was exported.
        after: `(n,)`, of the exported one.
        labels: `(n,)`, 0 or 1.
        threshold: probabilities at or above it count as hemorrhage.
    """
    both = 0 < int(labels.sum()) < len(labels)
    difference = np.abs(after.astype(np.float64) - before)
    return Verification(
        slices=len(before),
        hemorrhage=int(labels.sum()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        changed=int(np.sum((after >= threshold) != (before >= threshold))),
        roc_auc=delong_variance(labels, after)[0] if both else None,
        roc_auc_before=delong_variance(labels, before)[0] if both else None,
    )


def check(verification: Verification, name: str, tolerance: Tolerance) -> None:
    """Raises a ModelError where an exported model differs by more than it may."""
    found = []
    if not math.isfinite(verification.largest_difference):
        found.append("a probability is not a number")
    elif tolerance.probability is not None and (
        verification.largest_difference > tolerance.probability
    ):
        found.append(
            f"a probability differs by {verification.largest_difference:.2g}, more than "
            f"{tolerance.probability:g}"
        )
    allowed = math.ceil(tolerance.changed * verification.slices)
    if verification.changed > allowed:
        found.append(f"{verification.changed} decisions change, more than {allowed}")
    if tolerance.roc_auc is not None and verification.roc_auc is not None:
        moved = abs(verification.roc_auc - verification.roc_auc_before)
        pairs = verification.hemorrhage * (verification.slices - verification.hemorrhage)
        bound = max(tolerance.roc_auc, _PAIRS / pairs)
        if moved > bound + 1e-9:
            found.append(f"the ROC AUC moves by {moved:.4f}, more than {bound:.4f}")
    if found:
        raise ModelError(
            f"the exported model ({name}) does not answer as the trained one does on "
            f"{verification.slices} slices: {'; '.join(found)}. Nothing was written. A milder "
            "--quantize differs less, and so does int8 calibrated on more slices "
            "(--calibration-slices)."
        )
