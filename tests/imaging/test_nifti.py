import gzip
import itertools
import logging
import os
import struct
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)

from hemorrhage_tf.core.errors import HemorrhageError, SliceError
from hemorrhage_tf.imaging import nifti
from hemorrhage_tf.imaging.nifti import is_nifti, read_frame, read_header
from hemorrhage_tf.imaging.windows import AIR

# A volume as radiologists look at it: [slice from the feet, row to posterior, column to left].
DISPLAYED = np.random.default_rng(0).integers(-1024, 3000, (5, 40, 36)).astype(np.int16)
# Its voxels in the order of axes R, A, S, each growing, and where they lie in mm.
RAS = DISPLAYED.transpose(2, 1, 0)[::-1, ::-1]
RAS_AFFINE = np.array([[0.5, 0, 0, -9], [0, 0.6, 0, -12], [0, 0, 5, 40], [0, 0, 0, 1.0]])
ORIENTATIONS = [
    "".join(letters)
    for pairs in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*pairs)
]


def save(path, voxels=RAS, affine=RAS_AFFINE, kind=nibabel.Nifti1Image, **fields):
    image = kind(voxels, affine, dtype=voxels.dtype)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def oriented(code):
    """Stores the same volume in another order of axes, with the affine that says so."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
    return apply_orientation(RAS, change), RAS_AFFINE @ inv_ornt_aff(change, RAS.shape)


def raw_bytes(path, edits=(), kind="<"):
    """The bytes of a file with some of its header's fields overwritten: (offset, format, value)."""
    data = bytearray(path.read_bytes())
    for offset, form, value in edits:
        struct.pack_into(kind + form, data, offset, value)
    return bytes(data)


DIM, DATATYPE, BITPIX, PIXDIM, VOX_OFFSET = 40, 70, 72, 76, 108
SLOPE, INTERCEPT, QFORM_CODE, SFORM_CODE, SROW = 112, 116, 252, 254, 280


@pytest.fixture
def edited(tmp_path):
    def edited(*edits, name="edited.nii"):
        data = raw_bytes(save(tmp_path / "whole.nii"), edits)
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return path

    return edited


def refusal(path, frame=0):
    with pytest.raises(SliceError) as error:
        read_frame(path, frame)
    assert error.value.problem.path == str(path)
    assert "\n" not in error.value.problem.reason
    return error.value.problem.reason


class TestNames:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "b.c.NII.GZ", "A.Nii"])
    def test_nifti(self, name, tmp_path):
        assert is_nifti(name) and is_nifti(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.gz", "a.hdr", "a.img", "nii", "a.nii.zip", "a.png"])
    def test_others(self, name):
        assert not is_nifti(name)


class TestOrientation:
    def test_there_are_48(self):
        assert len(set(ORIENTATIONS)) == 48

    @pytest.mark.parametrize("suffix", nifti.NIFTI_SUFFIXES)
    @pytest.mark.parametrize("code", ORIENTATIONS)
    def test_each_gives_the_same_slices(self, code, suffix, tmp_path):
        voxels, affine = oriented(code)
        assert "".join(nibabel.aff2axcodes(affine)) == code
        path = save(tmp_path / f"a{suffix}", voxels, affine)
        header = read_header(path)
        assert len(header) == 5
        order = np.argsort(header.positions)
        np.testing.assert_allclose(np.sort(header.positions), [40, 45, 50, 55, 60])
        for frame, displayed in zip(order, DISPLAYED, strict=True):
            pixels = read_frame(path, frame)
            assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
            np.testing.assert_array_equal(pixels, displayed)

    def test_frames_count_in_the_file_s_order(self, tmp_path):
        voxels, affine = oriented("LPI")
        path = save(tmp_path / "a.nii", voxels, affine)
        assert list(read_header(path).positions) == [60, 55, 50, 45, 40]
        np.testing.assert_array_equal(read_frame(path, 0), DISPLAYED[4])

    @pytest.mark.parametrize("tilt", [-30, -18.5, 18.5, 30])
    @pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "LPI"])
    def test_slices_of_a_tilted_gantry_are_not_resampled(self, code, tilt, tmp_path):
        # The couch moves along the body, the slices lean: a shear.
        lean = np.deg2rad(tilt)
        sheared = RAS_AFFINE.copy()
        sheared[:3, 1] = 0.6 * np.array([0, np.cos(lean), np.sin(lean)])
        change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
        affine = sheared @ inv_ornt_aff(change, RAS.shape)
        path = save(tmp_path / "a.nii", apply_orientation(RAS, change), affine)
        positions = read_header(path).positions
        frames = np.argsort(positions)
        np.testing.assert_array_equal(read_frame(path, frames[1]), DISPLAYED[1])
        np.testing.assert_allclose(np.diff(np.sort(positions)), 5 * np.cos(lean), rtol=1e-6)

    def test_a_turned_head_keeps_its_nearest_axes(self, tmp_path):
        angle = np.deg2rad(20)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        path = save(tmp_path / "a.nii", affine=turn @ RAS_AFFINE)
        np.testing.assert_array_equal(read_frame(path, 2), DISPLAYED[2])
        np.testing.assert_allclose(read_header(path).positions, [40, 45, 50, 55, 60])

    def test_without_codes_the_format_s_default_holds(self, edited):
        # nifti1.h, method 1; nibabel, like SPM, takes the first axis as growing to the left.
        path = edited((QFORM_CODE, "h", 0), (SFORM_CODE, "h", 0))
        np.testing.assert_array_equal(read_frame(path, 3), DISPLAYED[3][:, ::-1])

    def test_qform_alone_is_followed(self, tmp_path):
        voxels, affine = oriented("PSL")
        image = nibabel.Nifti1Image(voxels, affine)
        image.set_qform(affine, 1)
        image.set_sform(np.eye(4), 0)
        image.to_filename(tmp_path / "a.nii")
        np.testing.assert_array_equal(read_frame(tmp_path / "a.nii", 3), DISPLAYED[3])

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
    def test_affine_without_directions_is_refused(self, value, edited):
        path = edited(*((SROW + 4 * entry, "f", value) for entry in range(12)))
        assert "affine" in refusal(path)
        with pytest.raises(SliceError, match="affine"):
            read_header(path)

    def test_flat_affine_is_refused(self, edited):
        rows = [(1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0)]
        path = edited(
            *((SROW + 4 * entry, "f", value) for entry, value in enumerate(itertools.chain(*rows)))
        )
        assert "affine" in refusal(path)


