"""The levels of an evaluation: slices alone, slices in their scans, and scans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.scan_index import ScanIndex
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.subtype_columns import subtype_columns
from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.scan_metrics import (
    SCANS,
    SLICES,
    SLICES_IN_SCANS,
    ScanSet,
    scan_details,
)
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import (
    ScanPrediction,
    ScanProbabilities,
    SlicePrediction,
    predict_scans,
)
from hemorrhage_tf.training.fold_metrics import has_labeled_hemorrhage, known_labels


@dataclass(frozen=True, eq=False)
class CountedUnits:
    """What the metrics of an evaluation count.

    Attributes:
        slices: All slices.
        labeled: int64 `(k,)`: the slices whose label is known; all single slices.
        scans: The scans; a slice outside of scans is one of its own where only scans are counted.
        counts_slices: Whether slices are counted at all: not where labels belong to scans only.
    """

    slices: SliceIndex
    labeled: np.ndarray
    scans: ScanIndex
    counts_slices: bool

    @classmethod
    def of(cls, slices: SliceIndex) -> CountedUnits:
        """Find what to count in labeled slices."""
        everything = np.arange(len(slices))
        counts_slices = has_labeled_hemorrhage(slices, everything)
        scans = slices.scans if counts_slices else _with_single_slices(slices)
        return cls(slices, known_labels(slices, everything), scans, counts_slices)

    @property
    def level(self) -> str:
        """What the main metrics count: "slice" or "scan"."""
        return "slice" if self.counts_slices else "scan"

    @property
    def main_level(self) -> str:
        """The level of the main metrics, as `scan_metrics` names it."""
        return SLICES if self.counts_slices else SCANS

    @property
    def scan_patients(self) -> np.ndarray | None:
        """The patient of each scan `(m,)`, or None where no patient is known."""
        return None if self.slices.patient_groups is None else self.scans.patients


def _with_single_slices(slices: SliceIndex) -> ScanIndex:
    """Return the scans, and each slice outside of them as a scan of one slice."""
    scans = slices.scans
    inside = np.concatenate([np.empty(0, np.int64), *scans.members])
    single = np.setdiff1d(np.arange(len(slices)), inside)
    groups = slices.groups if slices.patient_groups is None else slices.patient_groups
    names = slices.names
    return replace(
        scans,
        names=(*scans.names, *(names[index] for index in single)),
        members=(*scans.members, *(np.array([index]) for index in single)),
        labels=np.concatenate([scans.labels, slices.labels[single]]),
        has_slice_labels=np.concatenate([scans.has_slice_labels, slices.has_slice_label[single]]),
        patients=np.concatenate([scans.patients, groups[single]]),
    )


@dataclass(frozen=True, eq=False)
class ModelLevels:
    """The predictions of one model at each level.

    Attributes:
        units: What is counted.
        model: The model.
        probabilities: Of the slices, alone and in their scans, and of the scans.
    """

    units: CountedUnits
    model: Model
    probabilities: ScanProbabilities

    @cached_property
    def levels(self) -> dict[str, LabeledPredictions]:
        """The labeled predictions of each level that applies, by its name."""
        units, model, probabilities = self.units, self.model, self.probabilities
        levels = {}
        if units.counts_slices:
            levels[SLICES] = self._of_slices(units.labeled, probabilities.slices, model.threshold)
            in_scans = units.labeled[units.scans.scan_of_slice[units.labeled] >= 0]
            if model.has_scan_model and len(in_scans):
                levels[SLICES_IN_SCANS] = self._of_slices(
                    in_scans, probabilities.in_scans, model.slice_in_scan_threshold
                )
        if len(units.scans):
            levels[SCANS] = LabeledPredictions(
                labels=units.scans.labels,
                repeats=[probabilities.scans],
                threshold=model.scan_threshold,
                groups=units.scan_patients,
                unit=SCANS,
            )
        return levels

    def _of_slices(
        self, indices: np.ndarray, probabilities: np.ndarray, threshold: float
    ) -> LabeledPredictions:
        patients = self.units.slices.patient_groups
        return LabeledPredictions(
            labels=self.units.slices.labels[indices],
            repeats=[probabilities[indices]],
            threshold=threshold,
            groups=None if patients is None else patients[indices],
        )

    @cached_property
    def decisions(self) -> dict[str, np.ndarray]:
        """The decisions on slices, bool `(n,)`, alone and, with a scan model, in their scans."""
        model, probabilities = self.model, self.probabilities
        decisions = {SLICES: probabilities.slices >= model.threshold}
        if model.has_scan_model:
            # NaN outside of scans, where nothing is flagged.
            decisions[SLICES_IN_SCANS] = probabilities.in_scans >= model.slice_in_scan_threshold
        return decisions

    def metrics(self, prevalence: float | None) -> dict[str, Any]:
        """Compute the metrics of all levels, as `Evaluation.metrics` holds them.

        Args:
            prevalence: See `evaluation.metrics.compute_metrics`.
        """
        augmented = ", with test-time augmentation" if self.model.uses_tta else ""
        of_level = {
            name: {
                **compute_metrics(predictions, prevalence=prevalence).to_dict(),
                "evaluated_on": f"{len(predictions.labels)} {predictions.unit}{augmented}",
            }
            for name, predictions in self.levels.items()
        }
        return {
            **of_level[self.units.main_level],
            "level": self.units.level,
            SLICES_IN_SCANS: of_level.get(SLICES_IN_SCANS),
            SCANS: of_level.get(SCANS),
            "scan_details": self._details(),
        }

    def _details(self) -> dict[str, Any] | None:
        units, levels = self.units, self.levels
        if SCANS not in levels:
            return None
        slices = units.slices
        scan_set = ScanSet(
            scans=levels[SCANS],
            members=units.scans.members,
            decisions=self.decisions,
            groups=slices.patient_groups,
            subtypes=subtype_columns(slices.manifest),
            labeled=slices.has_slice_label,
        )
        return scan_details(scan_set).to_dict()

    def predictions(self) -> tuple[tuple[SlicePrediction, ...], tuple[ScanPrediction, ...]]:
        """Return a prediction for each slice, in the order of the manifest, and for each scan."""
        slices, scans, probabilities = self.units.slices, self.units.scans, self.probabilities
        decisions = self.decisions
        in_scans = probabilities.in_scans
        scan_of_slice = scans.scan_of_slice
        names, subtypes = self.model.subtypes, probabilities.subtypes
        predictions = []
        for index, (name, warning) in enumerate(zip(slices.names, slices.warnings, strict=True)):
            scan, in_scan = scan_of_slice[index], float(in_scans[index])
            deciding = SLICES if np.isnan(in_scan) else SLICES_IN_SCANS
            predictions.append(
                SlicePrediction(
                    path=name,
                    probability=float(probabilities.slices[index]),
                    is_hemorrhage=bool(decisions[deciding][index]),
                    scan=None if scan < 0 else scans.names[scan],
                    warning=warning,
                    probability_in_scan=None if np.isnan(in_scan) else in_scan,
                    subtypes=None
                    if subtypes is None
                    else dict(zip(names, subtypes[index].tolist(), strict=True)),
                )
            )
        from_neck_to_vertex = [predictions[index] for each in scans.members for index in each]
        of_scans = predict_scans(
            from_neck_to_vertex,
            self.model.scan_threshold,
            dict(zip(scans.names, probabilities.scans.tolist(), strict=True)),
        )
        return tuple(predictions), of_scans


def compare_levels(first: ModelLevels, second: ModelLevels) -> dict[str, dict[str, Any]]:
    """Compare two models at each level that both have; see `evaluation.comparison.compare`."""
    comparisons = {}
    others = second.levels
    for name, one in first.levels.items():
        if name not in others:
            continue
        other = others[name]
        comparison = compare(
            one.labels,
            one.repeats[0],
            other.repeats[0],
            (one.threshold, other.threshold),
            groups=one.groups,
        )
        if comparison["intervals_of"] == SLICES:
            comparison["intervals_of"] = one.unit
        comparisons[name] = comparison
    return comparisons
