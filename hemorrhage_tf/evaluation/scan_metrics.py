"""What scans add to the metrics: subtypes, sizes, false alarms, specificity at a sensitivity.

The three levels (a slice alone, a slice in its scan, a scan) each have the metrics of `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.intervals import (
    CONFIDENCE,
    Interval,
    plain_interval,
    quantile,
    wilson,
)
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import number_of_resamples
from hemorrhage_tf.evaluation.resampling import (
    NEGLIGIBLE_VARIANCE,
    Bootstrap,
    Resamples,
    proportions,
)

# The three levels of metrics, as metrics.json names them.
SLICES, SLICES_IN_SCANS, SCANS = "slices", "slices_in_scans", "scans"
LEVEL_NAMES = {
    SLICES: "slices alone",
    SLICES_IN_SCANS: "slices in their scans",
    SCANS: "scans",
}
# The least number of slices of each size. A head of 160 mm has about 30 slices of 5 mm, 60 of
# 2.5 mm, 130 of 1.25 mm and 260 of 0.6 mm: the bins after the first have these in their middle.
SIZES = (1, 20, 45, 90, 180)
SENSITIVITIES = (0.9, 0.95)


def main_level(metrics: Mapping[str, Any]) -> str:
    """Return the level of the main metrics.

    Args:
        metrics: As `Evaluation.metrics`, or `metrics.json` of a run.
    """
    return SCANS if metrics.get("level") == "scan" else SLICES


def metrics_by_level(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of each level that applies, the main one first.

    Args:
        metrics: As `Evaluation.metrics`, or `metrics.json` of a run.
    """
    main = main_level(metrics)
    further = (name for name in (SLICES_IN_SCANS, SCANS) if name != main)
    return {main: metrics, **{name: metrics[name] for name in further if metrics.get(name)}}


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanSet:
    """Labeled scans with the decisions on their slices.

    Attributes:
        scans: Labels and probabilities of the `m` scans, with the unit "scans".
        members: For each scan the indices of its slices among the `n` slices.
        decisions: By level (`SLICES`, `SLICES_IN_SCANS`) bool `(repeats, n)` or `(n,)`: True for
            slices that are predicted hemorrhage.
        groups: `(n,)`, equal for slices of one patient; None for independent slices. Defaults to
            None.
        subtypes: By name `(n,)`: 1 for slices that show this subtype of hemorrhage, other values
            for all others. Defaults to none.
        labeled: bool `(n,)`: whether a slice has a label of its own. The subtypes of the others
            count for their scans only. None if all have one. Defaults to None.
    """

    scans: LabeledPredictions
    members: Sequence[np.ndarray]
    decisions: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None
    subtypes: Mapping[str, np.ndarray] = field(default_factory=dict)
    labeled: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.members) != len(self.scans.labels):
            raise DataError(
                f"slices of {len(self.members)} scans for {len(self.scans.labels)} labels: each "
                "scan needs one label. Pass as many labels as scans."
            )
        empty = [index for index, slices in enumerate(self.members) if len(slices) == 0]
        if empty:
            raise DataError(
                f"{len(empty)} scans have no slice, the first is number {empty[0]}: a scan has at "
                "least one. Leave these scans out."
            )


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms in scans without hemorrhage.

    Attributes:
        n_normal_scans: Number of these scans.
        scans_flagged: Share of them that are predicted hemorrhage; None without such scans.
        flagged_slices: By level the mean number of flagged slices in one of them.
    """

    n_normal_scans: int
    scans_flagged: Interval | None
    flagged_slices: dict[str, Interval | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "n_normal_scans": self.n_normal_scans,
            "scans_flagged": plain_interval(self.scans_flagged),
            "flagged_slices": {
                level: plain_interval(mean) for level, mean in self.flagged_slices.items()
            },
        }


@dataclass(frozen=True)
class SizeMetrics:
    """Decisions on the scans of one size.

    Attributes:
        least: Least number of slices.
        most: Largest number of slices, or None without a limit.
        n_positive: Number of scans with hemorrhage.
        n_negative: Number of scans without.
        sensitivity: Share of the scans with hemorrhage that are predicted so.
        specificity: Share of the scans without that are predicted normal.
    """

    least: int
    most: int | None
    n_positive: int
    n_negative: int
    sensitivity: Interval | None
    specificity: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "least": self.least,
            "most": self.most,
            "n": self.n_positive + self.n_negative,
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "sensitivity": plain_interval(self.sensitivity),
            "specificity": plain_interval(self.specificity),
        }


@dataclass(frozen=True)
class ScanDetails:
    """What scans add to the metrics of the three levels.

    Attributes:
        false_alarms: In scans without hemorrhage.
        at_sensitivity: By sensitivity the specificity of the threshold that reaches it, for scans;
            None where a class is missing.
        by_size: For each size that occurs, by number of slices.
        by_subtype: By level and subtype the share of the slices (scans) with that subtype that are
            predicted hemorrhage; None where there are none. Empty without subtypes.
        notes: What limits these.
    """

    false_alarms: FalseAlarms
    at_sensitivity: dict[float, Interval | None]
    by_size: tuple[SizeMetrics, ...]
    by_subtype: dict[str, dict[str, Interval | None]]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "false_alarms": self.false_alarms.to_dict(),
            "at_sensitivity": [
                {"sensitivity": sensitivity, "specificity": plain_interval(specificity)}
                for sensitivity, specificity in self.at_sensitivity.items()
            ],
            "by_size": [size.to_dict() for size in self.by_size],
            "by_subtype": {
                level: {name: plain_interval(share) for name, share in of_level.items()}
                for level, of_level in self.by_subtype.items()
            },
            "notes": list(self.notes),
        }


def scan_details(scan_set: ScanSet, bootstrap: Bootstrap | None = None) -> ScanDetails:
    """Compute what scans add to the metrics of the three levels.

    Args:
        scan_set: Labeled scans, with the decisions on their slices.
        bootstrap: Number of resamples and random seed; None for 2000 and 0.

    Raises:
        DataError: Predictions that are not probabilities, or different lengths.
    """
    bootstrap = bootstrap or Bootstrap()
    labels, scores, decided = scan_set.scans.check()
    groups = scan_set.scans.groups
    resamples = Resamples.make(len(labels), groups, bootstrap.resamples, bootstrap.seed, SCANS)
    slice_decisions = {
        level: np.atleast_2d(decisions) for level, decisions in scan_set.decisions.items()
    }
    flagged = {
        level: np.stack([decisions[:, slices].sum(1) for slices in scan_set.members], axis=1)
        for level, decisions in slice_decisions.items()
    }
    sizes = np.array([len(slices) for slices in scan_set.members])
    return ScanDetails(
        false_alarms=_false_alarms(labels, decided, flagged, resamples),
        at_sensitivity={
            sensitivity: specificity_at_sensitivity(labels, scores, sensitivity, resamples)
            for sensitivity in SENSITIVITIES
        },
        by_size=metrics_by_size(labels, decided, sizes, resamples),
        by_subtype=_by_subtype(scan_set, slice_decisions, decided, resamples, bootstrap),
        notes=tuple(_notes(labels, resamples)),
    )


def sensitivity_by_subtype(
    subtypes: Mapping[str, np.ndarray], decisions: np.ndarray, resamples: Resamples
) -> dict[str, Interval | None]:
    """Compute the share of the slices (scans) of each subtype that are predicted hemorrhage.

    Args:
        subtypes: By name `(n,)`: 1 where the subtype is present.
        decisions: bool `(repeats, n)`, True for predicted hemorrhage.
        resamples: Of patients, or of slices (scans).

    Returns:
        By name the share with its interval, over the slices (scans) of the subtype; None where
        there are none.
    """
    if not subtypes:
        return {}
    present = np.stack([np.asarray(values) == 1 for values in subtypes.values()], axis=1)
    share = np.atleast_2d(decisions).mean(0)
    intervals = proportions(present * share[:, None], present.astype(np.float64), resamples)
    return dict(zip(subtypes, intervals, strict=True))


def metrics_by_size(
    labels: np.ndarray, decisions: np.ndarray, sizes: np.ndarray, resamples: Resamples
) -> tuple[SizeMetrics, ...]:
    """Compute sensitivity and specificity for scans of each size in `SIZES`.

    Args:
        labels: `(m,)` of the scans, 0 or 1.
        decisions: bool `(repeats, m)`, True for predicted hemorrhage.
        sizes: `(m,)`, number of slices of each scan.
        resamples: Of patients, or of scans.

    Returns:
        One for each size that occurs, the smallest first.
    """
    positive, share = labels == 1, decisions.mean(0)
    size_of_each = np.digitize(sizes, SIZES) - 1
    rows = []
    for index in np.unique(size_of_each).tolist():
        inside = size_of_each == index
        classes = np.stack([positive & inside, ~positive & inside], axis=1).astype(np.float64)
        right = classes * np.stack([share, 1 - share], axis=1)
        sensitivity, specificity = proportions(right, classes, resamples)
        rows.append(
            SizeMetrics(
                least=SIZES[index],
                most=SIZES[index + 1] - 1 if index + 1 < len(SIZES) else None,
                n_positive=int(classes[:, 0].sum()),
                n_negative=int(classes[:, 1].sum()),
                sensitivity=sensitivity,
                specificity=specificity,
            )
        )
    return tuple(rows)


def mean_count(counts: np.ndarray, members: np.ndarray, resamples: Resamples) -> Interval | None:
    """Compute a mean number per scan, with an interval that is symmetric on the log scale.

    Args:
        counts: `(repeats, m)`, a number for each scan. The mean is taken over the repeats, too,
            which do not narrow the interval.
        members: bool `(m,)`: the scans to average over.
        resamples: Of patients, or of scans.

    Returns:
        The mean with its interval (Student's quantile), or None without members. Where the counts
        do not vary, the interval is Garwood's for a Poisson count.

    Reference:
        F. Garwood, Fiducial limits for the Poisson distribution, Biometrika 28 (1936), 437-442.
    """
    n = int(members.sum())
    if n == 0:
        return None
    inside = members.astype(np.float64)
    estimate = float(counts[:, members].mean())
    variance = math.nan
    if resamples.of_patients:

        def means(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return ((weights * inside) @ counts.T / (weights @ inside)[:, None]).T

        variance = float(resamples.variances(means, columns=2).mean())
    elif n > 1:
        variance = float(counts[:, members].var(1, ddof=1).mean() / n)
    if not variance > NEGLIGIBLE_VARIANCE:
        low, high = _poisson_ends(estimate, resamples.holding(members))
        return Interval(estimate, low, high, n)
    degrees = resamples.degrees(inside)
    # A large variance next to a small mean would overflow.
    half = min(quantile(CONFIDENCE, degrees) * math.sqrt(variance) / estimate, 700.0)
    return Interval(estimate, estimate * math.exp(-half), estimate * math.exp(half), n)


def _poisson_ends(mean: float, n: int) -> tuple[float, float]:
    """Compute the ends of Garwood's interval of the mean of `n` Poisson counts."""
    from scipy.stats import chi2

    total, tail = mean * n, (1 - CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * total)) / 2 if total > 0 else 0.0
    return low / n, float(chi2.isf(tail, 2 * (total + 1))) / 2 / n


