"""A scan result: the prediction of a scan, the scan that it refers to, and the model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hemorrhage_tf.dicom_results.derived_uids import derive_name, derive_uid
from hemorrhage_tf.dicom_results.source_scan import SourceScan, SourceSlice
from hemorrhage_tf.inference.predictions import ScanPrediction, SlicePrediction
from hemorrhage_tf.version import __version__

DISCLAIMER = "Research software, not a medical device. Not a diagnosis."
MANUFACTURER = "hemorrhage_tf"


@dataclass(frozen=True)
class AlgorithmFacts:
    """The model behind a result.

    Attributes:
        name: Its name.
        model_hash: Its hash, see `inference.model_hash`.
        parameters: Its operating points, and the options of the prediction.
        slice_threshold: The threshold that the slices of a scan were compared with.
    """

    name: str
    model_hash: str
    parameters: tuple[str, ...]
    slice_threshold: float

    @property
    def version(self) -> str:
        """The version of the package and the beginning of the model's hash."""
        return f"{__version__}, model {self.model_hash[:16]}"

    @property
    def device_uid(self) -> str:
        """The UID of the device observer, which is the model."""
        return derive_uid("device", self.model_hash)


@dataclass(frozen=True)
class ScanResult:
    """The prediction of one scan, from which its DICOM objects are made.

    Attributes:
        source: The scan, with the predicted slices only.
        scan: Its prediction.
        slices: The predictions of its slices, in the same order.
        algorithm: The model.
    """

    source: SourceScan
    scan: ScanPrediction
    slices: tuple[SlicePrediction, ...]
    algorithm: AlgorithmFacts

    @property
    def flagged(self) -> list[int]:
        """The indices of the flagged slices."""
        return [index for index, one in enumerate(self.slices) if one.is_hemorrhage]

    def uid(self, *parts: str) -> str:
        """Return the UID of a part of this result: that of the same result is always the same."""
        return derive_uid(*self._key(), *parts)

    @property
    def folder_name(self) -> str:
        """A name for the folder of its files, without any identity."""
        return f"scan-{derive_name(*self._key())}"

    def series_number(self, kind: int) -> int:
        """Return the Series Number of a kind of object: that of the images with two more digits."""
        return abs(self.source.number) % 10_000 * 100 + kind

    def source_slices(self, indices: Sequence[int]) -> list[SourceSlice]:
        """Return some of the slices that it refers to."""
        return [self.source.slices[index] for index in indices]

    def _key(self) -> tuple[str, ...]:
        instances = (f"{one.instance}#{one.frame}" for one in self.source.slices)
        algorithm = self.algorithm
        return (__version__, algorithm.model_hash, *algorithm.parameters, *instances)
