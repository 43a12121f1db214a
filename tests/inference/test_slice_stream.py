from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.slice_stream import stream_slices
from hemorrhage_tf.pipeline.model_input import ModelInput

MODEL_INPUT = ModelInput(16)


@pytest.fixture
def slices(tmp_path, head, write_nifti):
    """Seven slices: four images, of which the second is damaged, and a volume of three."""
    refs = []
    for index in range(4):
        refs.append(SliceRef(tmp_path / f"{index}.png"))
        Image.fromarray(draw_phantom(0, index, 1)).save(refs[-1].path)
    refs[1].path.write_text("text")
    volume = write_nifti(tmp_path / "volume.nii", np.stack([head(index) for index in range(3)]))
    return refs + [SliceRef(volume, frame) for frame in range(3)]


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])]
)
def test_batches_hold_every_slice_in_order(slices, batch_size, sizes):
    batches = list(stream_slices(slices, MODEL_INPUT, batch_size))
    assert [batch.size for batch in batches] == sizes
    valid = [one for batch in batches for one in batch.valid]
    assert [one.index for one in valid] == [0, 2, 3, 4, 5, 6]
    assert [one.is_hounsfield for one in valid] == [False] * 3 + [True] * 3
    for one in valid:
        np.testing.assert_array_equal(one.image, MODEL_INPUT(one.pixels))
    (problem,) = (problem for batch in batches for problem in batch.problems)
    assert problem.path == str(slices[1].path) and "format" in problem.reason


def test_no_slices_make_no_batch():
    assert list(stream_slices([], MODEL_INPUT, 4)) == []


def test_a_caller_may_leave_early(slices):
    stream = stream_slices(slices, MODEL_INPUT, 2)
    assert next(stream).size == 2
    stream.close()