class TestValues:
    @pytest.mark.parametrize("suffix", nifti.NIFTI_SUFFIXES)
    @pytest.mark.parametrize(
        "dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"]
    )
    def test_each_type_of_voxel(self, dtype, suffix, tmp_path):
        values = np.arange(120).reshape(4, 5, 6).astype(dtype)
        path = tmp_path / f"a{suffix}"
        header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
        header.set_data_dtype(np.dtype(dtype))
        nibabel.Nifti1Image(values, np.eye(4), header, dtype=values.dtype).to_filename(path)
        for frame in range(6):
            expected = values[::-1, ::-1, frame].T.astype(np.float32)
            np.testing.assert_array_equal(read_frame(path, frame), expected)

    @pytest.mark.parametrize("slope, intercept", [(1, -1024), (0.5, 3), (-2, 7), (1.3, -0.25)])
    def test_scaling_is_applied(self, slope, intercept, tmp_path):
        image = nibabel.Nifti1Image(RAS, RAS_AFFINE)
        image.header.set_slope_inter(slope, intercept)
        image.to_filename(tmp_path / "a.nii")
        # The image's writer scales back, so that reading gives what went in.
        stored = nibabel.load(tmp_path / "a.nii").get_fdata()
        expected = np.where(stored < -1024, AIR, stored).astype(np.float32)
        np.testing.assert_array_equal(
            read_frame(tmp_path / "a.nii", 1), expected[::-1, ::-1, 1].T, strict=True
        )

    @pytest.mark.parametrize("slope", [0, np.nan, np.inf])
    def test_no_slope_is_no_scaling(self, slope, edited):
        path = edited((SLOPE, "f", slope), (INTERCEPT, "f", 100))
        np.testing.assert_array_equal(read_frame(path, 1), DISPLAYED[1])

    def test_slope_without_an_intercept_is_refused(self, edited):
        assert "header is damaged" in refusal(edited((SLOPE, "f", 1), (INTERCEPT, "f", np.nan)))

    @pytest.mark.parametrize("padding", [-1025, -1500, -2000, -3024, -32768])
    def test_padding_is_air(self, padding, tmp_path):
        voxels = np.full((3, 3, 2), padding, np.int16)
        voxels[1, 1] = 40
        voxels[1, 2] = -1024
        pixels = read_frame(save(tmp_path / "a.nii", voxels, np.eye(4)), 0)
        np.testing.assert_array_equal(pixels, [[AIR, -1024, AIR], [AIR, 40, AIR], [AIR] * 3])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300])
    def test_what_is_not_finite_is_air(self, value, tmp_path):
        voxels = np.full((3, 3, 2), 30.0)
        voxels[0, 0] = value
        pixels = read_frame(save(tmp_path / "a.nii", voxels, np.eye(4)), 0)
        assert pixels[2, 2] == AIR and np.count_nonzero(pixels == 30) == 8

    def test_large_slices_are_scaled_in_strips(self, tmp_path, monkeypatch):
        monkeypatch.setattr(nifti, "_CHUNK", 100)
        path = save(tmp_path / "a.nii")
        np.testing.assert_array_equal(read_frame(path, 1), DISPLAYED[1])

    def test_nifti_2(self, tmp_path):
        path = save(tmp_path / "a.nii", kind=nibabel.Nifti2Image)
        np.testing.assert_array_equal(read_frame(path, 4), DISPLAYED[4])

    def test_extensions_are_passed_over(self, tmp_path):
        for suffix in nifti.NIFTI_SUFFIXES:
            image = nibabel.Nifti1Image(RAS, RAS_AFFINE)
            image.header.extensions.append(
                nibabel.nifti1.Nifti1Extension("comment", b"of the scanner" * 1000)
            )
            image.to_filename(tmp_path / f"a{suffix}")
            np.testing.assert_array_equal(read_frame(tmp_path / f"a{suffix}", 4), DISPLAYED[4])


