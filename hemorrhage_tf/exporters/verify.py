"""Verification: an exported model compared with the trained one on the same slices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.evaluation.areas import delong_variance


@dataclass(frozen=True)
class Tolerance:
    """The accepted difference between an exported model and the trained one.

    Attributes:
        probability: Largest absolute difference of probability, or None for any.
        changed: Share of the slices whose decision may change, rounded up to a whole slice.
            Defaults to 0.
        roc_auc: Largest change of the area under the ROC curve, or None for any; for few slices at
            least the effect of a few pairs that change their order. Defaults to None.
    """

    probability: float | None
    changed: float = 0.0
    roc_auc: float | None = None


# Well above the differences that float32 rounding causes, see docs/decisions.md.
TOLERANCES = {
    "saved_model": Tolerance(1e-4),
    "serve_bytes": Tolerance(1e-3),
    "none": Tolerance(1e-4),
    "float16": Tolerance(5e-3),
    "dynamic": Tolerance(None, changed=0.01),
    "int8": Tolerance(None, changed=0.01, roc_auc=0.005),
    "full-int8": Tolerance(None, changed=0.03, roc_auc=0.01),
}

# Pairs of a slice with and one without hemorrhage that may change their order in any case.
_PAIRS = 4


@dataclass(frozen=True)
class Verification:
    """Comparison of an exported model with the trained one.

    Attributes:
        slices: Number of slices, or of scans.
        hemorrhage: Number of those with the label hemorrhage.
        largest_difference: Largest absolute difference of probability.
        mean_difference: Mean absolute difference of probability.
        changed: Number of slices whose decision changes.
        roc_auc: Of the exported model, or None if all labels are the same.
        roc_auc_before: Of the trained model, or None if all labels are the same.
    """

    slices: int
    hemorrhage: int
    largest_difference: float
    mean_difference: float
    changed: int
    roc_auc: float | None
    roc_auc_before: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def compare(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, threshold: float
) -> Verification:
    """Compare the probabilities of two models for the same slices.

    Args:
        before: `(n,)` in [0, 1], of the trained model.
        after: `(n,)` in [0, 1], of the exported model.
        labels: `(n,)`, 0 or 1.
        threshold: A slice with at least this probability counts as hemorrhage.
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
    """Check that an exported model differs from the trained one by no more than a tolerance.

    Args:
        verification: The comparison.
        name: The form of the exported model, for the message.
        tolerance: The accepted difference.

    Raises:
        ModelError: It differs more; the message lists how.
    """
    failures = []
    if not math.isfinite(verification.largest_difference):
        failures.append("a probability is not a number")
    elif tolerance.probability is not None and (
        verification.largest_difference > tolerance.probability
    ):
        failures.append(
            f"a probability differs by {verification.largest_difference:.2g}, more than "
            f"{tolerance.probability:g}"
        )
    allowed = math.ceil(tolerance.changed * verification.slices)
    if verification.changed > allowed:
        failures.append(f"{verification.changed} decisions change, more than {allowed}")
    before, after = verification.roc_auc_before, verification.roc_auc
    if tolerance.roc_auc is not None and before is not None and after is not None:
        change = abs(after - before)
        pairs = verification.hemorrhage * (verification.slices - verification.hemorrhage)
        bound = max(tolerance.roc_auc, _PAIRS / pairs)
        if change > bound + 1e-9:
            failures.append(f"the ROC AUC changes by {change:.4f}, more than {bound:.4f}")
    if failures:
        raise ModelError(
            f"the exported model ({name}) differs too much from the trained one on "
            f"{verification.slices} slices: {'; '.join(failures)}. Nothing was written. Pass a "
            "milder --quantize, or calibrate int8 on more slices (--calibration-slices)."
        )
