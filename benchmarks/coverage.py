"""Simulates how often each 95 % interval of `evaluation` holds the true value.

Scores are binormal, labels balanced, and probabilities calibrated, so that every true value is
known. `slices` are independent. `patients` have 1 to 7 slices each, one label, and scores that
correlate by 0.3 within a patient; n counts them. `at 0.93` draws decisions that are right so often
(within a patient correlated by 0.2). `comparison` has two models with AUC 0.9 and 0.85.

    python benchmarks/coverage.py [--simulations 1000] [--sizes 40 200 2000]
"""

import argparse
import time
from collections import defaultdict

import numpy as np
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.metrics import binary_metrics

AREA, SECOND_AREA = 0.9, 0.85
RIGHT = 0.93
PREVALENCE = 0.1
ALIKE, ALIKE_DECISIONS = 0.3, 0.2
MODELS_ALIKE = 0.5
SHIFT, SECOND_SHIFT = (2**0.5 * norm.ppf(area) for area in (AREA, SECOND_AREA))


def probability(scores, shift=SHIFT):
    """Gives P(hemorrhage) where both classes are as frequent."""
    return expit(shift * scores - shift**2 / 2)


def predictive(sensitivity, specificity, prevalence):
    """Gives PPV and NPV."""
    hit, alarm = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    spared, miss = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    return hit / (hit + alarm), spared / (spared + miss)


def truths_at(share):
    """Gives the true values of decisions that are right so often in both classes."""
    ppv, npv = predictive(share, share, PREVALENCE)
    names = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
    return {**dict.fromkeys(names, share), "ppv at 0.1": ppv, "npv at 0.1": npv}


def truths_of_scores():
    """Gives the true values of the binormal scores, by quadrature."""
    precision = quad(
        lambda x: norm.sf(x - SHIFT) / (norm.sf(x - SHIFT) + norm.sf(x)) * norm.pdf(x - SHIFT),
        *(-8, 12),
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


def figures_of(metrics):
    """Picks the figures out of what `binary_metrics` gave."""
    names = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "roc_auc", "pr_auc", "brier")
    found = {name: metrics[name] for name in names}
    found |= {name: metrics["calibration"][name] for name in ("slope", "intercept", "in_the_large")}
    return found | {f"{name} at 0.1": metrics["at_prevalence"][name] for name in ("ppv", "npv")}


def draw(rng, n, in_patients):
    """Draws labels, patients (or None) and a way to draw noise that is alike within a patient."""
    if not in_patients:
        return rng.integers(0, 2, n), None, lambda alike: rng.normal(size=n)
    groups = np.repeat(np.arange(n), rng.integers(1, 8, n))
    labels = rng.integers(0, 2, n)[groups]

    def noise(alike):
        own = rng.normal(size=len(groups))
        return alike**0.5 * rng.normal(size=n)[groups] + (1 - alike) ** 0.5 * own

    return labels, groups, noise


def of_scores(rng, n, in_patients, bootstraps):
    """One simulation of all figures."""
    labels, groups, noise = draw(rng, n, in_patients)
    scores = probability(noise(ALIKE) + SHIFT * labels)
    return figures_of(
        binary_metrics(
            labels, [scores], groups=groups, prevalence=PREVALENCE, bootstraps=bootstraps
        )
    )


def of_decisions(rng, n, in_patients, bootstraps):
    """One simulation of decisions that are right with probability 0.93."""
    labels, groups, _ = draw(rng, n, in_patients)
    share = np.full(len(labels), RIGHT)
    if groups is not None:
        sum_of_both = 1 / ALIKE_DECISIONS - 1
        share = rng.beta(RIGHT * sum_of_both, (1 - RIGHT) * sum_of_both, n)[groups]
    right = rng.random(len(labels)) < share
    found = figures_of(
        binary_metrics(
            labels,
            [np.where(right == (labels == 1), 0.9, 0.1)],
            groups=groups,
            prevalence=PREVALENCE,
            bootstraps=bootstraps,
        )
    )
    return {name: found[name] for name in truths_at(RIGHT)}


def of_comparison(rng, n, in_patients, bootstraps):
    """One simulation of two models."""
    labels, groups, noise = draw(rng, n, in_patients)
    shared = noise(ALIKE)
    models = [
        probability(
            MODELS_ALIKE**0.5 * shared + (1 - MODELS_ALIKE) ** 0.5 * noise(ALIKE) + shift * labels,
            shift,
        )
        for shift in (SHIFT, SECOND_SHIFT)
    ]
    found = compare(labels, *models, groups=groups, bootstraps=bootstraps)
    names = ("roc_auc", "accuracy", "sensitivity", "specificity")
    return {name: found[name] and found[name]["difference"] for name in names}


def simulate(one, truths, n, in_patients, arguments):
    """Gives the coverage of each figure, and how many simulations had it."""
    rng = np.random.default_rng([arguments.seed, n, in_patients])
    held = defaultdict(list)
    for _ in range(arguments.simulations):
        for name, figure in one(rng, n, in_patients, arguments.bootstraps).items():
            if figure is not None:
                held[name].append(figure["low"] <= truths[name] <= figure["high"])
    return {name: (np.mean(found), len(found)) for name, found in held.items()}


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 200, 2000])
    parser.add_argument("--of", nargs="+", default=["slices", "patients"])
    parser.add_argument("--bootstraps", type=int, default=400, help="resamples an interval")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    difference = norm.cdf(SHIFT / 2) - norm.cdf(SECOND_SHIFT / 2)
    kinds = (
        ("AUC 0.9", of_scores, truths_of_scores()),
        ("at 0.93", of_decisions, truths_at(RIGHT)),
        (
            "comparison",
            of_comparison,
            {
                "roc_auc": AREA - SECOND_AREA,
                **dict.fromkeys(("accuracy", "sensitivity", "specificity"), difference),
            },
        ),
    )
    error = 1.96 * (0.95 * 0.05 / arguments.simulations) ** 0.5
    print(f"Coverage in %, {arguments.simulations} simulations (+- {100 * error:.1f})")
    print(f"{'':<36}" + "".join(f"{f'n = {n}':>12}" for n in arguments.sizes), flush=True)
    begin = time.monotonic()
    for of in arguments.of:
        for title, one, truths in kinds:
            found = [simulate(one, truths, n, of == "patients", arguments) for n in arguments.sizes]
            for name in truths:
                row = f"{of:<9} {title:<11} {name:<14}"
                for at_size in found:
                    coverage, there = at_size.get(name, (np.nan, 0))
                    outside = "" if 0.93 <= coverage <= 0.97 else " !"
                    missing = "" if there == arguments.simulations else f" ({there})"
                    row += f"{f'{100 * coverage:.1f}{outside}{missing}':>12}"
                print(row, flush=True)
    print(f"{time.monotonic() - begin:.0f} s. (k): only k simulations had the figure. !: not 93-97")


if __name__ == "__main__":
    main()
