import numpy as np
import pytest
from dicom_files import AXIAL, COLOR, RAMP, dataset_of, encode, enhanced
from hypothesis import assume, given
from hypothesis import strategies as st

from hemorrhage_tf.imaging.dicom.geometry import is_axial, slice_normal, to_upright
from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header


class TestPosition:
    def test_is_measured_along_the_normal_with_a_tilted_gantry(self, write):
        tilt = np.radians(18.5)
        orientation = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
        corner = [-125, -123.5, 5.8]
        orientation = [round(value, 7) for value in orientation]
        header = read_header(
            write(ImagePositionPatient=corner, ImageOrientationPatient=orientation)
        )
        expected = np.dot(corner, [0, np.sin(tilt), np.cos(tilt)])
        assert header.positions[0] == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("orientation", [AXIAL, [-1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0]])
    def test_grows_toward_the_head_in_every_orientation(self, orientation, write):
        header = read_header(
            write(ImagePositionPatient=[0, 0, 12], ImageOrientationPatient=orientation)
        )
        assert header.positions == (12,)

    def test_sorts_a_shuffled_series(self, write):
        order = [3, 0, 4, 1, 2]
        paths = [
            write(
                name=f"{number}.dcm",
                ImagePositionPatient=[-100, 20, -7 + 2.5 * height],
                ImageOrientationPatient=[1, 0, 0, 0, 0.9483237, -0.3173047],
            )
            for number, height in enumerate(order)
        ]
        by_position = sorted(paths, key=lambda path: read_header(path).positions)
        assert [order[int(path.stem)] for path in by_position] == list(range(5))

    @pytest.mark.parametrize("corner", [["1", "2"], ["1", "2", "NaN"], ["1", "2", "1e400"]])
    def test_is_none_if_malformed(self, corner, write):
        text = "\\".join(corner).encode()
        marker = b"9\\" * (len(text) // 2) + b"9" * (len(text) % 2)
        tags = {"ImageOrientationPatient": AXIAL}
        data = encode(dataset_of(ImagePositionPatient=marker.decode(), **tags))
        assert read_header(write(data.replace(marker, text))).positions == (None,)

    def test_each_frame_of_an_enhanced_file_has_one(self, write):
        assert read_header(write(enhanced([9, 4, -1.5]))).positions == (9, 4, -1.5)

    def test_frames_without_functional_groups_have_none(self, write):
        header = read_header(
            write(
                NumberOfFrames=2,
                PixelData=RAMP.tobytes() * 2,
                ImagePositionPatient=[0, 0, 1],
                ImageOrientationPatient=AXIAL,
            )
        )
        assert header.positions == (None, None)


@given(st.floats(-89, 89))
def test_slices_tilted_by_up_to_45_degrees_are_axial(degrees):
    assume(abs(abs(degrees) - 45) > 0.1)  # the limit itself has a margin for rounding
    tilt = np.radians(degrees)
    orientation = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)]])
    assert is_axial(orientation) == (abs(degrees) < 45)
    np.testing.assert_allclose(np.linalg.norm(slice_normal(orientation)), 1)


class TestUpright:
    # The stored pixels that must be shown as RAMP: columns to the left, rows to posterior.
    @pytest.mark.parametrize(
        "orientation, stored",
        [
            (AXIAL, RAMP),
            ([-1, 0, 0, 0, 1, 0], RAMP[:, ::-1]),
            ([1, 0, 0, 0, -1, 0], RAMP[::-1]),
            ([-1, 0, 0, 0, -1, 0], RAMP[::-1, ::-1]),
            ([0, 1, 0, 1, 0, 0], RAMP.T),
            ([0, -1, 0, 1, 0, 0], RAMP.T[:, ::-1]),
            ([0, 1, 0, -1, 0, 0], RAMP.T[::-1]),
            ([0, -1, 0, -1, 0, 0], RAMP.T[::-1, ::-1]),
            ([0.9962, 0.0872, 0, -0.0827, 0.9446, -0.3173], RAMP),
        ],
    )
    def test_every_axial_slice_is_turned_upright(self, orientation, stored):
        pixels = to_upright(stored, np.array(orientation).reshape(2, 3))
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, RAMP)

    def test_gray_and_color_files_are_turned_upright(self, write):
        for pixels in (RAMP, COLOR):
            path = write(pixels[:, ::-1], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])
            np.testing.assert_array_equal(read_frame(path), pixels)

    @pytest.mark.parametrize(
        "orientation",
        [[0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, 0, -1], [0] * 6, [-1, 0, 0, -1, 0, 0], [-1, 0, 0], ""],
    )
    def test_other_and_malformed_orientations_leave_the_slice_as_stored(self, orientation, read):
        np.testing.assert_array_equal(read(ImageOrientationPatient=orientation), RAMP)
