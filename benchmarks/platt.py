"""Compare ways to fit a Platt calibration on small sets, by simulation.

Labels are drawn with a given prevalence, and scores of two normal distributions; their logits are
those of balanced class weights, and too extreme by half. A calibration is fitted on n slices, and
its expected log-loss on further slices is compared with that of the true probabilities:

    python benchmarks/platt.py --trials 100

Prints for each setting the mean excess of the log-loss: of maximum likelihood (nothing is
calibrated where the classes are separated), of Platt's smoothed targets, of Firth's penalty (what
the package does), and without calibration.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration, fit_calibration

BOLDNESS = 1.5
WAYS = ("likelihood", "smoothed", "firth", "none")


def logistic_regression(scores: np.ndarray, labels: np.ndarray, smoothed: bool) -> LogitCalibration:
    """Fit by scikit-learn, with Platt's targets if requested."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not smoothed and positive.min() >= negative.max():
        return LogitCalibration()
    n_positive, n_negative = len(positive), len(negative)
    of_positive, of_negative = (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)
    targets = np.where(labels == 1, of_positive, of_negative) if smoothed else labels
    model = LogisticRegression(C=math.inf, tol=1e-8, max_iter=10_000, solver="newton-cg")
    model.fit(
        np.tile(scores, 2)[:, None],
        np.repeat([1, 0], len(labels)),
        np.concatenate([targets, 1 - targets]),
    )
    slope = float(np.clip(model.coef_[0, 0], 0.05, 20))
    return LogitCalibration(1 / slope, float(model.intercept_[0]))


def excess(rng: np.random.Generator, n: int, prevalence: float, distance: float) -> list[float]:
    """Return the excess of the log-loss for each of WAYS; an empty list for one class."""
    labels = (rng.random(n) < prevalence).astype(int)
    if labels.min() == labels.max():
        return []
    logits = distance * (rng.normal(size=n) + distance * (labels - 0.5))
    scores = BOLDNESS * logits
    fits = {
        "likelihood": logistic_regression(scores, labels, smoothed=False),
        "smoothed": logistic_regression(scores, labels, smoothed=True),
        "firth": fit_calibration(labels, expit(scores)),
        "none": LogitCalibration(),
    }
    is_positive = rng.random(20_000) < prevalence
    further = distance * (rng.normal(size=20_000) + distance * (is_positive - 0.5))
    true = further + math.log(prevalence / (1 - prevalence))
    best = np.logaddexp(0, true) - expit(true) * true
    losses = []
    for way in WAYS:
        linear = BOLDNESS * further / fits[way].temperature + fits[way].offset
        losses.append(float(np.mean(np.logaddexp(0, linear) - expit(true) * linear - best)))
    return losses


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="sets for each setting")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'slices':>6} {'prevalence':>10} {'ROC AUC':>8}", *(f"{way:>11}" for way in WAYS))
    for n in (20, 40, 100, 300, 1200):
        for prevalence in (0.13, 0.5):
            for distance in (1.5, 2.5, 4.0):
                trials = [excess(rng, n, prevalence, distance) for _ in range(options.trials)]
                means = np.mean([trial for trial in trials if trial], axis=0)
                area = 0.5 * (1 + math.erf(distance / 2))
                print(
                    f"{n:>6} {prevalence:>10} {area:>8.3f}", *(f"{mean:>11.4f}" for mean in means)
                )


if __name__ == "__main__":
    main()
