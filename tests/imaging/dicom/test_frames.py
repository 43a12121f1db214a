import numpy as np
import pytest
from dicom_files import (
    AXIAL,
    JPEG_2000_LOSSLESS,
    RAMP,
    TILES,
    compressed,
    dataset_of,
    encode,
    enhanced,
    item_of,
    reason_of_refusal,
)

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import EXPLICIT, IMPLICIT


def test_one_of_several_frames_must_be_chosen(write):
    path = write(enhanced([0, 5, 10]))
    assert "holds 3 frames" in reason_of_refusal(read_frame, path)
    for frame in (3, -1):
        assert f"has no frame {frame}: it holds 3" in reason_of_refusal(read_frame, path, frame)


def test_the_only_frame_may_be_chosen(write):
    np.testing.assert_array_equal(read_frame(write(), 0), RAMP)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_each_frame_has_its_own_rescale(syntax, write):
    path = write(enhanced([0, 5, 10], syntax=syntax))
    for number in range(3):
        assert (read_frame(path, number) == 101 * number).all()


@pytest.mark.parametrize("count", [0, -3, 2**31 - 1])
def test_refuses_counts_out_of_range(count, write):
    with pytest.raises(SliceError, match=f"declares {count} frames: it must have 1 to 100000"):
        read_frame(write(NumberOfFrames=count), 0)


@pytest.mark.parametrize("read", [read_header, lambda path: read_frame(path, 0)])
def test_refuses_more_frames_than_the_file_can_hold(read, write):
    path = write(NumberOfFrames="1e5")
    size = path.stat().st_size
    # A frame has 10 x 12 pixels of 16 bits.
    words = f"declares 100000 frames, but its {size} bytes hold at most {size // 240}: "
    assert words in reason_of_refusal(read, path)


def test_refuses_more_compressed_frames_than_fragments_fit(write):
    dataset = compressed(dataset_of(TILES), JPEG_2000_LOSSLESS)
    dataset.NumberOfFrames = 50_000
    path = write(encode(dataset))
    words = f"hold at most {path.stat().st_size // 8}: it is truncated"
    assert words in reason_of_refusal(read_header, path)


def test_frames_beyond_the_functional_groups_share_what_is_left(write):
    dataset = dataset_of(np.zeros((4, 4), np.int16), NumberOfFrames=4, PixelData=bytes(128))
    orientation = item_of(ImageOrientationPatient=AXIAL)
    shared, own = (
        item_of(PlanePositionSequence=[item_of(ImagePositionPatient=[0, 0, z])]) for z in (7, 3)
    )
    shared.PlaneOrientationSequence = [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [own]
    assert read_header(write(encode(dataset))).positions == (3, 7, 7, 7)
