"""Run the scan model on each scan as soon as the features of its slices are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.scan_model import scan_geometry

RunScan = Callable[[np.ndarray, np.ndarray], ScanOutput]
Members = Sequence[Sequence[int] | np.ndarray]  # the slice indices of each scan


class ScanRunner:
    """Collects the features of slices, and runs the scan model on each scan that is complete.

    Features are released with their scan. So memory does not grow with the number of scans if the
    slices come scan by scan.

    Args:
        run_scan: `Model.run_scan`.
        members: The slice indices of each scan, from the neck to the vertex.
        positions: float64 `(n,)` of all slices, in mm; NaN where unknown.

    Attributes:
        in_scans: float32 `(n,)`, the probability of each slice in its scan; NaN for a slice that
            was left out or belongs to no scan, and while its scan is not complete.
        scans: float32 `(m,)`, the probability of each scan; NaN if none of its slices was added,
            and while it is not complete.
    """

    def __init__(self, run_scan: RunScan, members: Members, positions: np.ndarray) -> None:
        self._run_scan = run_scan
        self._members = members
        self._positions = positions
        self._scan_of = {int(index): scan for scan, each in enumerate(members) for index in each}
        self._missing = [len(each) for each in members]
        self._features: dict[int, np.ndarray] = {}
        self.in_scans = np.full(len(positions), np.nan, np.float32)
        self.scans = np.full(len(members), np.nan, np.float32)

    def reading_order(self) -> list[int]:
        """Return all slices scan by scan, and then those of no scan."""
        in_scans = [int(index) for each in self._members for index in each]
        return [*in_scans, *(i for i in range(len(self.in_scans)) if i not in self._scan_of)]

    def takes(self, index: int) -> bool:
        """Return whether a slice belongs to a scan."""
        return index in self._scan_of

    def add(self, index: int, features: np.ndarray | None) -> None:
        """Add the features of a slice, and run the scan model if it was the last of its scan.

        Args:
            index: The slice; one that belongs to no scan is ignored.
            features: float32 `(width,)`, standardized; None to leave the slice out.
        """
        scan = self._scan_of.get(index)
        if scan is None:
            return
        if features is not None:
            self._features[index] = features
        self._missing[scan] -= 1
        if self._missing[scan] == 0:
            self._run(scan)

    def _run(self, scan: int) -> None:
        members = [int(index) for index in self._members[scan] if int(index) in self._features]
        if not members:
            return
        features = np.stack([self._features.pop(index) for index in members])
        output = self._run_scan(features, scan_geometry(self._positions[members]))
        self.in_scans[members] = output.slice_probabilities
        self.scans[scan] = output.probability