def specificity_at_sensitivity(
    labels: np.ndarray, scores: np.ndarray, sensitivity: float, resamples: Resamples
) -> Interval | None:
    """Compute the specificity of the highest threshold that reaches a sensitivity.

    The threshold is chosen on the same predictions, so this is a point of the ROC curve and not
    the performance of a stored threshold. The bootstrap chooses it anew in each resample, and
    Wilson's interval is taken at the number of independent scans with the bootstrap's variance.

    Args:
        labels: `(m,)`, 0 or 1.
        scores: `(repeats, m)`, higher for hemorrhage; the result is the mean over the repeats.
        sensitivity: To reach, in (0, 1).
        resamples: Of patients, or of scans.

    Returns:
        The specificity with its interval, or None where a class is missing.

    Reference:
        X.-H. Zhou and G. Qin, Improved confidence intervals for the sensitivity at a fixed level
        of specificity of a continuous-scale diagnostic test, Statistics in Medicine 24 (2005),
        465-477, on the bootstrap variance; the interval: as `resampling.proportions`.
    """
    positive = labels == 1
    if positive.all() or not positive.any():
        return None
    orders = [np.argsort(-repeat, kind="stable") for repeat in scores]

    def specificities(weights: np.ndarray) -> np.ndarray:
        rows = [
            _specificity(weights[:, order], positive[order], repeat[order], sensitivity)
            for repeat, order in zip(scores, orders, strict=True)
        ]
        return np.stack(rows)

    estimate = float(specificities(np.ones((1, len(labels)))).mean())
    variance = float(resamples.variances(specificities, columns=3).mean())
    n = int((~positive).sum())
    naive = estimate * (1 - estimate) / n
    effective = float(min(resamples.holding(positive), resamples.holding(~positive)))
    if variance > NEGLIGIBLE_VARIANCE and naive > NEGLIGIBLE_VARIANCE:
        degrees = min(resamples.degrees(positive * 1.0), resamples.degrees(~positive * 1.0))
        student = quantile(CONFIDENCE, degrees) / quantile(CONFIDENCE)
        effective = n / max(variance / naive * student**2, 1.0)
    interval = wilson(estimate * effective, effective)
    return interval and Interval(estimate, interval.low, interval.high, n)


