"""Simulate how often each 95 % interval of `evaluation` contains the true value.

Scores are binormal, labels balanced and probabilities calibrated, so every true value is known.
`slices` are independent. `patients` have 1 to 7 slices each, one label, and scores that correlate
by 0.3 within a patient; n counts them. `at 0.93` draws decisions that are right with that
probability (correlated by 0.2 within a patient). `comparison` has two models with AUC 0.9 and 0.85.
`scans` counts flagged slices of normal scans, which vary between scans, and the specificity at a
sensitivity; there, `patients` have 1 to 7 scans each.

    python benchmarks/coverage.py [--simulations 1000] [--sizes 40 200 2000]
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import nbinom, norm

from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.resampling import Bootstrap, Resamples
from hemorrhage_tf.evaluation.scan_metrics import mean_count, specificity_at_sensitivity

AREA, SECOND_AREA = 0.9, 0.85
RIGHT = 0.93
PREVALENCE = 0.1
SCORE_CORRELATION, DECISION_CORRELATION = 0.3, 0.2  # within a patient
MODEL_CORRELATION = 0.5
FLAGGED, SHAPE = 1.5, 0.8  # of a negative binomial distribution: its mean, and its dispersion
SHIFT, SECOND_SHIFT = (2**0.5 * norm.ppf(area) for area in (AREA, SECOND_AREA))


@dataclass(frozen=True)
class Sample:
    """Simulated slices.

    Attributes:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`, equal for slices of one patient; None for independent slices.
        rng: The random generator.
    """

    labels: np.ndarray
    groups: np.ndarray | None
    rng: np.random.Generator

    @classmethod
    def draw(cls, rng, n, of_patients):
        """Draw labels, of `n` slices or of the slices of `n` patients."""
        if not of_patients:
            return cls(rng.integers(0, 2, n), None, rng)
        groups = np.repeat(np.arange(n), rng.integers(1, 8, n))
        return cls(rng.integers(0, 2, n)[groups], groups, rng)

    def noise(self):
        """Draw normal noise that correlates within a patient."""
        own = self.rng.normal(size=len(self.labels))
        if self.groups is None:
            return own
        shared = self.rng.normal(size=self.groups[-1] + 1)[self.groups]
        return SCORE_CORRELATION**0.5 * shared + (1 - SCORE_CORRELATION) ** 0.5 * own


@dataclass(frozen=True)
class Scenario:
    """One kind of simulation.

    Attributes:
        title: To print.
        simulate: Function of a sample and a number of resamples that returns intervals by name.
        truths: The true values by name.
    """

    title: str
    simulate: Callable
    truths: dict


def probability(scores, shift=SHIFT):
    """Compute P(hemorrhage) for balanced classes."""
    return expit(shift * scores - shift**2 / 2)


def true_predictive_values(sensitivity, specificity, prevalence):
    """Compute PPV and NPV."""
    hit, alarm = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    spared, miss = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    return hit / (hit + alarm), spared / (spared + miss)


def truths_at(share):
    """Return the true values for decisions that are right with this probability in both classes."""
    ppv, npv = true_predictive_values(share, share, PREVALENCE)
    names = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
    return {**dict.fromkeys(names, share), "ppv at 0.1": ppv, "npv at 0.1": npv}


def truths_of_scores():
    """Return the true values for binormal scores, by quadrature."""
    precision = quad(
        lambda x: norm.sf(x - SHIFT) / (norm.sf(x - SHIFT) + norm.sf(x)) * norm.pdf(x - SHIFT),
        a=-8,
        b=12,
    )[0]
    brier = quad(lambda x: probability(x) ** 2 * norm.pdf(x), -10, 12)[0]
    return {
        **truths_at(norm.cdf(SHIFT / 2)),
        "roc_auc": AREA,
        "pr_auc": precision,
        "brier": brier,
        "slope": 1.0,
        "intercept": 0.0,
        "in_the_large": 0.0,
    }


def intervals_of(sample, probabilities, bootstraps):
    """Compute the metrics of one simulation, by name."""
    predictions = LabeledPredictions(sample.labels, [probabilities], groups=sample.groups)
    metrics = compute_metrics(
        predictions, prevalence=PREVALENCE, bootstrap=Bootstrap(bootstraps)
    ).to_dict()
    names = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "roc_auc", "pr_auc", "brier")
    return {
        **{name: metrics[name] for name in names},
        **{name: metrics["calibration"][name] for name in ("slope", "intercept", "in_the_large")},
        **{f"{name} at 0.1": metrics["at_prevalence"][name] for name in ("ppv", "npv")},
    }


def simulate_scores(sample, bootstraps):
    """Simulate all metrics of a model with AUC 0.9."""
    scores = probability(sample.noise() + SHIFT * sample.labels)
    return intervals_of(sample, scores, bootstraps)


def simulate_decisions(sample, bootstraps):
    """Simulate decisions that are right with probability 0.93."""
    share = np.full(len(sample.labels), RIGHT)
    if sample.groups is not None:
        both = 1 / DECISION_CORRELATION - 1
        patients = sample.groups[-1] + 1
        share = sample.rng.beta(RIGHT * both, (1 - RIGHT) * both, patients)[sample.groups]
    right = sample.rng.random(len(sample.labels)) < share
    probabilities = np.where(right == (sample.labels == 1), 0.9, 0.1)
    intervals = intervals_of(sample, probabilities, bootstraps)
    return {name: intervals[name] for name in truths_at(RIGHT)}


def simulate_comparison(sample, bootstraps):
    """Simulate the differences of two models."""
    shared = sample.noise()
    first, second = (
        probability(
            MODEL_CORRELATION**0.5 * shared
            + (1 - MODEL_CORRELATION) ** 0.5 * sample.noise()
            + shift * sample.labels,
            shift,
        )
        for shift in (SHIFT, SECOND_SHIFT)
    )
    comparison = compare(
        sample.labels, first, second, groups=sample.groups, bootstrap=Bootstrap(bootstraps)
    )
    names = ("roc_auc", "accuracy", "sensitivity", "specificity")
    return {name: comparison[name] and comparison[name]["difference"] for name in names}


def simulate_scans(sample, bootstraps):
    """Simulate flagged slices of normal scans, and the specificity at a sensitivity."""
    labels, noise = sample.labels, sample.noise()
    resamples = Resamples.make(len(labels), sample.groups, bootstraps, unit="scans")
    flagged = nbinom.ppf(norm.cdf(noise), SHAPE, SHAPE / (SHAPE + FLAGGED))
    scores = (noise + SHIFT * labels)[None]
    intervals = {"flagged slices": mean_count(flagged[None], labels == 0, resamples)}
    for share in (0.9, 0.95):
        name = f"spec. at {share}"
        intervals[name] = specificity_at_sensitivity(labels, scores, share, resamples)
    return {name: interval and interval.to_dict() for name, interval in intervals.items()}


def truths_of_scans():
    """Return the true mean of flagged slices, and the true specificities."""
    at = {f"spec. at {share}": norm.cdf(SHIFT + norm.ppf(1 - share)) for share in (0.9, 0.95)}
    return {"flagged slices": FLAGGED, **at}


def scenarios():
    """Return all kinds of simulations."""
    difference = norm.cdf(SHIFT / 2) - norm.cdf(SECOND_SHIFT / 2)
    differences = dict.fromkeys(("accuracy", "sensitivity", "specificity"), difference)
    comparison = {"roc_auc": AREA - SECOND_AREA, **differences}
    return [
        Scenario("AUC 0.9", simulate_scores, truths_of_scores()),
        Scenario("at 0.93", simulate_decisions, truths_at(RIGHT)),
        Scenario("comparison", simulate_comparison, comparison),
        Scenario("scans", simulate_scans, truths_of_scans()),
    ]


def coverage(scenario, n, of_patients, arguments):
    """Return, by metric, the coverage and the number of simulations with an interval."""
    rng = np.random.default_rng([arguments.seed, n, of_patients])
    covered = defaultdict(list)
    for _ in range(arguments.simulations):
        sample = Sample.draw(rng, n, of_patients)
        for name, interval in scenario.simulate(sample, arguments.bootstraps).items():
            if interval is not None:
                truth = scenario.truths[name]
                covered[name].append(interval["low"] <= truth <= interval["high"])
    return {name: (np.mean(values), len(values)) for name, values in covered.items()}


def print_rows(scenario, unit, arguments):
    """Print a row for each metric of a scenario."""
    columns = [coverage(scenario, n, unit == "patients", arguments) for n in arguments.sizes]
    for name in scenario.truths:
        row = f"{unit:<9} {scenario.title:<11} {name:<14}"
        for column in columns:
            share, count = column.get(name, (np.nan, 0))
            outside = "" if 0.93 <= share <= 0.97 else " !"
            missing = "" if count == arguments.simulations else f" ({count})"
            row += f"{f'{100 * share:.1f}{outside}{missing}':>12}"
        print(row, flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 200, 2000])
    parser.add_argument("--of", nargs="+", default=["slices", "patients"])
    parser.add_argument("--scenarios", nargs="+", default=[each.title for each in scenarios()])
    parser.add_argument("--bootstraps", type=int, default=400, help="resamples per interval")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    error = 1.96 * (0.95 * 0.05 / arguments.simulations) ** 0.5
    print(f"Coverage in %, {arguments.simulations} simulations (+- {100 * error:.1f})")
    print(f"{'':<36}" + "".join(f"{f'n = {n}':>12}" for n in arguments.sizes), flush=True)
    start = time.monotonic()
    for unit in arguments.of:
        for scenario in scenarios():
            if scenario.title in arguments.scenarios:
                print_rows(scenario, unit, arguments)
    print(f"{time.monotonic() - start:.0f} s. (k): only k simulations had it. !: not 93 to 97 %.")


if __name__ == "__main__":
    main()
