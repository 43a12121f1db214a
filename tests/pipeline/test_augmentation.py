import itertools

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.pipeline.augmentation import (
    AUGMENTATIONS,
    DEFAULT_AUGMENTATIONS,
    Augmentation,
    parse_augmentations,
)

FLIPS = ("horizontal_flip", "vertical_flip")
ALL = tuple(AUGMENTATIONS)
# Mid-gray, so that no mild change reaches 0 or 255, and without symmetry.
IMAGE = np.random.default_rng(0).uniform(70, 180, (24, 20, 3)).astype(np.float32)


def views(augmentation, image, numbers, key="a slice"):
    seed = np.array(augmentation.slice_seed(key), np.int32)
    return np.stack([np.asarray(augmentation(image, seed, number)) for number in numbers])


def flips_of(image):
    return [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]


def distinct(images):
    return {np.ascontiguousarray(image).tobytes() for image in images}


class TestParse:
    @pytest.mark.parametrize("names", ["", "none", [], ["none"], " , "])
    def test_none(self, names):
        assert parse_augmentations(names) == ()

    @pytest.mark.parametrize("names", list(itertools.permutations(DEFAULT_AUGMENTATIONS)))
    def test_names_are_in_the_order_of_application(self, names):
        assert parse_augmentations(names) == DEFAULT_AUGMENTATIONS
        assert parse_augmentations(", ".join(names)) == DEFAULT_AUGMENTATIONS

    def test_repeated_name_counts_once(self):
        assert parse_augmentations("noise,noise") == ("noise",)

    @pytest.mark.parametrize("make", [parse_augmentations, lambda names: Augmentation(names, 0)])
    def test_error_lists_unknown_and_accepted_names(self, make):
        with pytest.raises(
            OptionError, match="--augment mixup, blur: no such augmentation. Pass some of "
        ) as caught:
            make(["mixup", "noise", "blur"])
        assert all(name in str(caught.value) for name in (*ALL, "none", "--augment"))


class TestKeys:
    def test_view_zero_has_one_key_for_all_seeds_and_names(self):
        keys = {Augmentation(names, seed).view_key(0) for names in (ALL, FLIPS) for seed in (0, 1)}
        assert len(keys) == 1

    def test_without_names_every_view_is_view_zero(self):
        augmentation = Augmentation((), 0)
        assert {augmentation.view_key(view) for view in range(5)} == {augmentation.view_key(0)}

    def test_seed_names_and_number_change_the_key(self):
        keys = [
            Augmentation(names, seed).view_key(view)
            for names in (ALL, FLIPS, FLIPS[:1], ("noise",))
            for seed in (0, 1, 12)
            for view in range(1, 15)
        ]
        assert len(set(keys)) == len(keys)

    def test_order_of_names_does_not_change_the_key(self):
        assert Augmentation(FLIPS, 3).view_key(1) == Augmentation(FLIPS[::-1], 3).view_key(1)

    def test_slice_seed_depends_on_seed_and_content(self):
        seeds = [
            Augmentation(FLIPS, seed).slice_seed(key)
            for seed in (0, 1)
            for key in ("aa", "ab", "ba")
        ]
        assert len(set(seeds)) == len(seeds)
        assert all(-(2**31) <= number < 2**31 for seed in seeds for number in seed)
        assert Augmentation(ALL, 1).slice_seed("aa") == Augmentation(FLIPS, 1).slice_seed("aa")