class TestFrames:
    def test_single_slice_needs_no_number(self, tmp_path):
        path = save(tmp_path / "a.nii", RAS[:, :, 2:3])
        np.testing.assert_array_equal(read_frame(path), DISPLAYED[2])
        np.testing.assert_array_equal(read_frame(path, None), read_frame(path, 0))

    def test_several_slices_need_one(self, tmp_path):
        assert (
            refusal(save(tmp_path / "a.nii"), None) == "holds 5 slices: say which one, from 0 to 4"
        )

    @pytest.mark.parametrize("frame", [-1, 5, 10**12])
    def test_slice_that_is_not_there(self, frame, tmp_path):
        reason = refusal(save(tmp_path / "a.nii"), frame)
        assert reason == f"has no slice {frame}: it holds 5, counted from 0"

    def test_last_axes_of_one_are_dropped(self, tmp_path):
        path = save(tmp_path / "a.nii", RAS[..., np.newaxis])
        assert len(read_header(path)) == 5
        np.testing.assert_array_equal(read_frame(path, 1), DISPLAYED[1])

    @pytest.mark.parametrize(
        "shape, named",
        [
            ((4, 5), "4 x 5"),
            ((4, 5, 6, 2), "4 x 5 x 6 x 2"),
            ((2, 3, 4, 1, 3), "2 x 3 x 4 x 1 x 3"),
        ],
    )
    def test_what_is_no_volume_is_refused(self, shape, named, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros(shape, np.int16), np.eye(4))
        assert refusal(path) == f"holds an array of {named}, not a volume of three axes"


class TestSuspicion:
    def test_axial_slices_raise_none(self, tmp_path):
        assert read_header(save(tmp_path / "a.nii")).input_warning is None

    def test_few_voxels_across(self, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros((2, 40, 40), np.int16), np.eye(4))
        assert read_header(path).input_warning == "its axial slices have only 2 x 40 voxels"

    def test_thick_sagittal_slices(self, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros((40, 64, 64), np.int16), np.diag([5, 0.5, 0.5, 1]))
        assert "5 x 0.5 mm" in read_header(path).input_warning


