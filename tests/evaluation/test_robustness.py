from __future__ import annotations

import json

import numpy as np
import pytest
from plain_phantoms import draw_phantom
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.robustness import (
    PERTURBATIONS,
    add_noise,
    change_contrast,
    flip_horizontally,
    flip_vertically,
    recompress,
    resize_and_back,
    robustness,
    rotate,
)

NAMES = [
    "horizontal flip",
    "vertical flip",
    "contrast 0.8",
    "contrast 1.2",
    "noise, 5 % of the range",
    "JPEG of quality 50",
    "half the size and back",
    "rotation by 5 degrees",
]
LABELS = np.arange(12) % 2
IMAGES = [draw_phantom(0, index, int(label)) for index, label in enumerate(LABELS)]


def rng():
    return np.random.default_rng(0)


def left_brightness(slices):
    """Predict by the mean of the left half: only a horizontal flip changes it."""
    halves = [each[:, : each.shape[1] // 2].mean() for each in slices]
    return np.clip(np.array(halves) / 255, 0, 1)


def hounsfield(seed=0):
    return np.random.default_rng(seed).normal(30, 20, (24, 20)).astype(np.float32)


class TestRobustness:
    def test_has_a_row_for_each_perturbation_in_plain_values(self):
        rows = robustness(left_brightness, IMAGES, LABELS, 0.3)
        assert [row["name"] for row in rows] == NAMES == list(PERTURBATIONS)
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows
        assert all(row["n"] == 12 and row["note"] is None for row in rows)

    def test_compares_with_the_unchanged_slices(self):
        before = left_brightness(IMAGES)
        after = left_brightness([each[:, ::-1] for each in IMAGES])
        row = robustness(left_brightness, IMAGES, LABELS, 0.2)[0]
        assert row["roc_auc"] == pytest.approx(roc_auc_score(LABELS, after))
        change = roc_auc_score(LABELS, after) - roc_auc_score(LABELS, before)
        assert row["roc_auc_change"] == pytest.approx(change)
        assert row["mean_change"] == pytest.approx(np.abs(after - before).mean())
        assert row["largest_change"] == pytest.approx(np.abs(after - before).max())
        changed = (after >= 0.2) != (before >= 0.2)
        assert row["changed_decisions"] == changed.sum()
        assert row["to_hemorrhage"] + row["to_normal"] == row["changed_decisions"]

    def test_a_change_that_the_model_ignores_changes_nothing(self):
        row = robustness(left_brightness, IMAGES, LABELS, 0.2)[1]
        assert row["roc_auc_change"] == row["changed_decisions"] == row["largest_change"] == 0

    def test_one_class_has_no_area(self):
        rows = robustness(left_brightness, IMAGES, np.ones(12, int), 0.2)
        assert {row["roc_auc"] for row in rows} == {row["roc_auc_change"] for row in rows} == {None}

    def test_hounsfield_units_have_no_jpeg_row_but_a_note(self):
        def predict(slices):
            assert all(each.dtype == np.float32 and each.shape == (24, 20) for each in slices)
            return np.array([np.clip(each.mean() / 80, 0, 1) for each in slices])

        slices = [hounsfield(seed) for seed in range(6)]
        rows = {row["name"]: row for row in robustness(predict, slices, LABELS[:6], 0.4)}
        left_out = rows.pop("JPEG of quality 50")
        assert left_out["n"] == 0 and left_out["changed_decisions"] is None
        assert "Hounsfield" in left_out["note"]
        assert all(row["n"] == 6 for row in rows.values())

    def test_mixed_sets_count_the_slices_of_each_change(self):
        slices = [*IMAGES[:4], hounsfield(), hounsfield(1)]
        rows = robustness(left_brightness, slices, LABELS[:6], 0.2)
        assert [row["n"] for row in rows] == [6, 6, 6, 6, 6, 4, 6, 6]

    def test_noise_depends_on_the_seed(self):
        first, again, other = (
            robustness(left_brightness, IMAGES, LABELS, 0.2, seed)[4] for seed in (0, 0, 1)
        )
        assert first == again
        assert first["mean_change"] != other["mean_change"]

    def test_does_not_modify_the_slices(self):
        slices = [each.copy() for each in IMAGES]
        robustness(left_brightness, slices, LABELS, 0.2)
        assert all(np.array_equal(a, b) for a, b in zip(slices, IMAGES, strict=True))

    @pytest.mark.parametrize(
        "pixels", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)]
    )
    def test_rejects_a_slice_of_another_type(self, pixels):
        with pytest.raises(DataError, match="slice 1 is .* must be uint8 .* Convert it"):
            robustness(left_brightness, [IMAGES[0], pixels], np.array([0, 1]), 0.5)

    def test_rejects_predictions_outside_the_unit_interval(self):
        with pytest.raises(DataError, match=r"outside \[0, 1\]"):
            robustness(lambda slices: np.full(len(slices), 3.0), IMAGES, LABELS, 0.5)


class TestPerturbations:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("shape", [(31, 20), (1, 1, 3)])
    def test_keep_type_and_shape_of_display_images(self, name, shape):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        result = PERTURBATIONS[name](pixels, rng())
        assert (result.dtype, result.shape) == (np.uint8, shape)

    def test_flips_swap_sides(self):
        pixels = np.array([[1, 2], [3, 4]], np.uint8)
        assert flip_horizontally(pixels, rng()).tolist() == [[2, 1], [4, 3]]
        assert flip_vertically(pixels, rng()).tolist() == [[3, 4], [1, 2]]

    def test_contrast_is_around_the_mean_of_display_images_and_clipped(self):
        pixels = np.array([[0, 100, 200]], np.uint8)
        assert change_contrast(0.8)(pixels, rng()).tolist() == [[20, 100, 180]]
        assert change_contrast(1.2)(pixels, rng()).tolist() == [[0, 100, 220]]

    def test_contrast_of_hounsfield_units_moves_blood_by_6_hu(self):
        pixels = np.array([[-1000, 40, 70]], np.float32)
        assert change_contrast(0.8)(pixels, rng())[0, 1:].tolist() == [40, 64]

    def test_noise_is_5_percent_of_the_range(self):
        grey = np.full((200, 200), 128, np.uint8)
        assert add_noise(grey, rng()).std() == pytest.approx(0.05 * 255, rel=0.02)
        units = np.full((200, 200), 30, np.float32)
        assert add_noise(units, rng()).std() == pytest.approx(4, rel=0.02)

    def test_noise_is_the_same_in_all_channels(self):
        result = add_noise(np.full((9, 9, 3), 128, np.uint8), rng())
        assert np.array_equal(result[..., 0], result[..., 2])

    def test_jpeg_and_resizing_lose_detail(self):
        for perturb in (recompress, resize_and_back):
            result = perturb(IMAGES[1], rng()).astype(float)
            assert 0.1 < np.abs(result - IMAGES[1]).mean() < 15

    def test_rotation_is_counterclockwise_and_fills_with_the_darkest(self):
        units = np.full((101, 101), 30, np.float32)
        units[50, 90] = 500
        units[0, 0] = -1000
        result = rotate(units, rng())
        row, _ = np.unravel_index(result.argmax(), result.shape)
        assert row in (46, 47)
        assert result[0, -1] == -1000
