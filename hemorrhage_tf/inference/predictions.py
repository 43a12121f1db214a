"""The results of a prediction: one for each slice, one for each scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.models.scan_score import mean_of_highest


@dataclass(frozen=True)
class SlicePrediction:
    """A model's prediction for one slice.

    Attributes:
        path: The file; `FILE#N` for slice N of a file that holds several.
        probability: P(hemorrhage), in [0, 1].
        is_hemorrhage: Whether the probability reaches the model's threshold.
        scan: The scan that the slice belongs to, or None.
        cam: Path of the overlay with the class activation map, or None.
        warning: Why the slice does not look like a head CT, or None.

    Example:
        >>> import hemorrhage_tf as htf
        >>> one = htf.SlicePrediction("slice.png", probability=0.9, is_hemorrhage=True)
        >>> one.to_dict()["hemorrhage"]
        1
    """

    path: str
    probability: float
    is_hemorrhage: bool
    scan: str | None = None
    cam: str | None = None
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `cam` only where an overlay was written."""
        values = {
            "path": self.path,
            "probability": round(self.probability, 6),
            "hemorrhage": int(self.is_hemorrhage),
            "scan": self.scan,
            "warning": self.warning,
        }
        return values if self.cam is None else {**values, "cam": self.cam}


@dataclass(frozen=True)
class ScanPrediction:
    """A model's prediction for one scan.

    Attributes:
        scan: The file or folder of the scan.
        slices: Number of slices.
        flagged: Number of slices whose probability reaches the slice threshold.
        highest: Highest probability of a slice.
        mean_of_highest: Mean of the three highest probabilities, the score of the scan.
        threshold: The model's threshold for scans.
        is_hemorrhage: Whether the score reaches it.

    Example:
        >>> import hemorrhage_tf as htf
        >>> scan = htf.predict("series", quiet=True).scans[0]
        >>> isinstance(scan, htf.ScanPrediction), scan.slices
        (True, 5)
    """

    scan: str
    slices: int
    flagged: int
    highest: float
    mean_of_highest: float
    threshold: float
    is_hemorrhage: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "scan": self.scan,
            "slices": self.slices,
            "flagged": self.flagged,
            "highest": round(self.highest, 6),
            "mean_of_top_3": round(self.mean_of_highest, 6),
            "threshold": round(self.threshold, 6),
            "hemorrhage": int(self.is_hemorrhage),
        }


@dataclass(frozen=True)
class Prediction:
    """The predictions for some slices, and for the scans that they belong to.

    Iterating and indexing go over the slices.

    Attributes:
        slices: One for each slice; those of a scan follow each other, from the neck to the vertex.
        scans: One for each series or volume of more than one slice.

    Example:
        >>> import hemorrhage_tf as htf
        >>> prediction = htf.predict("series", quiet=True)
        >>> len(prediction), prediction.scans[0].slices
        (5, 5)
        >>> 0 <= prediction[0].probability <= 1
        True
    """

    slices: tuple[SlicePrediction, ...]
    scans: tuple[ScanPrediction, ...]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return plain values for JSON: `slices` and `scans`."""
        return {
            "slices": [one.to_dict() for one in self.slices],
            "scans": [one.to_dict() for one in self.scans],
        }

    def __len__(self) -> int:
        return len(self.slices)

    def __iter__(self) -> Iterator[SlicePrediction]:
        return iter(self.slices)

    def __getitem__(self, index: int) -> SlicePrediction:
        return self.slices[index]


def predict_scans(
    scans: Sequence[str | None],
    probabilities: np.ndarray,
    *,
    threshold: float,
    scan_threshold: float,
) -> tuple[ScanPrediction, ...]:
    """Combine the predictions of slices into one for each scan.

    Args:
        scans: `(n,)`, the scan of each slice, or None.
        probabilities: `(n,)`, P(hemorrhage) of each slice.
        threshold: The model's threshold for slices.
        scan_threshold: The model's threshold for scans.

    Returns:
        One prediction for each scan, in the order in which the scans first occur.
    """
    members: dict[str, list[int]] = {}
    for index, scan in enumerate(scans):
        if scan is not None:
            members.setdefault(scan, []).append(index)
    predictions = []
    for scan, indices in members.items():
        values = probabilities[indices]
        score = np.float32(mean_of_highest(values))
        predictions.append(
            ScanPrediction(
                scan=scan,
                slices=len(indices),
                flagged=int((values >= threshold).sum()),
                highest=float(values.max()),
                mean_of_highest=float(score),
                threshold=scan_threshold,
                is_hemorrhage=bool(score >= scan_threshold),
            )
        )
    return tuple(predictions)
