from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation import plots


@dataclass
class Slice:
    path: str
    scan: str = "series"
    final_probability: float = 0.5
    is_hemorrhage: bool = False
    cam: str | None = None


@dataclass
class Scan:
    scan: str = "series"
    probability: float = 0.75
    is_hemorrhage: bool = True


class Prediction(list):
    scans = (Scan(),)


def images(n: int) -> np.ndarray:
    """Return images with the gray level of their number."""
    return np.repeat(np.arange(n, dtype=np.uint8), 64).reshape(n, 8, 8)


def shown(axes) -> list[int]:
    """Return the gray level of each image in the axes."""
    return [int(inset.images[0].get_array().flat[0]) for inset in axes.child_axes]


class TestScan:
    def test_shows_the_highest_slices_and_evenly_spaced_ones_in_order(self, axes):
        probabilities = np.full(60, 0.1)
        probabilities[[20, 21, 40]] = 0.9, 0.95, 0.8
        plots.plot_scan(images(60), probabilities, threshold=0.5, ax=axes)
        levels = shown(axes)
        assert {20, 21, 40} <= set(levels) and levels == sorted(levels)
        assert levels[0] == 0 and levels[-1] == 59 and len(levels) <= 9

    def test_draws_probabilities_along_the_positions_and_fills_flagged_ones(self, axes):
        positions = np.array([0.0, 2.5, 7.5])
        probabilities = np.array([0.1, 0.9, 0.2])
        plots.plot_scan(images(3), probabilities, positions=positions, threshold=0.5, ax=axes)
        assert axes.get_xlabel() == "position (mm)"
        line, empty, filled = axes.lines[:3]
        assert list(line.get_xdata()) == list(positions)
        assert list(empty.get_xdata()) == [0.0, 7.5] and list(filled.get_xdata()) == [2.5]
        assert filled.get_markerfacecolor() != "none"
        frames = [inset.spines["left"].get_linewidth() for inset in axes.child_axes]
        assert frames[1] > frames[0] == frames[2]

    def test_takes_two_models(self, axes):
        plots.plot_scan(images(2), {"a": [0.1, 0.2], "b": [0.3, 0.4]}, ax=axes)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]

    def test_reads_the_slices_and_overlays_of_a_prediction(self, tmp_path, axes):
        for level in (10, 20, 30):
            Image.new("L", (8, 8), level).save(tmp_path / f"{level}.png")
        prediction = Prediction(
            [
                Slice(str(tmp_path / "10.png")),
                Slice("elsewhere.png", scan="other"),
                Slice(str(tmp_path / "20.png"), cam=str(tmp_path / "30.png")),
            ]
        )
        plots.plot_scan(prediction, ax=axes)
        assert shown(axes) == [10, 30]
        assert axes.get_title("left") or axes.get_title() == (
            "probability of the scan 0.750, hemorrhage"
        )

    def test_hounsfield_units_are_windowed(self, axes):
        plots.plot_scan([np.full((8, 8), 1000, np.float32)], [0.5], ax=axes)
        assert shown(axes) == [255]

    def test_functions_are_called_only_for_slices_that_are_shown(self, axes):
        called = []

        def read(index):
            called.append(index)
            return images(1)[0]

        reading = [lambda index=index: read(index) for index in range(100)]
        plots.plot_scan(reading, np.linspace(0, 1, 100), ax=axes)
        assert len(called) == len(axes.child_axes) <= 9

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([], []), "a scan has at least one slice"),
            ((images(2), [0.5]), "2 images and 1 probabilities"),
            ((images(1), [1.5]), "not in"),
            ((Prediction([Slice("a.png")]),), None),
        ],
    )
    def test_errors(self, arguments, message):
        if message is None:
            with pytest.raises(DataError, match="scan other: is not in the prediction. Pass one"):
                plots.plot_scan(*arguments, scan="other")
        else:
            with pytest.raises(DataError, match=message):
                plots.plot_scan(*arguments)

    def test_a_prediction_without_scans_is_an_error(self):
        with pytest.raises(DataError, match="list: holds no scan"):
            plots.plot_scan([])

    def test_positions_must_fit(self):
        with pytest.raises(DataError, match="2 positions for 1 slices"):
            plots.plot_scan(images(1), [0.5], positions=[1, 2])


class TestSlices:
    def test_shows_every_slice_in_rows(self, axes):
        plots.plot_slices(images(7), titles=list("abcdefg"), columns=3, ax=axes)
        assert shown(axes) == list(range(7))
        assert [inset.get_xlabel() for inset in axes.child_axes] == list("abcdefg")
        bottoms = [inset.get_position().y0 for inset in axes.child_axes]
        assert len({round(bottom, 6) for bottom in bottoms}) == 3

    def test_names_and_frames_predictions(self, tmp_path, axes):
        Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "a.png")
        one = Slice(str(tmp_path / "a.png"), final_probability=0.876, is_hemorrhage=True)
        plots.plot_slices([one], ax=axes)
        [inset] = axes.child_axes
        assert inset.get_xlabel() == "a.png\n0.876"
        assert inset.spines["left"].get_linewidth() > 1

    @pytest.mark.parametrize("n", [0, 41])
    def test_a_number_that_cannot_be_shown_is_an_error(self, n):
        with pytest.raises(DataError, match=f"{n} slices: a grid shows 1 to 40"):
            plots.plot_slices(images(n))

    def test_titles_must_fit(self):
        with pytest.raises(DataError, match="1 titles and 2 frames for 2 slices"):
            plots.plot_slices(images(2), titles=["a"])

    def test_a_volume_in_place_of_an_image_is_an_error(self):
        with pytest.raises(DataError, match=r"an image of shape \(2, 2, 2, 2\)"):
            plots.plot_slices(np.zeros((1, 2, 2, 2, 2)))