class TestViews:
    def test_view_zero_is_the_slice(self):
        (view,) = views(Augmentation(ALL, 0), IMAGE, [0])
        np.testing.assert_array_equal(view, IMAGE)

    def test_without_names_every_view_is_the_slice(self):
        for view in views(Augmentation((), 0), IMAGE, range(4)):
            np.testing.assert_array_equal(view, IMAGE)

    def test_the_seed_determines_the_bytes(self):
        first, again, other = (
            views(Augmentation(ALL, seed), IMAGE, range(1, 4)) for seed in (5, 5, 6)
        )
        assert first.tobytes() == again.tobytes()
        assert not distinct(first) & distinct(other)

    def test_views_and_slices_differ_from_each_other(self):
        augmentation = Augmentation(("noise",), 0)
        made = [*views(augmentation, IMAGE, range(6)), *views(augmentation, IMAGE, [1], "other")]
        assert len(distinct(made)) == 7

    @pytest.mark.parametrize("name", AUGMENTATIONS)
    def test_each_augmentation_changes_the_slice_and_keeps_its_range(self, name):
        augmentation = Augmentation([name], 1)
        # Black and white, so that results must be clipped.
        extreme = (IMAGE > 125).astype(np.float32) * 255
        for image in (IMAGE, extreme):
            made = views(augmentation, image, range(1, 4))
            assert made.shape == (3, *image.shape)
            assert made.dtype == np.float32
            assert made.min() >= 0
            assert made.max() <= 255
            assert any(not np.array_equal(view, image) for view in made)

    def test_all_augmentations_together_stay_in_range(self):
        extreme = (IMAGE > 125).astype(np.float32) * 255
        made = views(Augmentation(ALL, 2), extreme, range(1, 9))
        assert made.min() >= 0
        assert made.max() <= 255

    def test_the_slice_itself_is_not_changed(self):
        image = IMAGE.copy()
        views(Augmentation(ALL, 2), image, range(1, 4))
        np.testing.assert_array_equal(image, IMAGE)


class TestOrder:
    @pytest.fixture
    def rows(self):
        rng = np.random.default_rng(3)
        augmentation = Augmentation(ALL, 9)
        keys = [f"slice {index // 3}" for index in range(12)]
        return (
            np.repeat(rng.uniform(0, 255, (4, 16, 18, 3)).astype(np.float32), 3, axis=0),
            np.array([augmentation.slice_seed(key) for key in keys], np.int32),
            np.arange(12, dtype=np.int32) % 3,
        )

    def run(self, names, rows, order, parallelism, batch):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(tuple(column[order] for column in rows))
        dataset = dataset.map(Augmentation(names, 9), num_parallel_calls=parallelism)
        made = np.concatenate([each.numpy() for each in dataset.batch(batch)])
        result = np.empty_like(made)
        result[order] = made
        return result

    def run_eagerly(self, names, rows):
        augmentation = Augmentation(names, 9)
        return np.stack([np.asarray(augmentation(*row)) for row in zip(*rows, strict=True)])

    def test_bytes_do_not_depend_on_parallelism_batch_and_order(self, rows):
        straight = self.run(ALL, rows, np.arange(12), None, 12)
        assert self.run(ALL, rows, np.arange(12)[::-1], 8, 5).tobytes() == straight.tobytes()

    def test_default_views_are_the_same_eagerly_and_in_tf_data(self, rows):
        straight = self.run(DEFAULT_AUGMENTATIONS, rows, np.arange(12), 4, 12)
        assert self.run_eagerly(DEFAULT_AUGMENTATIONS, rows).tobytes() == straight.tobytes()

    def test_all_views_match_eagerly_and_in_tf_data_up_to_rounding(self, rows):
        # A compiled function may fold the constants of rotation and color in another order.
        straight = self.run(ALL, rows, np.arange(12), 4, 12)
        np.testing.assert_allclose(self.run_eagerly(ALL, rows), straight, rtol=0, atol=2e-3)


class TestFlips:
    @pytest.mark.parametrize("key", ["a", "b", "c", "d"])
    @pytest.mark.parametrize("block", [0, 1, 5])
    def test_each_block_of_four_views_has_all_four_flips(self, key, block):
        made = views(Augmentation(FLIPS, 0), IMAGE, range(4 * block, 4 * block + 4), key)
        assert distinct(made) == distinct(flips_of(IMAGE))

    @pytest.mark.parametrize(("name", "flipped"), [(FLIPS[0], 1), (FLIPS[1], 2)])
    def test_one_flip_applies_to_two_of_four_views(self, name, flipped):
        made = views(Augmentation([name], 0), IMAGE, range(4))
        counts = [
            sum(np.array_equal(view, flip) for view in made)
            for flip in (IMAGE, flips_of(IMAGE)[flipped])
        ]
        assert counts == [2, 2]

    def test_order_differs_between_slices(self):
        augmentation = Augmentation(FLIPS, 0)
        orders = {views(augmentation, IMAGE, range(4), str(key)).tobytes() for key in range(12)}
        assert len(orders) > 1


