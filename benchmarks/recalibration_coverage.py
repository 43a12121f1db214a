"""Simulate recalibrations: do their 95 % intervals contain what the saved model really does?

Each simulation draws patients with 20 slices (a half of the patients has a hemorrhage, in 4 slices
on average; logits correlate by 0.3 within a patient), predicts them with a model whose logits are
too large by a factor of 1.6 and too high by 1.5, and recalibrates it. The sensitivity and the
specificity of the saved model follow from the distributions; the table shows how often the
intervals after the recalibration contain them, and those before what the old threshold does. It
also shows the mean log-loss of new slices before and after, and how often the log-loss falls.

    python benchmarks/recalibration_coverage.py [--simulations 300] [--sizes 16 20 41 82 164]
"""

import argparse
import time

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.recalibration import (
    RecalibrationSettings,
    fold_numbers,
    recalibrate_level,
    why_not,
)
from hemorrhage_tf.evaluation.resampling import Bootstrap

SLICES, SHOWING = 20, 0.2  # slices of a patient, and the share that shows a hemorrhage
SHIFT = 2**0.5 * norm.ppf(0.85)  # of the scores of slices with hemorrhage: an AUC of 0.85
CORRELATION = 0.3
SLOPE, INTERCEPT = 1.6 * SHIFT, 1.5 - 1.6 * SHIFT**2 / 2  # from a score to the model's logit
THRESHOLD = 0.5
NEW = 20_000


def draw(rng, patients):
    """Draw labels, scores and patients of slices."""
    groups = np.repeat(np.arange(patients), SLICES)
    bleeding = rng.random(patients) < 0.5
    labels = (bleeding[groups] & (rng.random(len(groups)) < SHOWING)).astype(np.int64)
    shared = rng.normal(size=patients)[groups]
    noise = CORRELATION**0.5 * shared + (1 - CORRELATION) ** 0.5 * rng.normal(size=len(groups))
    return labels, noise + SHIFT * labels, groups


def true_shares(threshold):
    """Return sensitivity and specificity of a threshold on the model's logits."""
    score = (threshold - INTERCEPT) / SLOPE
    return {"sensitivity": norm.sf(score - SHIFT), "specificity": norm.cdf(score)}


def log_loss(labels, logits):
    """Return the mean log-loss."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def simulate(rng, patients, settings, bootstraps):
    """Return by name what one simulation shows; None where the data is refused."""
    labels, scores, groups = draw(rng, patients)
    if why_not(labels, groups, settings.folds, "slices"):
        return None
    probabilities = expit(INTERCEPT + SLOPE * scores)
    before = LabeledPredictions(labels, [probabilities], THRESHOLD, groups=groups)
    folds = fold_numbers(labels, groups, settings)
    level = recalibrate_level(before, list(folds), settings.operating_point)
    calibration, point = level.fit.calibration, level.fit.point
    threshold = (logit(point.threshold) - calibration.offset) * calibration.temperature
    result = {}
    for name, predictions, at in (
        ("before", before, logit(THRESHOLD)),
        ("after", level.after, threshold),
    ):
        metrics = compute_metrics(predictions, bootstrap=Bootstrap(bootstraps))
        for metric, truth in true_shares(at).items():
            interval = getattr(metrics, metric)
            result[f"{name}, {metric}"] = interval.low <= truth <= interval.high
            result[f"{name}, {metric}, width"] = interval.high - interval.low
    new_labels, new_scores, _ = draw(rng, NEW // SLICES)
    logits = INTERCEPT + SLOPE * new_scores
    result["log-loss before"] = log_loss(new_labels, logits)
    result["log-loss after"] = log_loss(
        new_labels, logits / calibration.temperature + calibration.offset
    )
    result["log-loss falls"] = result["log-loss after"] < result["log-loss before"]
    return result


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 20, 41, 82, 164])
    parser.add_argument("--operating-point", default="balanced")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bootstraps", type=int, default=400, help="resamples per interval")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = RecalibrationSettings(
        operating_point=arguments.operating_point, repeats=arguments.repeats
    )
    start = time.monotonic()
    for patients in arguments.sizes:
        rng = np.random.default_rng([arguments.seed, patients])
        results = [
            simulate(rng, patients, settings, arguments.bootstraps)
            for _ in range(arguments.simulations)
        ]
        done = [one for one in results if one is not None]
        print(f"{patients} patients: {len(results) - len(done)} of {len(results)} refused")
        for name in done[0] if done else ():
            print(f"  {name:<28} {np.mean([one[name] for one in done]):.3f}", flush=True)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
