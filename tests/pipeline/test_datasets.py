from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.pipeline import datasets
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import input_batches, slice_dataset, view_dataset
from hemorrhage_tf.pipeline.model_input import ModelInput, resize_to_square

SIZE = 24
INPUT = ModelInput(SIZE)


@pytest.fixture
def slices(tmp_path):
    """Writes five slices, of several sizes, grey and RGB."""
    rng = np.random.default_rng(0)
    shapes = [(30, 40), (24, 24), (50, 20, 3), (10, 10), (24, 24, 3)]
    paths = [tmp_path / f"{index}.png" for index in range(len(shapes))]
    for path, shape in zip(paths, shapes, strict=True):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """Counts how often each file is read."""
    counted = Counter()

    def counting(path):
        counted[path] += 1
        return read_slice(path)

    monkeypatch.setattr(datasets, "read_slice", counting)
    return counted


class TestResizeToSquare:
    @pytest.mark.parametrize("size", [16, 64, 75, 224])
    @pytest.mark.parametrize("shape", [(64, 64), (40, 30), (31, 200, 3), (150, 97), (3, 3, 3)])
    def test_agrees_with_tensorflow(self, shape, size):
        import tensorflow as tf

        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        rgb = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
        expected = tf.image.resize(rgb.astype(np.float32), (size, size), antialias=True).numpy()
        made = resize_to_square(pixels, size)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, rtol=0, atol=0.01)

    @pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3)])
    def test_same_size_keeps_every_level(self, shape):
        pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        made = resize_to_square(pixels, 32)
        assert made.dtype == np.float32
        np.testing.assert_array_equal(made if len(shape) == 3 else made[..., 1], pixels)

    @pytest.mark.parametrize("level", [0, 1, 128, 255])
    def test_one_level_stays_that_level(self, level):
        np.testing.assert_allclose(
            resize_to_square(np.full((37, 53), level, np.uint8), 20), level, atol=1e-3
        )

    def test_stays_in_range(self):
        checkered = np.where(np.indices((41, 67)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
        for size in (20, 41, 90):
            made = resize_to_square(checkered, size)
            assert made.min() >= 0
            assert made.max() <= 255

    def test_pixels_are_left_as_they_are(self):
        pixels = np.random.default_rng(2).integers(0, 256, (30, 30, 3), np.uint8)
        before = pixels.copy()
        made = resize_to_square(pixels, 30)
        made += 1
        resize_to_square(pixels, 12)
        np.testing.assert_array_equal(pixels, before)


class TestInputBatches:
    def test_batches_hold_the_slices_in_order(self, slices):
        made = list(input_batches(slices, INPUT, 2))
        assert [len(batch) for batch in made] == [2, 2, 1]
        np.testing.assert_array_equal(
            np.concatenate(made), [INPUT(read_slice(path)) for path in slices]
        )

    def test_slices_of_volumes_and_pictures(self, slices, head, write_nifti, tmp_path):
        heads = np.stack([head(index) for index in range(3)])
        path = write_nifti(tmp_path / "a.nii.gz", heads)
        refs = [SliceRef(path, 2), slices[0], SliceRef(path, 0)]
        (made,) = input_batches(refs, INPUT, 8)
        expected = [INPUT(heads[2]), INPUT(read_slice(slices[0])), INPUT(heads[0])]
        np.testing.assert_array_equal(made, expected)

    def test_none(self):
        assert list(input_batches([], INPUT, 4)) == []

    def test_a_slice_that_cannot_be_read(self, slices, tmp_path):
        with pytest.raises(SliceError, match="gone.png: no such file"):
            list(input_batches([*slices, tmp_path / "gone.png"], INPUT, 2))


class TestSliceDataset:
    def test_order_and_pixels(self, slices):
        made = list(slice_dataset(slices, INPUT).as_numpy_iterator())
        assert [int(index) for index, _ in made] == [0, 1, 2, 3, 4]
        for path, (_, image) in zip(slices, made, strict=True):
            np.testing.assert_array_equal(image, INPUT(read_slice(path)))

    def test_frames_of_a_volume(self, head, write_nifti, tmp_path):
        heads = np.stack([head(index) for index in range(3)])
        path = write_nifti(tmp_path / "a.nii", heads)
        refs = [SliceRef(path, index) for index in (2, 0)]
        hashes = [content_hash(heads[index]) for index in (2, 0)]
        made = [image for _, image in slice_dataset(refs, INPUT, hashes).as_numpy_iterator()]
        np.testing.assert_array_equal(made, [INPUT(heads[2]), INPUT(heads[0])])

    def test_shapes_are_known(self, slices):
        index, image = slice_dataset(slices, INPUT).element_spec
        assert index.shape == ()
        assert image.shape == (SIZE, SIZE, 3)

    def test_each_slice_is_read_once(self, slices, reads):
        list(slice_dataset(slices, INPUT).batch(2))
        assert reads == dict.fromkeys(slices, 1)


class TestViewDataset:
    VIEWS = ([0, 1], [], [3, 0, 2], [5], [0])

    @pytest.fixture
    def augmentation(self):
        return Augmentation(("horizontal_flip", "vertical_flip", "contrast", "noise"), 4)

    def hashes(self, slices):
        return [content_hash(read_slice(path)) for path in slices]

    def test_order_with_ragged_views(self, slices, augmentation):
        hashes = self.hashes(slices)
        made = list(
            view_dataset(slices, hashes, self.VIEWS, INPUT, augmentation).as_numpy_iterator()
        )
        expected = [
            augmentation(
                INPUT(read_slice(path)),
                np.array(augmentation.slice_seed(key), np.int32),
                view,
            )
            for path, key, wanted in zip(slices, hashes, self.VIEWS, strict=True)
            for view in wanted
        ]
        assert len(made) == len(expected) == 7
        for got, want in zip(made, expected, strict=True):
            assert got.shape == (SIZE, SIZE, 3)
            np.testing.assert_array_equal(got, np.asarray(want))

    def test_each_slice_is_read_once_whatever_its_views(self, slices, augmentation, reads):
        list(view_dataset(slices, self.hashes(slices), [range(6)] * 5, INPUT, augmentation))
        assert reads == dict.fromkeys(slices, 1)

    def test_two_passes_give_the_same_bytes(self, slices, augmentation):
        dataset = view_dataset(slices, self.hashes(slices), [range(3)] * 5, INPUT, augmentation)
        first, second = (
            np.concatenate([batch.numpy() for batch in dataset.batch(size)]) for size in (4, 15)
        )
        assert first.tobytes() == second.tobytes()

    def test_shape_is_known(self, slices, augmentation):
        dataset = view_dataset(slices, self.hashes(slices), self.VIEWS, INPUT, augmentation)
        assert dataset.element_spec.shape == (SIZE, SIZE, 3)

    def test_without_augmentation_the_views_are_the_slices(self, slices):
        made = list(
            view_dataset(
                slices, self.hashes(slices), [[0]] * 5, INPUT, Augmentation((), 0)
            ).as_numpy_iterator()
        )
        for path, image in zip(slices, made, strict=True):
            np.testing.assert_array_equal(image, INPUT(read_slice(path)))