def _specificity(
    weights: np.ndarray, positive: np.ndarray, scores: np.ndarray, sensitivity: float
) -> np.ndarray:
    """Compute `(b,)` for weights `(b, m)` of scans in the order of falling scores."""
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(weights * positive, axis=1)[:, ends]
    false = np.cumsum(weights * ~positive, axis=1)[:, ends]
    positives, negatives = hits[:, -1], false[:, -1]
    first = (hits >= sensitivity * positives[:, None] - 1e-9).argmax(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = 1 - false[np.arange(len(weights)), first] / negatives
    return np.where(positives > 0, result, math.nan)


def _false_alarms(
    labels: np.ndarray,
    decided: np.ndarray,
    flagged: Mapping[str, np.ndarray],
    resamples: Resamples,
) -> FalseAlarms:
    normal = labels == 0
    [share] = proportions(
        (normal * decided.mean(0))[:, None], normal[:, None].astype(np.float64), resamples
    )
    return FalseAlarms(
        n_normal_scans=int(normal.sum()),
        scans_flagged=share,
        flagged_slices={
            level: mean_count(counts.astype(np.float64), normal, resamples)
            for level, counts in flagged.items()
        },
    )


def _by_subtype(
    scan_set: ScanSet,
    slice_decisions: Mapping[str, np.ndarray],
    decided: np.ndarray,
    over_scans: Resamples,
    bootstrap: Bootstrap,
) -> dict[str, dict[str, Interval | None]]:
    if not scan_set.subtypes:
        return {}
    of_scans = {
        name: np.array([int((values[slices] == 1).any()) for slices in scan_set.members])
        for name, values in scan_set.subtypes.items()
    }
    n = len(next(iter(scan_set.subtypes.values())))
    drawn = number_of_resamples(n, bootstrap.resamples)
    over_slices = Resamples.make(n, scan_set.groups, drawn, bootstrap.seed)
    labeled = np.ones(n, bool) if scan_set.labeled is None else scan_set.labeled
    of_slices = {name: (values == 1) & labeled for name, values in scan_set.subtypes.items()}
    by_level = {
        level: sensitivity_by_subtype(of_slices, decisions, over_slices)
        for level, decisions in slice_decisions.items()
    }
    return {**by_level, SCANS: sensitivity_by_subtype(of_scans, decided, over_scans)}


def _notes(labels: np.ndarray, resamples: Resamples) -> list[str]:
    # These sentences are part of metrics.json: programs compare them.
    have, notes = resamples.holding(labels == 1), []
    few = [each for each in SENSITIVITIES if 0 < have < 1 / (1 - each) - 1e-9]
    if few:
        units = resamples.drawn if have > 1 else resamples.drawn.removesuffix("s")
        notes.append(
            f"with {have} {units} with hemorrhage, the threshold for a sensitivity of "
            f"{few[0]:.3g} depends on the lowest of them alone; it takes at least "
            f"{math.ceil(1 / (1 - few[0]) - 1e-9)}"
        )
    return notes
