"""The results of a prediction: one for each slice, one for each scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hemorrhage_tf.datasets.series_choice import LeftOutSeries
from hemorrhage_tf.models.scan_score import TOP_SLICES, mean_of_highest

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ScanOutput:
    """What a scan model returns for one scan.

    Attributes:
        probability: P(hemorrhage) of the scan, in [0, 1].
        slice_probabilities: float32 `(n,)`, P(hemorrhage) of each slice, given the whole scan.
    """

    probability: float
    slice_probabilities: np.ndarray


@dataclass(frozen=True)
class ScanProbabilities:
    """The probabilities of slices, alone and in their scans, and of the scans.

    Attributes:
        slices: float32 `(n,)`, P(hemorrhage) of each slice alone.
        in_scans: float32 `(n,)`, P(hemorrhage) of each slice in its scan; NaN for a slice of no
            scan, and for all slices without a scan model.
        scans: float32 `(m,)`, P(hemorrhage) of each scan; without a scan model its score, see
            `scan_score`.
        subtypes: float32 `(n, subtypes)`, the probability of each subtype; None of a model without
            subtypes. Defaults to None.
    """

    slices: np.ndarray
    in_scans: np.ndarray
    scans: np.ndarray
    subtypes: np.ndarray | None = None


@dataclass(frozen=True)
class SlicePrediction:
    """A model's prediction for one slice.

    Attributes:
        path: The file; `FILE#N` for slice N of a file that holds several.
        probability: P(hemorrhage) of the slice alone, in [0, 1].
        is_hemorrhage: Whether the probability reaches the model's threshold; in a scan, if the
            model has a scan model, whether `probability_in_scan` reaches the threshold for it.
        scan: The scan that the slice belongs to, or None.
        cam: Path of the overlay with the class activation map, or None.
        warning: Why the slice does not look like a head CT, or None.
        probability_in_scan: P(hemorrhage) of the slice, given the whole scan; None for a slice of
            no scan, and for a model without a scan model.
        subtypes: The probability of each subtype by name, of the slice alone; None for a model
            without subtypes.

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
    probability_in_scan: float | None = None
    subtypes: Mapping[str, float] | None = None

    @property
    def likeliest_subtype(self) -> str | None:
        """The subtype with the highest probability; None for a model without subtypes."""
        return max(self.subtypes, key=self.subtypes.__getitem__) if self.subtypes else None

    @property
    def final_probability(self) -> float:
        """The probability that decides: the one in the scan if there is one, else that alone."""
        return self.probability if self.probability_in_scan is None else self.probability_in_scan

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `cam` only where an overlay was written.

        `subtypes` is there for a model with subtypes only.
        """
        in_scan = self.probability_in_scan
        values: dict[str, Any] = {
            "path": self.path,
            "probability": round(self.probability, 6),
            "hemorrhage": int(self.is_hemorrhage),
            "scan": self.scan,
            "warning": self.warning,
            "probability_in_scan": None if in_scan is None else round(in_scan, 6),
        }
        if self.subtypes is not None:
            values["subtypes"] = {name: round(one, 6) for name, one in self.subtypes.items()}
        return values if self.cam is None else {**values, "cam": self.cam}

    def to_row(self) -> dict[str, Any]:
        """Return plain values for a table: a column `probability_NAME` for each subtype."""
        row = self.to_dict()
        for name, probability in row.pop("subtypes", {}).items():
            row[f"probability_{name}"] = probability
        return row


class Previews(Protocol):
    """Draws slices of a prediction."""

    def draw(self, index: int, prediction: SlicePrediction) -> Image.Image | None:
        """Draw a slice; see `previews.SlicePreviews`."""


@dataclass(frozen=True)
class ScanPrediction:
    """A model's prediction for one scan.

    Attributes:
        scan: The file or folder of the scan.
        probability: P(hemorrhage) of the scan, from the scan model; for a model without one the
            mean of the three highest probabilities.
        threshold: The model's threshold for scans.
        is_hemorrhage: Whether the probability reaches it.
        slices: Number of slices.
        flagged: Number of slices that are predicted hemorrhage.
        highest: Highest probability of a slice alone.
        mean_of_highest: Mean of the three highest probabilities of slices alone.
        top_slices: Paths of the slices to look at: the three with the highest probability in the
            scan (without a scan model: alone), highest first.
        top_positions: Their places in the scan, counted from 1 at the neck.

    Example:
        >>> import hemorrhage_tf as htf
        >>> scan = htf.predict("series", quiet=True).scans[0]
        >>> isinstance(scan, htf.ScanPrediction), scan.slices, len(scan.top_slices)
        (True, 5, 3)
    """

    scan: str
    probability: float
    threshold: float
    is_hemorrhage: bool
    slices: int
    flagged: int
    highest: float
    mean_of_highest: float
    top_slices: tuple[str, ...] = ()
    top_positions: tuple[int, ...] = ()

    @property
    def disagreement(self) -> str | None:
        """A sentence on slices and scan if only one of them is predicted hemorrhage, or None."""
        if self.flagged and not self.is_hemorrhage:
            return "The scan is below its threshold, although slices are above theirs."
        if self.is_hemorrhage and not self.flagged:
            return "The scan is above its threshold, although no slice is above its own."
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "scan": self.scan,
            "probability": round(self.probability, 6),
            "threshold": round(self.threshold, 6),
            "hemorrhage": int(self.is_hemorrhage),
            "slices": self.slices,
            "flagged": self.flagged,
            "highest": round(self.highest, 6),
            "mean_of_top_3": round(self.mean_of_highest, 6),
            "top_slices": list(self.top_slices),
            "top_positions": list(self.top_positions),
        }


@dataclass(frozen=True)
class Prediction:
    """The predictions for some slices, and for the scans that they belong to.

    Iterating and indexing go over the slices.

    Attributes:
        slices: One for each slice; those of a scan follow each other, from the neck to the vertex.
        scans: One for each series or volume of more than one slice.
        left_out: The series of a study that were not used, with the reason. Defaults to none.
        previews: Draws slices for a notebook; None if that is not possible. It is no part of the
            result, is not compared, and is not pickled. Defaults to None.

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
    left_out: tuple[LeftOutSeries, ...] = ()
    previews: Previews | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return plain values for JSON: `scans`, `slices` and `left_out`."""
        return {
            "scans": [one.to_dict() for one in self.scans],
            "slices": [one.to_dict() for one in self.slices],
            "left_out": [one.to_dict() for one in self.left_out],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return plain values for a table: a row for each slice, with the columns of its scan.

        `scan_probability` and `scan_hemorrhage` repeat the prediction of the scan. `place` is the
        place of the slice in the scan, counted from 1 at the neck; `rank` is 1 for the slice to
        look at first, up to 3. They are empty for a slice of no scan.
        """
        scans = {one.scan: one for one in self.scans}
        places: Counter[str] = Counter()
        rows = []
        for one in self.slices:
            row = one.to_row()
            scan = None if one.scan is None else scans.get(one.scan)
            values: dict[str, Any] = dict.fromkeys(
                ("scan_probability", "scan_hemorrhage", "place", "rank")
            )
            if scan is not None:
                places[scan.scan] += 1
                place = places[scan.scan]
                is_top = place in scan.top_positions
                values = {
                    "scan_probability": round(scan.probability, 6),
                    "scan_hemorrhage": int(scan.is_hemorrhage),
                    "place": place,
                    "rank": scan.top_positions.index(place) + 1 if is_top else None,
                }
            rows.append(row | values)
        return rows

    def _repr_html_(self) -> str:
        from hemorrhage_tf.inference.prediction_html import prediction_html

        return prediction_html(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "previews": None}

    def __len__(self) -> int:
        return len(self.slices)

    def __iter__(self) -> Iterator[SlicePrediction]:
        return iter(self.slices)

    def __getitem__(self, index: int) -> SlicePrediction:
        return self.slices[index]