class TestStrengths:
    def test_contrast_scales_around_the_mean_of_each_channel(self):
        image = IMAGE.astype(np.float64)
        mean = image.mean(axis=(0, 1))
        factors = []
        for view in views(Augmentation(["contrast"], 0), IMAGE, range(1, 13)):
            factor = (view[0, 0, 0] - mean[0]) / (image[0, 0, 0] - mean[0])
            np.testing.assert_allclose(view, mean + factor * (image - mean), atol=2e-3)
            factors.append(factor)
        assert 0.8 <= min(factors) < 0.95
        assert 1.05 < max(factors) <= 1.2

    def test_contrast_is_clipped_to_black_and_white(self):
        image = np.where(IMAGE > 125, 250, 5).astype(np.float32)
        mean = image.astype(np.float64).mean(axis=(0, 1))
        for view in views(Augmentation(["contrast"], 0), image, range(1, 5)):
            # A level that is not clipped reveals the factor.
            inner = (view > 0) & (view < 255)
            if inner.any():
                place = tuple(np.argwhere(inner)[0])
                channel = place[2]
                factor = (view[place] - mean[channel]) / (image[place] - mean[channel])
                expected = np.clip(mean + factor * (image - mean), 0, 255)
                np.testing.assert_allclose(view, expected, atol=2e-3)
            else:
                assert set(np.unique(view)) == {0, 255}

    def test_brightness_adds_one_number_up_to_a_tenth(self):
        made = views(Augmentation(["brightness"], 0), IMAGE, range(1, 13)) - IMAGE
        shifts = made.reshape(12, -1)
        assert np.ptp(shifts, axis=1).max() < 1e-3
        assert 10 < np.abs(shifts).max() <= 25.51
        assert shifts.min() < 0 < shifts.max()

    def test_color_adds_one_number_per_channel_up_to_a_twentieth(self):
        made = views(Augmentation(["color"], 0), IMAGE, range(1, 13)) - IMAGE
        shifts = made.reshape(12, -1, 3)
        assert np.ptp(shifts, axis=1).max() < 1e-3
        assert 6 < np.abs(shifts).max() <= 12.76
        assert np.ptp(shifts[:, 0], axis=1).min() > 0.01
        assert shifts.min() < 0 < shifts.max()

    def test_noise_is_centered_with_a_deviation_up_to_eight(self):
        gray = np.full((64, 64, 3), 128, np.float32)
        noise = views(Augmentation(["noise"], 0), gray, range(1, 13)) - gray
        deviations = noise.std(axis=(1, 2, 3))
        assert 4 < deviations.max() < 8.2
        assert deviations.min() < 4
        assert np.abs(noise.mean(axis=(1, 2, 3))).max() < 0.3

    def test_rotation_turns_by_up_to_fifteen_degrees_either_way(self):
        y, x = np.mgrid[0:65, 0:65]
        spot = 200 * np.exp(-((x - 56) ** 2 + (y - 32) ** 2) / 8)
        image = np.repeat(spot[..., np.newaxis], 3, axis=-1).astype(np.float32)
        angles = []
        for view in views(Augmentation(["rotation"], 0), image, range(1, 13)):
            weight = view[..., 0] / view[..., 0].sum()
            right, down = (weight * x).sum() - 32, (weight * y).sum() - 32
            assert np.hypot(right, down) == pytest.approx(24, abs=0.5)
            angles.append(np.degrees(np.arctan2(down, right)))
        assert -15.5 < min(angles) < -5
        assert 5 < max(angles) < 15.5

    def test_rotation_leaves_black_outside(self):
        white = np.full((64, 64, 3), 255, np.float32)
        for view in views(Augmentation(["rotation"], 0), white, range(1, 9)):
            assert view[32, 32] == pytest.approx(255)
            assert view.min() < 1
