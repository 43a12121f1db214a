"""Collects the results of slices while they are streamed, and turns them into predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets.series import Listing
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.evidence import Decision
from hemorrhage_tf.inference.predictions import Prediction, SlicePrediction, predict_scans
from hemorrhage_tf.inference.scan_runner import RunScan, ScanRunner
from hemorrhage_tf.inference.slice_stream import SliceBatch


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a model: a probability that reaches one counts as hemorrhage.

    Attributes:
        slices: For slices alone.
        slices_in_scans: For slices in their scans.
        scans: For scans.
    """

    slices: float
    slices_in_scans: float
    scans: float


@dataclass(frozen=True, slots=True)
class _SliceResult:
    probability: float
    warning: str | None
    cam: str | None
    subtypes: dict[str, float] | None


class StreamedResults:
    """Collects the results of the slices, and runs the scan model on each scan that is complete.

    Args:
        listing: The slices and scans to predict.
        thresholds: Those of the model.
        run_scan: `Model.run_scan`; None for a model without a scan model.

    Attributes:
        problems: Files that cannot be used.
        warnings: Files that may not be slices of a head CT.
        is_hounsfield: Whether each valid slice is in HU.
    """

    def __init__(self, listing: Listing, thresholds: Thresholds, run_scan: RunScan | None) -> None:
        self._listing = listing
        self._thresholds = thresholds
        self._results: dict[int, _SliceResult] = {}  # by number of the slice
        self._runner = None
        if run_scan is not None:
            members = [scan.members for scan in listing.scans]
            self._runner = ScanRunner(run_scan, members, listing.positions)
        self.problems = list(listing.problems)
        self.warnings = list(listing.input_warnings)
        self.is_hounsfield: list[bool] = []

    def add_checks(self, batch: SliceBatch) -> None:
        """Add the problems and warnings of a batch, and which of its slices are in HU."""
        self.problems += batch.problems
        for one in batch.valid:
            self.is_hounsfield.append(one.is_hounsfield)
            if one.warning:
                self.warnings.append(Problem(self._name(one.index), one.warning))

    def needs_features(self, batch: SliceBatch) -> bool:
        """Return whether the scan model needs the features of a batch."""
        runner = self._runner
        return runner is not None and any(runner.takes(one.index) for one in batch.valid)

    def add(
        self,
        batch: SliceBatch,
        probabilities: np.ndarray,
        features: np.ndarray | None,
        cams: Sequence[str | None],
        subtypes: Sequence[dict[str, float] | None],
    ) -> None:
        """Add the predictions of a batch.

        Args:
            batch: The batch.
            probabilities: float32 `(n,)`, of its valid slices.
            features: float32 `(n, width)` of its valid slices; None where they are not needed.
            cams: The paths of their overlays, or None.
            subtypes: The probabilities of their subtypes by name, or None.
        """
        results = zip(batch.valid, probabilities, cams, subtypes, strict=True)
        for one, probability, cam, of_subtypes in results:
            self._results[one.index] = _SliceResult(
                float(probability), one.warning, cam, of_subtypes
            )
        if self._runner is None:
            return
        rows: dict[int, np.ndarray] = {}
        if features is not None:
            rows = {one.index: row for one, row in zip(batch.valid, features, strict=True)}
        for index in range(batch.first, batch.first + batch.size):
            self._runner.add(index, rows.get(index))

    def decision(self, index: int) -> Decision | None:
        """Return the decision on a slice; None while the scan model has not seen its whole scan."""
        decision = self._decide(index)
        return None if math.isnan(decision.probability) else decision

    def _decide(self, index: int) -> Decision:
        if self._runner is None or not self._runner.takes(index):
            return Decision(self._results[index].probability, self._thresholds.slices)
        in_scan = float(self._runner.in_scans[index])
        return Decision(in_scan, self._thresholds.slices_in_scans)

    @property
    def predicted_refs(self) -> list[SliceRef]:
        """Where the predicted slices are, in the order of the prediction."""
        return [self._listing.slices[index] for index in self._results]

    def prediction(self) -> Prediction:
        """Return the predictions for slices and scans."""
        scans = {index: scan.name for scan in self._listing.scans for index in scan.members}
        slices = [self._slice(index, scans.get(index)) for index in self._results]
        by_scan = None
        if self._runner is not None:
            names = (scan.name for scan in self._listing.scans)
            by_scan = dict(zip(names, map(float, self._runner.scans), strict=True))
        return Prediction(
            slices=tuple(slices),
            scans=predict_scans(slices, self._thresholds.scans, by_scan),
            left_out=self._listing.left_out,
        )

    def _slice(self, index: int, scan: str | None) -> SlicePrediction:
        one, decision = self._results[index], self._decide(index)
        has_scan_model = self._runner is not None and scan is not None
        return SlicePrediction(
            path=self._name(index),
            probability=one.probability,
            is_hemorrhage=bool(np.float32(decision.probability) >= decision.threshold),
            scan=scan,
            cam=one.cam,
            warning=one.warning,
            probability_in_scan=decision.probability if has_scan_model else None,
            subtypes=one.subtypes,
        )

    def _name(self, index: int) -> str:
        return str(self._listing.slices[index])
