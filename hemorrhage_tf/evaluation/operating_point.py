"""The operating point: the probability from which on a slice or a scan is predicted hemorrhage.

It is chosen on out-of-fold predictions of the training part, stored with the model, and evaluated
on the test part. The probabilities themselves stay unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.intervals import CONFIDENCE, Interval, plain_interval, quantile
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions
from hemorrhage_tf.evaluation.resampling import Resamples, proportions

KINDS = ("balanced", "youden", "sensitivity", "specificity", "threshold")
WITHOUT_PREDICTIONS = ("balanced", "threshold")  # kinds that need no out-of-fold predictions
ACCEPTED = "balanced, youden, sensitivity=0.95, specificity=0.9 or threshold=0.5"
OPTIONS = {"slices": "--operating-point", "scans": "--scan-operating-point"}


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, with its sensitivity and specificity on the slices or scans it was chosen on.

    These two are slightly optimistic, because the threshold was chosen to maximize them; the
    metrics of the test part are not.

    Attributes:
        criterion: As requested, for example `sensitivity=0.95`.
        threshold: Probabilities at or above it are predicted hemorrhage.
        n_positive: Number of slices or scans with hemorrhage that it was chosen on.
        n_negative: Number of those without.
        sensitivity: On these; None if none has a hemorrhage.
        specificity: On these; None if all have a hemorrhage.
        intervals_of: Units of the intervals, `slices`, `scans` or `patients`.
        note: Why the data cannot show the requested share, and how many slices or scans it would
            take; or None.
    """

    criterion: str
    threshold: float
    n_positive: int
    n_negative: int
    sensitivity: Interval | None
    specificity: Interval | None
    intervals_of: str
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "criterion": self.criterion,
            "threshold": self.threshold,
            "chosen_on": {
                "n_positive": self.n_positive,
                "n_negative": self.n_negative,
                "sensitivity": plain_interval(self.sensitivity),
                "specificity": plain_interval(self.specificity),
                "intervals_of": self.intervals_of,
            },
            "note": self.note,
        }


def parse_operating_point(text: str, unit: str = "slices") -> tuple[str, float | None]:
    """Parse the value of the option `--operating-point` or `--scan-operating-point`.

    Args:
        text: `balanced`, `youden`, `sensitivity=S`, `specificity=S` with S in (0, 1), or
            `threshold=T` with T in [0, 1].
        unit: "slices" or "scans", which the criterion is for. Defaults to "slices".

    Returns:
        The kind and its value; None for balanced and youden.

    Raises:
        OptionError: Any other text.
    """
    kind, equals, value = (part.strip() for part in text.partition("="))
    if kind in ("balanced", "youden") and not equals:
        return kind, None
    if kind not in ("sensitivity", "specificity", "threshold") or not value:
        raise OptionError(
            f"{OPTIONS[unit]} {text}: must be balanced, youden, sensitivity=S, specificity=S or "
            f"threshold=T. Pass, for example, {ACCEPTED}."
        )
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if kind == "threshold":
        if not 0 <= number <= 1:
            raise OptionError(
                f"{OPTIONS[unit]} {text}: a threshold is a probability from 0 to 1. Pass, for "
                "example, threshold=0.5."
            )
    elif not 0 < number < 1:
        raise OptionError(
            f"{OPTIONS[unit]} {text}: the {kind} must be above 0 and below 1, because no number "
            f"of {unit} can show 100 %. Pass, for example, {kind}=0.95."
        )
    return kind, number


def least_number(share: float, confidence: float = CONFIDENCE) -> int:
    """Compute how many slices or scans it takes to show a share if every decision is right.

    Wilson's interval of n out of n begins at n / (n + z^2), which reaches the share at
    n = z^2 share / (1 - share). A single wrong decision raises the number.

    Args:
        share: The sensitivity or specificity to show, in (0, 1).
        confidence: Nominal coverage of the interval, in (0, 1). Default 0.95.
    """
    z = quantile(confidence)
    # A number that is whole except for rounding needs no further slice.
    return math.ceil(z * z * share / (1 - share) - 1e-9)


