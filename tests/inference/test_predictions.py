import dataclasses
import json

import pytest

from hemorrhage_tf.datasets.series_choice import LeftOutSeries
from hemorrhage_tf.inference.predictions import (
    Prediction,
    ScanPrediction,
    SlicePrediction,
    predict_scans,
)

SLICE = SlicePrediction(path="a.dcm", probability=0.123456789, is_hemorrhage=False, scan="series")
SCAN = ScanPrediction(
    scan="series",
    probability=0.7654321,
    threshold=0.5,
    is_hemorrhage=True,
    slices=2,
    flagged=0,
    highest=0.123456789,
    mean_of_highest=0.1,
    top_slices=("a.dcm", "b.dcm"),
    top_positions=(2, 1),
)


LEFT_OUT = LeftOutSeries("3", "study", 9, "not axial")


class TestScanPrediction:
    @pytest.mark.parametrize(
        ("is_hemorrhage", "flagged", "words"),
        [
            (True, 0, "above its threshold, although no slice"),
            (False, 2, "below its threshold, although slices"),
            (True, 2, None),
            (False, 0, None),
        ],
    )
    def test_says_where_slices_and_scan_disagree(self, is_hemorrhage, flagged, words):
        scan = dataclasses.replace(SCAN, is_hemorrhage=is_hemorrhage, flagged=flagged)
        assert scan.disagreement is None if words is None else words in scan.disagreement


class TestPrediction:
    def test_is_a_sequence_of_slice_predictions(self):
        other = SlicePrediction("b.dcm", 0.9, True)
        prediction = Prediction((SLICE, other), (SCAN,))
        assert len(prediction) == 2
        assert list(prediction) == [SLICE, other]
        assert prediction[-1] is other

    def test_converts_to_plain_json(self):
        values = Prediction((SLICE,), (SCAN,), (LEFT_OUT,)).to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == {
            "slices": [
                {
                    "path": "a.dcm",
                    "probability": 0.123457,
                    "hemorrhage": 0,
                    "scan": "series",
                    "warning": None,
                    "probability_in_scan": None,
                }
            ],
            "scans": [
                {
                    "scan": "series",
                    "probability": 0.765432,
                    "threshold": 0.5,
                    "hemorrhage": 1,
                    "slices": 2,
                    "flagged": 0,
                    "highest": 0.123457,
                    "mean_of_top_3": 0.1,
                    "top_slices": ["a.dcm", "b.dcm"],
                    "top_positions": [2, 1],
                }
            ],
            "left_out": [
                {"series": "3", "path": "study", "slices": 9, "reason": "not axial"},
            ],
        }

    def test_names_the_overlay_where_there_is_one(self):
        values = SlicePrediction("a.png", 0.5, True, cam="cam/a.png.cam.png").to_dict()
        assert values["cam"] == "cam/a.png.cam.png"
        assert "cam" not in SLICE.to_dict()


def slices_of(scans, probabilities, threshold=0.5, in_scan=None):
    """Predictions of slices named 0, 1, 2 ..."""
    in_scan = in_scan or [None] * len(scans)
    return [
        SlicePrediction(
            path=str(index),
            probability=probability,
            is_hemorrhage=(probability if final is None else final) >= threshold,
            scan=scan,
            probability_in_scan=final,
        )
        for index, (scan, probability, final) in enumerate(
            zip(scans, probabilities, in_scan, strict=True)
        )
    ]


class TestPredictScans:
    def test_combines_the_slices_of_each_scan(self):
        scans = ["a", "a", None, "a", "b", "b", "a"]
        a, b = predict_scans(slices_of(scans, [0.9, 0.1, 1.0, 0.7, 0.4, 0.6, 0.2]), 0.5)
        assert (a.scan, a.slices, a.flagged, a.is_hemorrhage) == ("a", 4, 2, True)
        assert a.highest == pytest.approx(0.9)
        assert a.probability == a.mean_of_highest == pytest.approx(0.6)  # of 0.9, 0.7 and 0.2
        assert (b.scan, b.slices, b.flagged) == ("b", 2, 1)
        assert b.mean_of_highest == pytest.approx(0.5)  # of both slices

    def test_names_the_slices_to_look_at_and_their_places(self):
        scans = [None, "a", "a", "a", "a", "b", "b"]
        a, b = predict_scans(slices_of(scans, [1.0, 0.2, 0.9, 0.4, 0.9, 0.1, 0.3]), 0.5)
        # Of two equal slices the lower one is first.
        assert (a.top_slices, a.top_positions) == (("2", "4", "3"), (2, 4, 3))
        assert (b.top_slices, b.top_positions) == (("6", "5"), (2, 1))

    @pytest.mark.parametrize("scan_threshold", [0.5, 0.7, 0.3])
    def test_decides_by_the_threshold_for_scans(self, scan_threshold):
        slices = slices_of(["a"] * 4, [0.8, 0.55, 0.45, 0.2])  # mean of the highest three: 0.6
        (scan,) = predict_scans(slices, scan_threshold)
        assert scan.flagged == 2
        assert scan.threshold == scan_threshold
        assert scan.is_hemorrhage == (scan_threshold <= 0.6)

    def test_the_scan_model_decides_where_there_is_one(self):
        slices = slices_of(["a"] * 4, [0.9, 0.9, 0.9, 0.1], in_scan=[0.2, 0.1, 0.3, 0.6])
        (scan,) = predict_scans(slices, 0.5, {"a": 0.4})
        assert (scan.probability, scan.is_hemorrhage) == (pytest.approx(0.4), False)
        assert (scan.highest, scan.mean_of_highest) == (pytest.approx(0.9), pytest.approx(0.9))
        assert (scan.flagged, scan.top_positions) == (1, (4, 3, 1))

    def test_returns_nothing_for_single_slices(self):
        assert predict_scans(slices_of([None], [0.9]), 0.5) == ()