class TestDamage:
    def test_missing(self, tmp_path):
        assert refusal(tmp_path / "a.nii") == "no such file"

    def test_folder(self, tmp_path):
        (tmp_path / "a.nii").mkdir()
        assert refusal(tmp_path / "a.nii") == "not a file"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
    def test_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.nii")
        assert refusal(tmp_path / "a.nii") == "not a file"

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_empty(self, name, tmp_path):
        (tmp_path / name).touch()
        assert refusal(tmp_path / name) == "the file is empty (0 bytes)"

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("data", [b"x", b"\x1f\x8b", b"GIF89a" * 100, bytes(1000)])
    def test_garbage(self, name, data, tmp_path):
        (tmp_path / name).write_bytes(data)
        assert "not a NIfTI file" in refusal(tmp_path / name) or data == b"\x1f\x8b"

    def test_gzip_of_something_else(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(10**6)))
        assert "not a NIfTI file" in refusal(tmp_path / "a.nii.gz")

    def test_wrong_magic(self, edited):
        assert "not a NIfTI file" in refusal(edited((344, "4s", b"n+7\0")))

    def test_pair_of_files(self, tmp_path):
        nibabel.Nifti1Pair(RAS, RAS_AFFINE).to_filename(tmp_path / "a.hdr")
        assert "convert the pair to one .nii file" in refusal(tmp_path / "a.hdr")
        assert "not a NIfTI file" in refusal(tmp_path / "a.img")

    @pytest.mark.parametrize("compressed_as", ["a.nii", "a.nii.gz"])
    def test_the_content_decides_not_the_name(self, compressed_as, tmp_path):
        data = save(tmp_path / "whole.nii").read_bytes()
        (tmp_path / compressed_as).write_bytes(gzip.compress(data))
        np.testing.assert_array_equal(read_frame(tmp_path / compressed_as, 1), DISPLAYED[1])
        (tmp_path / compressed_as).write_bytes(data)
        np.testing.assert_array_equal(read_frame(tmp_path / compressed_as, 1), DISPLAYED[1])

    @pytest.mark.parametrize("kept", [3, 100, 347, 350, 352, 1000, -1])
    def test_cut_off(self, kept, tmp_path):
        data = save(tmp_path / "whole.nii").read_bytes()[:kept]
        for name in ("a.nii", "a.nii.gz"):
            path = tmp_path / name
            path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
            reason = refusal(path)
            assert "cut off" in reason or (kept < 348 and "not a NIfTI file" in reason)

    @pytest.mark.parametrize("lost", [1, 8, 9, 1000])
    def test_cut_off_gzip_stream(self, lost, tmp_path):
        path = save(tmp_path / "a.nii.gz")
        path.write_bytes(path.read_bytes()[:-lost])
        assert "cannot be decompressed" in refusal(path)

    def test_flipped_bit_in_a_gzip_stream(self, tmp_path):
        path = save(tmp_path / "a.nii.gz")
        data = bytearray(path.read_bytes())
        data[-6] ^= 1  # of the checksum
        path.write_bytes(data)
        assert "CRC" in refusal(path)

    @pytest.mark.parametrize("code, name", [(32, "complex64"), (128, "RGB"), (1792, "complex128")])
    def test_voxels_that_are_no_numbers(self, code, name, edited):
        assert f"its voxels are {name}" in refusal(edited((DATATYPE, "h", code)))

    @pytest.mark.parametrize("code", [0, 1, 3, 999, -4])
    def test_unknown_type_of_voxel(self, code, edited):
        refusal(edited((DATATYPE, "h", code)))

    def test_float128_is_refused(self, edited):
        refusal(edited((DATATYPE, "h", 1536), (BITPIX, "h", 128)))

    @pytest.mark.parametrize("value", [0, -1, -32768])
    @pytest.mark.parametrize("axis", [1, 2, 3])
    def test_axes_without_length(self, value, axis, edited):
        assert "declares an array of" in refusal(edited((DIM + 2 * axis, "h", value)))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1.0, 1e30])
    def test_offset_outside_the_file(self, value, edited):
        for name in ("a.nii", "a.nii.gz"):
            refusal(edited((VOX_OFFSET, "f", value), name=name))

    def test_offset_of_zero_is_right_behind_the_header(self, edited):
        np.testing.assert_array_equal(read_frame(edited((VOX_OFFSET, "f", 0)), 1), DISPLAYED[1])

    def test_small_faults_are_mended_in_silence(self, edited, caplog, capfd):
        path = edited((PIXDIM, "f", 0.5), (PIXDIM + 4, "f", -0.5), (SFORM_CODE, "h", 0))
        with caplog.at_level(logging.DEBUG):
            read_header(path)
            refusal(edited((DATATYPE, "h", 999)))
        assert caplog.records == []
        assert capfd.readouterr() == ("", "")