def predict_scans(
    slices: Sequence[SlicePrediction],
    scan_threshold: float,
    scan_probabilities: Mapping[str, float] | None = None,
) -> tuple[ScanPrediction, ...]:
    """Combine the predictions of slices into one for each scan.

    Args:
        slices: The predictions of the slices; those of a scan from the neck to the vertex.
        scan_threshold: The model's threshold for scans.
        scan_probabilities: P(hemorrhage) of each scan by its name, from the scan model. Defaults to
            None, for the mean of the three highest probabilities.

    Returns:
        One prediction for each scan, in the order in which the scans first occur.
    """
    members: dict[str, list[SlicePrediction]] = {}
    for one in slices:
        if one.scan is not None:
            members.setdefault(one.scan, []).append(one)
    predictions = []
    for scan, each in members.items():
        alone = np.array([one.probability for one in each], np.float32)
        final = np.array([one.final_probability for one in each], np.float32)
        score = np.float32(mean_of_highest(alone))
        probability = score if scan_probabilities is None else np.float32(scan_probabilities[scan])
        top = np.argsort(-final, kind="stable")[:TOP_SLICES]
        predictions.append(
            ScanPrediction(
                scan=scan,
                probability=float(probability),
                threshold=scan_threshold,
                is_hemorrhage=bool(probability >= scan_threshold),
                slices=len(each),
                flagged=sum(one.is_hemorrhage for one in each),
                highest=float(alone.max()),
                mean_of_highest=float(score),
                top_slices=tuple(each[index].path for index in top),
                top_positions=tuple(int(index) + 1 for index in top),
            )
        )
    return tuple(predictions)
