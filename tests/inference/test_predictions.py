import json

import numpy as np
import pytest

from hemorrhage_tf.inference.predictions import (
    Prediction,
    ScanPrediction,
    SlicePrediction,
    predict_scans,
)

SLICE = SlicePrediction(path="a.dcm", probability=0.123456789, is_hemorrhage=False, scan="series")
SCAN = ScanPrediction(
    scan="series",
    slices=2,
    flagged=0,
    highest=0.123456789,
    mean_of_highest=0.1,
    threshold=0.5,
    is_hemorrhage=False,
)


class TestPrediction:
    def test_is_a_sequence_of_slice_predictions(self):
        other = SlicePrediction("b.dcm", 0.9, True)
        prediction = Prediction((SLICE, other), (SCAN,))
        assert len(prediction) == 2
        assert list(prediction) == [SLICE, other]
        assert prediction[-1] is other

    def test_converts_to_plain_json(self):
        values = Prediction((SLICE,), (SCAN,)).to_dict()
        assert json.loads(json.dumps(values, allow_nan=False)) == {
            "slices": [
                {
                    "path": "a.dcm",
                    "probability": 0.123457,
                    "hemorrhage": 0,
                    "scan": "series",
                    "warning": None,
                }
            ],
            "scans": [
                {
                    "scan": "series",
                    "slices": 2,
                    "flagged": 0,
                    "highest": 0.123457,
                    "mean_of_top_3": 0.1,
                    "threshold": 0.5,
                    "hemorrhage": 0,
                }
            ],
        }

    def test_names_the_overlay_where_there_is_one(self):
        values = SlicePrediction("a.png", 0.5, True, cam="cam/a.png.cam.png").to_dict()
        assert values["cam"] == "cam/a.png.cam.png"
        assert "cam" not in SLICE.to_dict()


class TestPredictScans:
    def test_combines_the_slices_of_each_scan(self):
        scans = ["a", "a", None, "a", "b", "b", "a"]
        values = np.array([0.9, 0.1, 1.0, 0.7, 0.4, 0.6, 0.2], np.float32)
        a, b = predict_scans(scans, values, threshold=0.5, scan_threshold=0.5)
        assert (a.scan, a.slices, a.flagged, a.is_hemorrhage) == ("a", 4, 2, True)
        assert a.highest == pytest.approx(0.9)
        assert a.mean_of_highest == pytest.approx(0.6)  # of 0.9, 0.7 and 0.2
        assert (b.scan, b.slices, b.flagged) == ("b", 2, 1)
        assert b.mean_of_highest == pytest.approx(0.5)  # of both slices

    @pytest.mark.parametrize("scan_threshold", [0.5, 0.7, 0.3])
    def test_decides_by_the_threshold_for_scans(self, scan_threshold):
        values = np.array([0.8, 0.55, 0.45, 0.2], np.float32)  # mean of the highest three: 0.6
        (scan,) = predict_scans(["a"] * 4, values, threshold=0.5, scan_threshold=scan_threshold)
        assert scan.flagged == 2
        assert scan.threshold == scan_threshold
        assert scan.is_hemorrhage == (scan_threshold <= 0.6)

    def test_returns_nothing_for_single_slices(self):
        assert predict_scans([None], np.array([0.9]), threshold=0.5, scan_threshold=0.5) == ()
