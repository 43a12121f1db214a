"""The samples of a scan model: what its trainable part sees of scans, in padded batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.models.scan_model import scan_geometry

BATCH_SCANS = 64  # scans of a batch at most

# Augmentation: chance that slices at the ends are cropped, and the largest share cropped at each
# end; chance that only every second slice is kept, and the fewest slices that must be left.
_CROP_CHANCE, _LARGEST_CROP = 0.5, 0.15
_THICK_CHANCE, _FEWEST_SLICES = 0.25, 8

# Batches of similar length come from sorting this many batches at a time.
_SORTED_BATCHES = 16


@dataclass(frozen=True)
class ScanSamples:
    """The `m` scans of a training with `n` slices in all, scan after scan.

    Attributes:
        inputs: float32 `(n, views, 1 + DIRECTIONS)`: logit and directions of each view of a slice.
        offsets: int64 `(m + 1,)`: where each scan begins.
        positions: float64 `(n,)` in mm, NaN where unknown.
        labels: int64 `(n,)`, 0 or 1.
        is_known: bool `(n,)`: whether the label of a slice is known, not only that of its scan.
        scan_labels: int64 `(m,)`, 0 or 1.
    """

    inputs: np.ndarray
    offsets: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    is_known: np.ndarray
    scan_labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scan_labels)

    @property
    def lengths(self) -> np.ndarray:
        """int64 `(m,)`: the number of slices of each scan."""
        return np.diff(self.offsets)

    def rows(self, scan: int) -> np.ndarray:
        """Return the rows of a scan's slices, int64."""
        return np.arange(self.offsets[scan], self.offsets[scan + 1])


@dataclass(frozen=True)
class ScanBatch:
    """Padded scans, `n` slices each.

    Attributes:
        inputs: `logit` `(batch, n, 1)`, `directions` `(batch, n, DIRECTIONS)`, `geometry`
            `(batch, n, 3)` and `mask` `(batch, n)`, all float32; see `scan_core.build_scan_core`.
        labels: float32 `(batch, n)`; 0 where unknown and at padding.
        is_known: float32 `(batch, n)`, 1 where the label of a slice is known.
        scan_labels: float32 `(batch, 1)`.
        rows: For each scan the rows of its slices in the samples.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    is_known: np.ndarray
    scan_labels: np.ndarray
    rows: list[np.ndarray]


def count_batches(samples: ScanSamples) -> int:
    """Return the number of batches that hold each scan once."""
    return -(-len(samples) // BATCH_SCANS)


def training_batches(samples: ScanSamples, seed: int, count: int) -> Iterator[ScanBatch]:
    """Yield batches of augmented scans of similar length.

    Each scan comes in a random view. A scan whose slices are labeled is cropped at the ends at
    random, or loses every second slice; its label is then that of what is left.

    Args:
        samples: The scans.
        seed: Random seed.
        count: Number of batches; the scans are repeated in a new order until there are enough.
    """
    rng = np.random.default_rng(seed)
    batches = count_batches(samples)
    yielded = 0
    while yielded < count:
        parts = np.array_split(_order(samples, rng), batches)
        for part in rng.permutation(batches)[: count - yielded]:
            yield _padded(samples, parts[part], rng)
            yielded += 1


def evaluation_batches(samples: ScanSamples) -> Iterator[ScanBatch]:
    """Yield all scans in batches of similar length, as they are."""
    order = np.argsort(samples.lengths, kind="stable")
    for part in np.array_split(order, count_batches(samples)):
        yield _padded(samples, part, None)


def _order(samples: ScanSamples, rng: np.random.Generator) -> np.ndarray:
    """Return a random order in which neighbors have similar lengths."""
    order = rng.permutation(len(samples))
    window = _SORTED_BATCHES * BATCH_SCANS
    parts = [order[begin : begin + window] for begin in range(0, len(order), window)]
    lengths = samples.lengths
    return np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])


def _padded(samples: ScanSamples, scans: np.ndarray, rng: np.random.Generator | None) -> ScanBatch:
    """Make a batch of some scans, augmented by a random generator."""
    views = np.zeros(len(scans), np.int64)
    rows = [samples.rows(scan) for scan in scans]
    if rng is not None:
        views = rng.integers(0, samples.inputs.shape[1], len(scans))
        rows = [_augmented(samples, each, rng) for each in rows]
    lengths = np.array([len(each) for each in rows])
    is_slice = np.arange(lengths.max()) < lengths[:, np.newaxis]
    flat = np.concatenate(rows)
    known = samples.is_known[flat]
    scan_labels = samples.scan_labels[scans].astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    all_known = np.logical_and.reduceat(known, starts)
    scan_labels[all_known] = np.maximum.reduceat(samples.labels[flat], starts)[all_known]
    inputs = _spread(samples.inputs[flat, np.repeat(views, lengths)], is_slice)
    geometry = [scan_geometry(samples.positions[each]) for each in rows]
    return ScanBatch(
        inputs={
            "logit": inputs[:, :, :1],
            "directions": inputs[:, :, 1:],
            "geometry": _spread(np.concatenate(geometry), is_slice),
            "mask": is_slice.astype(np.float32),
        },
        labels=_spread(samples.labels[flat] * known, is_slice),
        is_known=_spread(known, is_slice),
        scan_labels=scan_labels[:, np.newaxis],
        rows=rows,
    )


def _spread(values: np.ndarray, is_slice: np.ndarray) -> np.ndarray:
    """Return values of slices, scan after scan, in padded scans; 0 at padding, float32."""
    padded = np.zeros((*is_slice.shape, *values.shape[1:]), np.float32)
    padded[is_slice] = values
    return padded


def _augmented(samples: ScanSamples, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rows that are left of a scan."""
    # The same numbers are drawn for each scan, so that one scan does not change the others.
    crops, is_thick, is_cropped = rng.random(2) * _LARGEST_CROP, rng.random(), rng.random()
    first = int(rng.integers(0, 2))
    if not samples.is_known[rows].all():
        return rows  # the hemorrhage might be cropped away
    if is_cropped < _CROP_CHANCE:
        low, high = (crops * len(rows)).astype(int)
        rows = rows[low : len(rows) - high]
    if is_thick < _THICK_CHANCE and len(rows) >= 2 * _FEWEST_SLICES:
        rows = rows[first::2]
    return rows