class TestDeclaredSizes:
    """What headers declare is refused by its size before it is allocated."""

    @pytest.fixture(autouse=True)
    def small_memory(self):
        tracemalloc.start()
        yield
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50 * 2**20

    def test_compressed_volume(self, edited):
        sizes = [(DIM + 2 * axis, "h", length) for axis, length in ((1, 1024), (2, 1024), (3, 300))]
        reason = refusal(edited(*sizes, name="a.nii.gz"))
        assert reason.startswith("declares 600 MiB of voxels, more than the 512 MiB accepted")

    def test_compressed_volume_that_the_file_cannot_hold(self, edited):
        sizes = [(DIM + 2 * axis, "h", length) for axis, length in ((1, 512), (2, 512), (3, 300))]
        assert "is cut off" in refusal(edited(*sizes, name="a.nii.gz"))

    def test_slice(self, edited):
        sizes = [(DIM + 2, "h", 8001), (DIM + 4, "h", 8000)]
        for name in ("a.nii", "a.nii.gz"):
            assert "8001 x 8000 pixels, more than the 64 million" in refusal(
                edited(*sizes, name=name)
            )

    def test_number_of_slices(self, edited):
        for name in ("a.nii", "a.nii.gz"):
            reason = refusal(edited((DIM + 6, "h", 10_001), name=name))
            assert reason == "declares 10001 slices, more than the 10000 accepted"

    def test_offset_in_a_gzip_stream(self, edited):
        reason = refusal(edited((VOX_OFFSET, "f", 2**31), name="a.nii.gz"))
        assert reason == "declares that its voxels begin at byte 2147483648"

    def test_nifti_2_counts_in_64_bits(self, tmp_path):
        data = bytearray(save(tmp_path / "a.nii", kind=nibabel.Nifti2Image).read_bytes())
        struct.pack_into("<3q", data, 24, 2**62, 2**62, 2**62)
        (tmp_path / "a.nii").write_bytes(data)
        assert "declares slices of" in refusal(tmp_path / "a.nii")


