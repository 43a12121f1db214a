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
from hemorrhage_tf.training.scan_loop import ScanLoop
from hemorrhage_tf.training.scan_samples import ScanSamples
from hemorrhage_tf.training.scan_trainer import principal_axes


@dataclass(frozen=True)
class SliceInputs:
    """What a scan model computes of each slice alone.

    Attributes:
        kernel: float32 `(width, 1)`, of the slice head.
        bias: float32 `(1,)`, of the slice head.
        axes: float32 `(width, DIRECTIONS)`, which standardized features are multiplied by.
    """

    kernel: np.ndarray
    bias: np.ndarray
    axes: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return logit and directions: float32 `(n, 1 + DIRECTIONS)`."""
        parts = features @ self.kernel + self.bias, features @ self.axes
        return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class ScanLogits:
    """Logits of scans and of their slices.

    Attributes:
        scans: float64 `(m,)`.
        slices: float64 `(n,)`.
    """

    scans: np.ndarray
    slices: np.ndarray


def known_positions(scans: ScanFeatures) -> np.ndarray:
    """Return the positions in mm, but NaN in half of the scans of display images.

    Files of display images seldom state positions, so a scan model must do without.
    """
    unknown = scans.display & (scans.scans // 2 % 2 == 0)
    return np.where(unknown, np.nan, scans.positions)


def cross_validate(
    scans: ScanFeatures, head: tuple[np.ndarray, np.ndarray], kind: str, folds: int, seed: int
) -> ScanLogits:
    """Predict each scan by a model that was trained on scans of other heads.

    Args:
        scans: The scans.
        head: Kernel and bias of a slice head that saw none of the scans.
        kind: Kind of the scan model, see `build_scan_model`.
        folds: Number of folds. Both scans of a head are in the same one.
        seed: Random seed of the folds and of the training.

    Returns:
        Uncalibrated logits.
    """
    heads, head_of_scan = np.unique(_first(scans.scans, scans) // 2, return_inverse=True)
    fold_of_head = np.random.default_rng(seed).permutation(len(heads)) % folds
    fold_of_scan = fold_of_head[head_of_scan]
    logits = ScanLogits(np.zeros(len(scans.members)), np.zeros(len(scans)))
    loop = ScanLoop(kind, seed)
    for fold in range(folds):
        training = _chosen(scans, fold_of_scan != fold)
        inputs = SliceInputs(*head, principal_axes(scans.features[training], DIRECTIONS))
        loop.train(_samples(scans, training, inputs), "none")
        tested = _chosen(scans, fold_of_scan == fold)
        found = loop.predict(_samples(scans, tested, inputs))
        logits.scans[fold_of_scan == fold], logits.slices[tested] = found
    return logits


def fit_scan_model(
    scans: ScanFeatures,
    head: tuple[np.ndarray, np.ndarray],
    kind: str,
    out_of_fold: ScanLogits,
    seed: int,
) -> tuple[Any, tuple[LogitCalibration, LogitCalibration]]:
    """Train a scan model on all scans, and calibrate it on the logits out of fold.

    Args:
        scans: The scans.
        head: Kernel and bias of a slice head that saw none of the scans.
        kind: Kind of the scan model, see `build_scan_model`.
        out_of_fold: From `cross_validate` with the same arguments.
        seed: Random seed of the training.

    Returns:
        The `keras.Model` from `build_scan_model`, and the calibrations of its scans and slices.
    """
    inputs = SliceInputs(*head, principal_axes(scans.features, DIRECTIONS))
    loop = ScanLoop(kind, seed)
    loop.train(_samples(scans, np.arange(len(scans)), inputs), "none")
    model = build_scan_model(kind, scans.features.shape[1])
    set_scan_inputs(model, inputs.kernel, inputs.bias, inputs.axes)
    model.get_layer(loop.core.name).set_weights(loop.core.get_weights())
    calibrations = (
        fit_calibration(scans.scan_labels, expit(out_of_fold.scans)),
        fit_calibration(scans.labels.astype(np.int64), expit(out_of_fold.slices)),
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


def _first(values: np.ndarray, scans: ScanFeatures) -> np.ndarray:
    """Return the value of the first slice of each scan."""
    return values[[members[0] for members in scans.members]]


def _chosen(scans: ScanFeatures, is_chosen: np.ndarray) -> np.ndarray:
    """Return the slices of the chosen scans."""
    return np.concatenate([scans.members[scan] for scan in np.flatnonzero(is_chosen)])


def _samples(scans: ScanFeatures, rows: np.ndarray, inputs: SliceInputs) -> ScanSamples:
    """Return the slices of whole scans as samples of a scan model."""
    labels = scans.labels[rows].astype(np.int64)
    starts = np.flatnonzero(np.diff(scans.scans[rows], prepend=-1))
    return ScanSamples(
        inputs=inputs(scans.features[rows])[:, np.newaxis],
        offsets=np.append(starts, len(rows)),
        positions=known_positions(scans)[rows],
        labels=labels,
        is_known=np.ones(len(rows), bool),
        scan_labels=np.maximum.reduceat(labels, starts),
    )
