"""What a model predicts: one result for each slice and for each scan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SlicePrediction:
    """What a model says of one slice.

    Attributes:
        path: the file, with `#` and the number of the slice behind it where it holds several.
        probability: P(hemorrhage), in [0, 1].
        is_hemorrhage: whether it is at or above the model's threshold.
        scan: the volume or series that the slice is of, or None.
        cam: the overlay that was written for it, or None.
        warning: what makes it look like something else than a head CT, a clause; or None.
    """

    path: str
    probability: float
    is_hemorrhage: bool
    scan: str | None = None
    cam: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class ScanPrediction:
    """What a model says of one volume or series.

    Attributes:
        scan: the file or folder.
        slices: how many slices it has.
        flagged: how many of them are at or above the model's threshold.
        highest: the highest probability of a slice.
        mean_of_highest: the mean of the three highest, which a single odd slice moves less.
        threshold: the model's for scans.
        is_hemorrhage: whether that mean is at or above it.
    """

    scan: str
    slices: int
    flagged: int
    highest: float
    mean_of_highest: float
    threshold: float
    is_hemorrhage: bool


@dataclass(frozen=True)
class Prediction:
    """Findings, to be gone through like a list, and what they add up to for whole scans.

    Attributes:
        findings: one for each slice; those of a scan follow each other, from the neck up.
        scans: one for each volume and series of more than one slice.
    """

    findings: tuple[SlicePrediction, ...]
    scans: tuple[ScanPrediction, ...]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Gives plain values for JSON: `slices` and `scans`."""
        slices = [
            {
                "path": finding.path,
                "probability": round(finding.probability, 6),
                "hemorrhage": int(finding.is_hemorrhage),
                "scan": finding.scan,
                "warning": finding.warning,
                **({} if finding.cam is None else {"cam": finding.cam}),
            }
            for finding in self.findings
        ]
        scans = [
            {
                "scan": found.scan,
                "slices": found.slices,
                "flagged": found.flagged,
                "highest": round(found.highest, 6),
                "mean_of_top_3": round(found.mean_of_highest, 6),
                "threshold": round(found.threshold, 6),
                "hemorrhage": int(found.is_hemorrhage),
            }
            for found in self.scans
        ]
        return {"slices": slices, "scans": scans}

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[SlicePrediction]:
        return iter(self.findings)

    def __getitem__(self, index: int) -> SlicePrediction:
        return self.findings[index]