class TestLaziness:
    def test_of_an_uncompressed_file_the_slice_alone_is_read(self, tmp_path):
        # 16 GB by its header, and sparse: where nothing was written, the system keeps nothing.
        path = tmp_path / "a.nii"
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((1024, 1024, 8000))
        header.set_sform(np.diag([0.25, 0.25, 0.1, 1]), 1)
        header["vox_offset"] = 352
        with open(path, "wb") as file:
            header.write_to(file)
            file.seek(352 + 7000 * 1024 * 1024 * 2)
            file.write(np.full(1024 * 1024, 33, "<i2").tobytes())
            file.truncate(352 + 8000 * 1024 * 1024 * 2)
        tracemalloc.start()
        try:
            pixels = read_frame(path, 7000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert pixels.shape == (1024, 1024) and (pixels == 33).all()
        assert peak < 40 * 2**20
        assert len(read_header(path)) == 8000

    @pytest.fixture
    def decompressions(self, monkeypatch):
        nifti._cache.clear()
        calls = []
        decompress = nifti._decompress

        def counted(path, file, volume):
            calls.append(path.name)
            return decompress(path, file, volume)

        monkeypatch.setattr(nifti, "_decompress", counted)
        return calls

    def test_a_compressed_file_is_decompressed_once(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz")
        assert read_header(path).positions and decompressions == []
        for frame in (0, 1, 2, 3, 4, 2):
            np.testing.assert_array_equal(read_frame(path, frame), DISPLAYED[frame])
        assert decompressions == ["a.nii.gz"]

    def test_two_are_kept_and_the_last_used_stays(self, tmp_path, decompressions):
        a, b, c = (save(tmp_path / f"{name}.nii.gz") for name in "abc")
        for path in (a, b, a, b, a, c, a, b):
            read_frame(path, 0)
        assert [name[0] for name in decompressions] == ["a", "b", "c", "b"]
        assert len(nifti._cache) == 2

    def test_large_ones_are_not_kept_together(self, tmp_path, decompressions, monkeypatch):
        monkeypatch.setattr(nifti, "MAX_COMPRESSED_BYTES", RAS.nbytes * 3 // 2)
        a, b = (save(tmp_path / f"{name}.nii.gz") for name in "ab")
        for path in (a, b, b, a):
            read_frame(path, 0)
        assert [name[0] for name in decompressions] == ["a", "b", "a"]

    def test_a_rewritten_file_is_read_again(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz")
        read_frame(path, 0)
        save(path, np.full_like(RAS, 7))
        os.utime(path, ns=(1, 1))
        assert (read_frame(path, 0) == 7).all()

    def test_they_are_kept_as_stored_and_are_not_handed_out(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz", RAS.astype(np.float32))
        read_frame(path, 0)[:] = 0
        (kept,) = nifti._cache.values()
        assert kept.dtype == np.float32
        np.testing.assert_array_equal(read_frame(path, 0), DISPLAYED[0])

    def test_threads_do_not_decompress_twice(self, tmp_path, decompressions, monkeypatch):
        paths = [save(tmp_path / f"{name}.nii.gz") for name in "abc"]
        everyone = threading.Barrier(8, timeout=60)
        thread = threading.local()
        kept = nifti._kept

        def kept_after_all_have_looked(key):
            found = kept(key)
            if getattr(thread, "key", None) != key:
                thread.key = key
                everyone.wait()
            return found

        monkeypatch.setattr(nifti, "_kept", kept_after_all_have_looked)

        def read(job):
            frames = [(job + step) % 5 for step in range(5)]
            return [(frame, read_frame(path, frame)) for path in paths for frame in frames]

        with ThreadPoolExecutor(8) as pool:
            for read_by_one in pool.map(read, range(8)):
                for frame, pixels in read_by_one:
                    np.testing.assert_array_equal(pixels, DISPLAYED[frame])
        assert [name[0] for name in decompressions] == ["a", "b", "c"]

    def test_a_damaged_one_does_not_lock_others_out(self, tmp_path, decompressions):
        damaged = save(tmp_path / "a.nii.gz")
        damaged.write_bytes(damaged.read_bytes()[:-20])
        whole = save(tmp_path / "b.nii.gz")
        with ThreadPoolExecutor(4) as pool:
            reasons = list(pool.map(refusal, [damaged] * 4))
        assert all("cannot be decompressed" in reason for reason in reasons)
        np.testing.assert_array_equal(read_frame(whole, 0), DISPLAYED[0])


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    small = RAS[:6, :5, :2]
    return [
        save(folder / "a.nii", small).read_bytes(),
        save(folder / "b.nii", small.astype(np.float64), kind=nibabel.Nifti2Image).read_bytes(),
    ]


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_damaged_bytes_give_a_slice_or_a_slice_error(whole_files, tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    # The first half of the places lie in the header, where damage is worth most.
    places = st.integers(0, 400) | st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, max_size=12)):
        content[place] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    if data.draw(st.booleans()):
        content = bytearray(gzip.compress(content, mtime=0))
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=2)):
            content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.nii"
    path.write_bytes(content)
    try:
        header = read_header(path)
        assert np.isfinite(header.positions).all()
        pixels = read_frame(path, len(header) - 1)
    except HemorrhageError as error:
        assert str(path) in str(error)
    else:
        assert pixels.dtype == np.float32 and pixels.ndim == 2
        assert np.isfinite(pixels).all() and pixels.min() >= -1024


@pytest.mark.real_data
@pytest.mark.parametrize("suffix", nifti.NIFTI_SUFFIXES)
def test_a_real_series_as_nifti_shows_what_its_dicom_files_show(suffix, shared, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    folder = shared / "ct" / "ge_series"
    if not folder.is_dir():
        pytest.skip("no DICOM series beside the project")
    files = sorted(
        (pydicom.dcmread(path) for path in folder.glob("*.dcm")),
        key=lambda file: float(file.ImagePositionPatient[2]),
    )
    slices = [file.pixel_array * file.RescaleSlope + file.RescaleIntercept for file in files]
    row, column = np.array(files[0].ImageOrientationPatient, float).reshape(2, 3)
    first, last = (np.array(file.ImagePositionPatient, float) for file in (files[0], files[-1]))
    # DICOM PS3.3, C.7.6.2.1.1, for indices (column, row, slice); LPS to RAS turns two signs.
    lps = np.eye(4)
    lps[:3, 0] = row * float(files[0].PixelSpacing[1])
    lps[:3, 1] = column * float(files[0].PixelSpacing[0])
    lps[:3, 2] = (last - first) / (len(files) - 1)
    lps[:3, 3] = first
    affine = np.diag([-1, -1, 1, 1]) @ lps
    voxels = np.stack(slices, axis=-1).transpose(1, 0, 2).astype(np.int16)
    path = save(tmp_path / f"series{suffix}", voxels, affine)
    header = read_header(path)
    assert header.input_warning is None
    normal = np.cross(row, column)
    # The series is 4 mm apart below and 8 above, which an affine cannot say: the ends must fit.
    ends = [normal @ first, normal @ last]
    np.testing.assert_allclose([header.positions[0], header.positions[-1]], ends, atol=1e-3)
    assert list(np.argsort(header.positions)) == list(range(len(files)))
    for frame, hounsfield in enumerate(slices):
        assert hounsfield.min() == -1500  # the scanner's padding
        np.testing.assert_array_equal(
            read_frame(path, frame), np.where(hounsfield < -1024, AIR, hounsfield)
        )