def choose(
    labels: np.ndarray,
    probabilities: np.ndarray | Sequence[np.ndarray],
    criterion: str,
    *,
    groups: np.ndarray | None = None,
    prior: float | None = None,
    unit: str = "slices",
) -> OperatingPoint:
    """Choose a threshold.

    `balanced` takes the share of hemorrhage that the probabilities assume. Calibrated probabilities
    have a likelihood ratio of 1 there, so that the expected sum of sensitivity and specificity is
    largest, whatever the prevalence where the model is used.

    The others depend on the probabilities. Their threshold lies midway between neighboring
    probabilities, so that a slightly different copy of the model (float16, int8) makes the same
    decisions. `sensitivity=S` takes the highest threshold that reaches S, `specificity=S` the
    lowest, and `youden` the one with the largest sum of both; of several the lowest, because a
    missed hemorrhage costs more than a false alarm.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or one such array for each repeat, in [0, 1]: out-of-fold
            predictions, not those of training slices.
        criterion: See `parse_operating_point`.
        groups: `(n,)`, equal for slices of one patient; None for independent slices.
        prior: Share of hemorrhage that the probabilities assume, in (0, 1), for `balanced`. None
            for the share of the labels, which calibrated probabilities assume. Defaults to None.
        unit: What the `n` are, "slices" or "scans". Defaults to "slices".

    Raises:
        OptionError: An invalid criterion.
        DataError: Invalid predictions, or a class that the criterion needs is missing.

    Reference:
        W. J. Youden, Index for rating diagnostic tests, Cancer 3 (1950), 32-35.
    """
    kind, value = parse_operating_point(criterion, unit)
    several = len(probabilities) > 0 and np.ndim(probabilities[0]) > 0
    each = list(probabilities) if several else [np.asarray(probabilities)]
    repeats = [check_predictions(labels, one)[1] for one in each]
    labels = np.asarray(labels)
    positive = labels == 1
    counts = int(positive.sum()), int((~positive).sum())
    if kind == "balanced" and prior is not None:
        threshold = float(prior)
    else:
        _check_classes(kind, criterion, counts, unit)
        threshold = _threshold(kind, value, positive, repeats)
    resamples = Resamples.make(len(labels), groups, unit=unit)
    share = np.mean([one >= threshold for one in repeats], axis=0)
    classes = np.stack([positive, ~positive], axis=1).astype(np.float64)
    right = classes * np.stack([share, 1 - share], axis=1)
    sensitivity, specificity = proportions(right, classes, resamples)
    note = None
    if kind == "sensitivity":
        note = _note(kind, value, sensitivity, resamples, positive)
    elif kind == "specificity":
        note = _note(kind, value, specificity, resamples, ~positive)
    return OperatingPoint(
        criterion=kind if value is None else f"{kind}={value}",
        threshold=threshold,
        n_positive=counts[0],
        n_negative=counts[1],
        sensitivity=sensitivity,
        specificity=specificity,
        intervals_of=resamples.drawn,
        note=note,
    )


def _check_classes(kind: str, criterion: str, counts: tuple[int, int], unit: str) -> None:
    both = (0, 1)
    needed = {
        "balanced": both,
        "youden": both,
        "sensitivity": (0,),
        "specificity": (1,),
        "threshold": (),
    }[kind]
    for index in needed:
        if counts[index] == 0:
            name = ("with", "without")[index]
            raise DataError(
                f"none of {sum(counts)} {unit} is {name} hemorrhage: {OPTIONS[unit]} {criterion} "
                f"needs {unit} {name} hemorrhage. Add some, or pass {OPTIONS[unit]} "
                "threshold=0.5."
            )


def _threshold(
    kind: str, value: float | None, positive: np.ndarray, repeats: Sequence[np.ndarray]
) -> float:
    if kind == "threshold":
        assert value is not None
        return float(value)
    if kind == "balanced":
        return float(positive.mean())
    scores = np.concatenate(repeats)
    labels = np.tile(positive, len(repeats))
    levels = np.unique(scores)
    # From all slices predicted hemorrhage to none; 0 and 1 are the outermost neighbors. A slice at
    # 1 is predicted hemorrhage at any threshold, so then the last candidate does not exist.
    candidates = (np.concatenate([[0.0], levels]) + np.concatenate([levels, [1.0]])) / 2
    if levels[-1] == 1.0:
        candidates = candidates[:-1]
    positives, negatives = np.sort(scores[labels]), np.sort(scores[~labels])
    true_positives = len(positives) - np.searchsorted(positives, candidates)
    true_negatives = np.searchsorted(negatives, candidates)
    if kind == "youden":
        # In whole numbers, so that ties are exact; argmax takes the first, the lowest.
        sums = true_positives * len(negatives) + true_negatives * len(positives)
        return float(candidates[np.argmax(sums)])
    assert value is not None
    if kind == "sensitivity":
        # 0.95 of 20 is 19, also in floating-point numbers.
        return float(candidates[true_positives >= value * len(positives) - 1e-9][-1])
    enough = candidates[true_negatives >= value * len(negatives) - 1e-9]
    return float(enough[0] if len(enough) else candidates[-1])


def _note(
    kind: str,
    requested: float | None,
    reached: Interval | None,
    resamples: Resamples,
    members: np.ndarray,
) -> str | None:
    # These sentences are part of metrics.json: programs compare them.
    assert requested is not None and reached is not None
    which = "with hemorrhage" if kind == "sensitivity" else "without hemorrhage"
    if reached.estimate < requested - 1e-9:
        return (
            f"a {kind} of {requested:.6g} is not reached at any threshold, because "
            f"{resamples.unit} {which} have a probability of 1; the highest threshold reaches "
            f"{reached.estimate:.3f}"
        )
    # Slices of one patient may all be right or wrong together, so patients are what counts.
    have, needed = resamples.holding(members), least_number(requested)
    if have >= needed:
        return None
    units = resamples.drawn
    unit = units.removesuffix("s") if have == 1 else units
    begins = have / (have + quantile(CONFIDENCE) ** 2)
    return (
        f"{have} {unit} {which} cannot show a {kind} of {requested:.6g}: with "
        f"none wrong the 95 % interval begins at {begins:.3f}. It would take at least {needed} "
        f"{units} {which} with none wrong"
    )
