"""The operating point: at which probability a slice is called hemorrhage, and what speaks for it.

It is chosen on out-of-fold predictions of the training part, stored with the model, and reported on
the test part; the score itself stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.calibration import check_predictions
from hemorrhage_tf.evaluation.intervals import (
    BOOTSTRAPS,
    CONFIDENCE,
    Interval,
    Resamples,
    proportions,
    quantile,
)

KINDS = ("youden", "sensitivity", "specificity", "threshold")
ACCEPTED = "youden, sensitivity=0.95, specificity=0.9 or threshold=0.5"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what it reached on the slices that it was chosen on.

    Those figures flatter a little, since the threshold was chosen to make them good; the test part
    has the honest ones.

    Attributes:
        criterion: as it was asked for, such as `sensitivity=0.95`.
        threshold: probabilities at or above it count as hemorrhage.
        n_positive: slices with hemorrhage that it was chosen on.
        n_negative: slices without.
        sensitivity: what was reached on them; None without slices with hemorrhage.
        specificity: what was reached on them; None without others.
        intervals_of: what the intervals count: `slices` or `patients`.
        note: why the data cannot show what was asked for, and how many it would take; or None.
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
        """Gives plain values for JSON."""
        return {
            "criterion": self.criterion,
            "threshold": self.threshold,
            "chosen_on": {
                "n_positive": self.n_positive,
                "n_negative": self.n_negative,
                "sensitivity": self.sensitivity and self.sensitivity.to_dict(),
                "specificity": self.specificity and self.specificity.to_dict(),
                "intervals_of": self.intervals_of,
            },
            "note": self.note,
        }


def parse_operating_point(text: str) -> tuple[str, float | None]:
    """Reads what the option `--operating-point` was given.

    Args:
        text: `youden`, `sensitivity=S`, `specificity=S` with S in (0, 1), or `threshold=T` with T
            in [0, 1].

    Returns:
        The kind and its value; None for youden.

    Raises:
        OptionError: anything else.
    """
    kind, equals, value = (part.strip() for part in text.partition("="))
    if kind == "youden" and not equals:
        return kind, None
    if kind not in KINDS[1:] or not value:
        raise OptionError(f"--operating-point must be {ACCEPTED}. Received: {text}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if kind == "threshold":
        if not 0 <= number <= 1:
            raise OptionError(
                f"--operating-point threshold=T: T is a probability, from 0 to 1. Received: {text}"
            )
    elif not 0 < number < 1:
        raise OptionError(
            f"--operating-point {kind}=S: S lies between 0 and 1, both left out, since no number "
            f"of slices shows 100 %. Received: {text}. Give, say, {kind}=0.95"
        )
    return kind, number


def least_number(share: float, confidence: float = CONFIDENCE) -> int:
    """Computes how many slices it takes to show a share, where every one of them is right.

    Wilson's interval of n of n begins at n / (n + z^2), which is at least the share from
    n = z^2 share / (1 - share) on. It takes more as soon as one is wrong.

    Args:
        share: the sensitivity or specificity to show, in (0, 1).
        confidence: coverage of the interval, in (0, 1). Default 0.95.
    """
    z = quantile(confidence)
    # A number that is whole but for rounding needs no further slice.
    return math.ceil(z * z * share / (1 - share) - 1e-9)


def choose(
    labels: np.ndarray,
    probabilities: np.ndarray | Sequence[np.ndarray],
    criterion: str,
    *,
    groups: np.ndarray | None = None,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> OperatingPoint:
    """Chooses a threshold.

    A threshold lies midway between neighboring probabilities, so that a copy of the model that
    answers a little differently (float16, int8) decides alike. `sensitivity=S` takes the highest
    threshold that has it, `specificity=S` the lowest, and `youden` that with the largest sum of
    both: the lowest of several, since a missed hemorrhage costs more than a false alarm.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or one such array for each repeat, in [0, 1]: out-of-fold
            predictions, not those of slices that were trained on.
        criterion: see `parse_operating_point`.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own.
        seed: of the bootstrap of patients. Default 0.
        bootstraps: how many resamples. Default 2000.

    Returns:
        The operating point.

    Raises:
        OptionError: a criterion that is none.
        DataError: predictions that cannot be used, or a class that the criterion needs is missing.

    Reference:
        W. J. Youden, Index for rating diagnostic tests, Cancer 3 (1950), 32-35.
    """
    kind, value = parse_operating_point(criterion)
    several = len(probabilities) > 0 and np.ndim(probabilities[0]) > 0
    each = probabilities if several else [probabilities]
    repeats = [check_predictions(labels, one)[1] for one in each]
    labels = np.asarray(labels)
    positive = labels == 1
    counts = int(positive.sum()), int((~positive).sum())
    _check_classes(kind, criterion, counts)
    threshold = value if kind == "threshold" else _threshold(kind, value, positive, repeats)
    resamples = Resamples.make(len(labels), groups, bootstraps, seed)
    called = np.mean([one >= threshold for one in repeats], axis=0)
    classes = np.stack([positive, ~positive], axis=1).astype(np.float64)
    right = classes * np.stack([called, 1 - called], axis=1)
    sensitivity, specificity = proportions(right, classes, resamples)
    note = None
    if kind == "sensitivity":
        note = _note(value, "with hemorrhage", kind, sensitivity, resamples, positive)
    elif kind == "specificity":
        note = _note(value, "without hemorrhage", kind, specificity, resamples, ~positive)
    return OperatingPoint(
        criterion=kind if value is None else f"{kind}={value}",
        threshold=float(threshold),
        n_positive=counts[0],
        n_negative=counts[1],
        sensitivity=sensitivity,
        specificity=specificity,
        intervals_of=resamples.drawn,
        note=note,
    )


def _check_classes(kind: str, criterion: str, counts: tuple[int, int]) -> None:
    needed = {"youden": (0, 1), "sensitivity": (0,), "specificity": (1,), "threshold": ()}[kind]
    for index in needed:
        if counts[index] == 0:
            name = ("with", "without")[index]
            raise DataError(
                f"--operating-point {criterion} needs slices {name} hemorrhage to choose a "
                f"threshold on. Received: none of {sum(counts)}. Add some, or give threshold=0.5"
            )


def _threshold(
    kind: str, value: float | None, positive: np.ndarray, repeats: Sequence[np.ndarray]
) -> float:
    scores = np.concatenate(repeats)
    labels = np.tile(positive, len(repeats))
    levels = np.unique(scores)
    # From calling every slice hemorrhage to calling none; 0 and 1 are the outermost neighbors. A
    # slice at 1 is called at any threshold, and then there is no way to call none.
    candidates = (np.concatenate([[0.0], levels]) + np.concatenate([levels, [1.0]])) / 2
    if levels[-1] == 1.0:
        candidates = candidates[:-1]
    hits, alarms = np.sort(scores[labels]), np.sort(scores[~labels])
    found = len(hits) - np.searchsorted(hits, candidates)
    spared = np.searchsorted(alarms, candidates)
    if kind == "youden":
        # In whole numbers, so that equal ones are equal; argmax takes the first, the lowest.
        return float(candidates[np.argmax(found * len(alarms) + spared * len(hits))])
    assert value is not None
    if kind == "sensitivity":
        # 0.95 of 20 is 19, whatever floating-point numbers make of it.
        return float(candidates[found >= value * len(hits) - 1e-9][-1])
    enough = candidates[spared >= value * len(alarms) - 1e-9]
    return float(enough[0] if len(enough) else candidates[-1])


def _note(
    asked: float | None,
    which: str,
    kind: str,
    reached: Interval | None,
    resamples: Resamples,
    members: np.ndarray,
) -> str | None:
    assert asked is not None and reached is not None
    if reached.estimate < asked - 1e-9:
        return (
            f"a {kind} of {asked:.6g} is not reached at any threshold, because slices {which} have "
            f"a probability of 1; the highest threshold reaches {reached.estimate:.3f}"
        )
    # Slices of one patient are right or wrong together, so that at worst only patients count.
    have, needed = resamples.holding(members), least_number(asked)
    if have >= needed:
        return None
    units = resamples.drawn
    held = units.removesuffix("s") if have == 1 else units
    begins = have / (have + quantile(CONFIDENCE) ** 2)
    return (
        f"{have} {held} {which} cannot show a {kind} of {asked:.6g}: with "
        f"none wrong the 95 % interval begins at {begins:.3f}. It would take at least {needed} "
        f"{units} {which} with none wrong"
    )
