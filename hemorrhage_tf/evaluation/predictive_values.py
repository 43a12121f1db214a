"""Predictive values at the prevalence where a model will be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.evaluation.intervals import Interval, plain_interval, ratio_ends


@dataclass(frozen=True)
class PredictiveValues:
    """Positive and negative predictive value at a prevalence.

    Attributes:
        prevalence: Share of slices with hemorrhage, in (0, 1).
        ppv: Positive predictive value; None where it is undefined.
        npv: Negative predictive value; None where it is undefined.
    """

    prevalence: float
    ppv: Interval | None = None
    npv: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "prevalence": self.prevalence,
            "ppv": plain_interval(self.ppv),
            "npv": plain_interval(self.npv),
        }


def check_prevalence(prevalence: float | None) -> None:
    """Raise an OptionError for a prevalence outside (0, 1); None passes."""
    if prevalence is not None and not 0 < prevalence < 1:
        raise OptionError(
            f"--prevalence {prevalence:g}: must be above 0 and below 1, the share of slices with "
            "hemorrhage where the model will be used. Pass, for example, --prevalence 0.1."
        )


def predictive_values(
    sensitivity: Interval | None, specificity: Interval | None, prevalence: float
) -> PredictiveValues:
    """Compute the predictive values at another prevalence than that of the slices.

    Args:
        sensitivity: With its interval; None without slices with hemorrhage.
        specificity: With its interval; None without slices without hemorrhage.
        prevalence: In (0, 1).

    Reference:
        Bayes' theorem; the ends are those of the likelihood ratios, see `intervals.ratio_ends`.
    """
    if sensitivity is None or specificity is None:
        return PredictiveValues(float(prevalence))
    odds = prevalence / (1 - prevalence)
    return PredictiveValues(
        float(prevalence),
        ppv=_predictive_value(sensitivity, _complement(specificity), odds),
        npv=_predictive_value(specificity, _complement(sensitivity), 1 / odds),
    )


def _predictive_value(right: Interval, wrong: Interval, prior_odds: float) -> Interval | None:
    """Compute P(class | decision) from the share of right and of wrong decisions."""
    # As shares of all slices, so that a share of 0 never divides.
    good, bad = right.estimate * prior_odds, wrong.estimate
    if good + bad == 0:
        return None
    low, high = (
        1 / (1 + 1 / (end * prior_odds)) if end else 0.0 for end in ratio_ends(right, wrong)
    )
    return Interval(good / (good + bad), low, high, right.n + wrong.n)


def _complement(share: Interval) -> Interval:
    return Interval(1 - share.estimate, 1 - share.high, 1 - share.low, share.n)
