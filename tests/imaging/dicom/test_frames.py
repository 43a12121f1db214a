import numpy as np
import pytest
from dicom_files import RAMP, enhanced, reason_of_refusal

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.reading import read_frame
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
