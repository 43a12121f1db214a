"""Fitting a scan model on the features of phantom scans, and its out-of-fold predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration, fit_calibration
from hemorrhage_tf.models.scan_core import DIRECTIONS
from hemorrhage_tf.models.scan_model import (
    build_scan_model,
    scan_geometry,
    set_scan_calibration,
    set_scan_inputs,
)
from hemorrhage_tf.training.pretraining.scan_samples import ScanFeatures
from hemorrhage_tf.training.pretraining.slice_head import folds_of_scans
from hemorrhage_tf.training.scan_loop import ScanLoop
from hemorrhage_tf.training.scan_samples import ScanSamples
from hemorrhage_tf.training.scan_trainer import principal_axes


@dataclass(frozen=True)
class ScanLogits:
    """Logits of scans and of their slices.

    Attributes:
        scans: float64 `(m,)`.
        slices: float64 `(n,)`.
    """

    scans: np.ndarray
    slices: np.ndarray


@dataclass(frozen=True)
class OutOfFold:
    """Logits of slices and scans by models that did not see their heads.

    Attributes:
        alone: float32 `(n,)`, of the slices alone, from `slice_head.cross_fitted_logits`.
        by_scan_model: From `cross_validate`.
    """

    alone: np.ndarray
    by_scan_model: ScanLogits


def known_positions(scans: ScanFeatures) -> np.ndarray:
    """Return the positions in mm, but NaN in half of the scans of display images.

    Files of display images seldom state positions, so a scan model must do without.
    """
    unknown = scans.display & (scans.scans // 2 % 2 == 0)
    return np.where(unknown, np.nan, scans.positions)


def cross_validate(
    scans: ScanFeatures, alone: np.ndarray, kind: str, folds: int, seed: int
) -> ScanLogits:
    """Predict each scan by a model that was trained on scans of other heads.

    Args:
        scans: The scans.
        alone: float32 `(n,)`, logits of the slices alone, see `slice_head.cross_fitted_logits`.
        kind: Kind of the scan model, see `build_scan_model`.
        folds: Number of folds, see `slice_head.folds_of_scans`.
        seed: Random seed of the folds and of the training.

    Returns:
        Uncalibrated logits.
    """
    fold_of_scan = folds_of_scans(scans, folds, seed)
    logits = ScanLogits(np.zeros(len(scans.members)), np.zeros(len(scans)))
    loop = ScanLoop(kind, seed)
    for fold in range(folds):
        training = _chosen(scans, fold_of_scan != fold)
        inputs = _inputs(scans, alone, principal_axes(scans.features[training], DIRECTIONS))
        loop.train(_samples(scans, training, inputs), "none")
        tested = _chosen(scans, fold_of_scan == fold)
        found = loop.predict(_samples(scans, tested, inputs))
        logits.scans[fold_of_scan == fold], logits.slices[tested] = found
    return logits


def fit_scan_model(
    scans: ScanFeatures,
    head: tuple[np.ndarray, np.ndarray],
    kind: str,
    out_of_fold: OutOfFold,
    seed: int,
) -> tuple[Any, tuple[LogitCalibration, LogitCalibration]]:
    """Train a scan model on all scans, and calibrate it on the logits out of fold.

    Args:
        scans: The scans.
        head: Kernel and bias of the slice head.
        kind: Kind of the scan model, see `build_scan_model`.
        out_of_fold: The logits that the scan model is trained and calibrated on.
        seed: Random seed of the training.

    Returns:
        The `keras.Model` from `build_scan_model`, and the calibrations of its scans and slices.
    """
    axes = principal_axes(scans.features, DIRECTIONS)
    inputs = _inputs(scans, out_of_fold.alone, axes)
    loop = ScanLoop(kind, seed)
    loop.train(_samples(scans, np.arange(len(scans)), inputs), "none")
    model = build_scan_model(kind, scans.features.shape[1])
    set_scan_inputs(model, *head, axes)
    model.get_layer(loop.core.name).set_weights(loop.core.get_weights())
    calibrations = (
        fit_calibration(scans.scan_labels, expit(out_of_fold.by_scan_model.scans)),
        fit_calibration(scans.labels.astype(np.int64), expit(out_of_fold.by_scan_model.slices)),
    )
    pairs = [(each.temperature, each.offset) for each in calibrations]
    set_scan_calibration(model, scans=pairs[0], slices=pairs[1])
    return model, calibrations


def scan_probabilities(model: Any, scans: ScanFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Apply a scan model to each scan.

    Args:
        model: The `keras.Model` from `build_scan_model`.
        scans: The scans.

    Returns:
        float64 probabilities, `(m,)` of the scans and `(n,)` of the slices.
    """
    import tensorflow as tf

    forward = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    positions = known_positions(scans)
    of_scans, of_slices = np.zeros(len(scans.members)), np.zeros(len(scans))
    for number, members in enumerate(scans.members):
        inputs = {
            "features": scans.features[members],
            "geometry": scan_geometry(positions[members]),
            "mask": np.ones(len(members), np.float32),
        }
        found = forward({name: tf.constant(values[np.newaxis]) for name, values in inputs.items()})
        of_scans[number] = found["probability"].numpy()[0, 0]
        of_slices[members] = found["slice_probability"].numpy()[0]
    return of_scans, of_slices


def _chosen(scans: ScanFeatures, is_chosen: np.ndarray) -> np.ndarray:
    """Return the slices of the chosen scans."""
    return np.concatenate([scans.members[scan] for scan in np.flatnonzero(is_chosen)])


def _inputs(scans: ScanFeatures, alone: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return what the scan model sees of each slice: float32 `(n, 1 + DIRECTIONS)`."""
    parts = alone[:, np.newaxis], scans.features @ axes
    return np.concatenate(parts, axis=1).astype(np.float32)


def _samples(scans: ScanFeatures, rows: np.ndarray, inputs: np.ndarray) -> ScanSamples:
    """Return the slices of whole scans as samples of a scan model."""
    labels = scans.labels[rows].astype(np.int64)
    starts = np.flatnonzero(np.diff(scans.scans[rows], prepend=-1))
    return ScanSamples(
        inputs=inputs[rows, np.newaxis],
        offsets=np.append(starts, len(rows)),
        positions=known_positions(scans)[rows],
        labels=labels,
        is_known=np.ones(len(rows), bool),
        scan_labels=np.maximum.reduceat(labels, starts),
    )
