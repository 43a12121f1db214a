from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import DataError, SliceError
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.pipeline import datasets
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import (
    input_batches,
    slice_dataset,
    translate_read_errors,
    view_dataset,
)
from hemorrhage_tf.pipeline.model_input import ModelInput

SIZE = 24
INPUT = ModelInput(SIZE)


@pytest.fixture
def slices(tmp_path):
    """Write five slices of several sizes, gray and RGB."""
    rng = np.random.default_rng(0)
    shapes = [(30, 40), (24, 24), (50, 20, 3), (10, 10), (24, 24, 3)]
    paths = [tmp_path / f"{index}.png" for index in range(len(shapes))]
    for path, shape in zip(paths, shapes, strict=True):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """Count how often each file is read."""
    counted = Counter()

    def counting(path):
        counted[path] += 1
        return read_slice(path)

    monkeypatch.setattr(datasets, "read_slice", counting)
    return counted


class TestInputBatches:
    def test_batches_hold_the_slices_in_order(self, slices):
        made = list(input_batches(slices, INPUT, 2))
        assert [len(batch) for batch in made] == [2, 2, 1]
        np.testing.assert_array_equal(
            np.concatenate(made), [INPUT(read_slice(path)) for path in slices]
        )

    def test_volumes_and_display_images_can_be_mixed(self, slices, head, write_nifti, tmp_path):
        heads = np.stack([head(index) for index in range(3)])
        path = write_nifti(tmp_path / "a.nii.gz", heads)
        refs = [SliceRef(path, 2), slices[0], SliceRef(path, 0)]
        (made,) = input_batches(refs, INPUT, 8)
        expected = [INPUT(heads[2]), INPUT(read_slice(slices[0])), INPUT(heads[0])]
        np.testing.assert_array_equal(made, expected)

    def test_no_slices_make_no_batch(self):
        assert list(input_batches([], INPUT, 4)) == []

    def test_an_unreadable_slice_raises_a_slice_error(self, slices, tmp_path):
        with pytest.raises(SliceError, match="gone.png: no such file"):
            list(input_batches([*slices, tmp_path / "gone.png"], INPUT, 2))


class TestSliceDataset:
    def test_slices_are_in_order(self, slices):
        made = list(slice_dataset(slices, INPUT).as_numpy_iterator())
        assert [int(index) for index, _ in made] == [0, 1, 2, 3, 4]
        for path, (_, image) in zip(slices, made, strict=True):
            np.testing.assert_array_equal(image, INPUT(read_slice(path)))

    def test_reads_frames_of_a_volume(self, head, write_nifti, tmp_path):
        heads = np.stack([head(index) for index in range(3)])
        path = write_nifti(tmp_path / "a.nii", heads)
        refs = [SliceRef(path, index) for index in (2, 0)]
        hashes = [content_hash(heads[index]) for index in (2, 0)]
        made = [image for _, image in slice_dataset(refs, INPUT, hashes).as_numpy_iterator()]
        np.testing.assert_array_equal(made, [INPUT(heads[2]), INPUT(heads[0])])

    def test_shapes_are_static(self, slices):
        index, image = slice_dataset(slices, INPUT).element_spec
        assert index.shape == ()
        assert image.shape == (SIZE, SIZE, 3)

    def test_each_slice_is_read_once(self, slices, reads):
        list(slice_dataset(slices, INPUT).batch(2))
        assert reads == dict.fromkeys(slices, 1)


class TestChangedFiles:
    def test_a_file_that_changed_is_a_data_error(self, slices):
        hashes = [content_hash(read_slice(path)) for path in slices]
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(slices[2])
        message = "2.png: was changed while the command ran: .* Leave the data unchanged"
        with pytest.raises(DataError, match=message), translate_read_errors():
            list(slice_dataset(slices, INPUT, hashes))

    def test_other_errors_are_not_translated(self):
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError), translate_read_errors():
            tf.reshape(tf.zeros(3), (2, 2))


class TestViewDataset:
    VIEWS = ([0, 1], [], [3, 0, 2], [5], [0])

    @pytest.fixture
    def augmentation(self):
        return Augmentation(("horizontal_flip", "vertical_flip", "contrast", "noise"), 4)

    def hashes(self, slices):
        return [content_hash(read_slice(path)) for path in slices]

    def test_views_are_in_order_with_ragged_counts(self, slices, augmentation):
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
            for path, key, numbers in zip(slices, hashes, self.VIEWS, strict=True)
            for view in numbers
        ]
        assert len(made) == len(expected) == 7
        for view, expected_view in zip(made, expected, strict=True):
            assert view.shape == (SIZE, SIZE, 3)
            np.testing.assert_array_equal(view, np.asarray(expected_view))

    def test_each_slice_is_read_once_for_all_its_views(self, slices, augmentation, reads):
        list(view_dataset(slices, self.hashes(slices), [range(6)] * 5, INPUT, augmentation))
        assert reads == dict.fromkeys(slices, 1)

    def test_two_passes_have_the_same_bytes(self, slices, augmentation):
        dataset = view_dataset(slices, self.hashes(slices), [range(3)] * 5, INPUT, augmentation)
        first, second = (
            np.concatenate([batch.numpy() for batch in dataset.batch(size)]) for size in (4, 15)
        )
        assert first.tobytes() == second.tobytes()

    def test_shape_is_static(self, slices, augmentation):
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
