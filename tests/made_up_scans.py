"""Features of made-up scans, without images, for tests and benchmarks of scan models."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.scan_index import ScanIndex
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features.table import FeatureTable
from hemorrhage_tf.training.settings import FitSettings


class MadeUpFeatures(FeatureTable):
    """Features that are drawn when they are read: the same for the same row.

    A slice with hemorrhage has a higher first feature; the noise has a deviation of 1.

    Args:
        labels: `(n,)`, 0 or 1.
        views: Number of views of each slice.
        width: Number of features.
        strength: How much higher the first feature is. Defaults to 1.5.
    """

    def __init__(self, labels: np.ndarray, views: int, width: int, strength: float = 1.5) -> None:
        self._offsets = np.arange(len(labels) + 1) * views
        self._labels, self._views, self.width = labels, views, width
        self._strength = strength
        self._noise = np.random.default_rng(0).normal(size=(4096, width)).astype(np.float32)

    def take(self, rows: np.ndarray) -> np.ndarray:
        features = self._noise[(rows * 2_654_435_761 >> 7) % len(self._noise)].copy()
        features[:, 0] += self._strength * self._labels[rows // self._views]
        return features


def draw_scan_labels(lengths: np.ndarray) -> list[np.ndarray]:
    """Draw labels of slices; every second scan has a hemorrhage in neighboring slices."""
    rng = np.random.default_rng(0)
    labels = []
    for scan, length in enumerate(lengths):
        blood = np.zeros(length, np.int64)
        if scan % 2:
            begin = rng.integers(0, length // 2 + 1)
            blood[begin : begin + max(1, length // 6)] = 1
        labels.append(blood)
    return labels


def make_scan_context(lengths: np.ndarray, *, is_weak: bool = False, cluster=SINGLE, **settings):
    """Make a context of scans, each of another patient, in random order of their slices.

    Args:
        lengths: Number of slices of each scan.
        is_weak: Whether only scans are labeled.
        cluster: The workers.
        **settings: Of the fit.
    """
    by_scan = draw_scan_labels(lengths)
    count = int(np.sum(lengths))
    order = np.random.default_rng(1).permutation(count)
    members = np.split(order, np.cumsum(lengths)[:-1])
    labels, patients = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for patient, (rows, of_scan) in enumerate(zip(members, by_scan, strict=True)):
        labels[rows] = of_scan.max() if is_weak else of_scan
        patients[rows] = patient
    slices = type("Slices", (), {"__len__": lambda self: count})()
    slices.labels, slices.groups, slices.patient_groups = labels, patients, patients
    slices.has_slice_label = np.full(count, not is_weak)
    slices.scans = ScanIndex(
        names=tuple(f"scan {number}" for number in range(len(lengths))),
        members=tuple(members),
        positions=np.full(count, np.nan),
        labels=np.array([each.max() for each in by_scan]),
        has_slice_labels=np.full(len(lengths), not is_weak),
        patients=np.arange(len(lengths)),
    )
    true_labels = np.zeros(count, np.int64)
    true_labels[order] = np.concatenate(by_scan)
    return SimpleNamespace(
        slices=slices,
        settings=FitSettings(backbone="tiny", **settings),
        progress=Progress(quiet=True),
        cluster=cluster,
        cache_folder=Path("."),
        true_labels=true_labels,
        targets=labels[:, np.newaxis],
    )
