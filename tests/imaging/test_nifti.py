import gzip
import itertools
import logging
import os
import struct
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
from hemorrhage_tf.imaging.hounsfield_scale import AIR
from hemorrhage_tf.imaging.nifti import is_nifti, read_frame, read_header
from hemorrhage_tf.imaging.volume_cache import VolumeCache

# A volume as radiologists view it: [slice from the feet, row to posterior, column to left].
DISPLAYED = np.random.default_rng(0).integers(-1024, 3000, (5, 40, 36)).astype(np.int16)
# Its voxels with axes that grow to R, A and S, and their affine in mm.
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
    """Return the same volume with other axes, and its affine."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
    return apply_orientation(RAS, change), RAS_AFFINE @ inv_ornt_aff(change, RAS.shape)


def raw_bytes(path, edits=(), kind="<"):
    """Return the bytes of a file with header fields overwritten: (offset, format, value)."""
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
    def test_slices_are_the_same_in_each(self, code, suffix, tmp_path):
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

    def test_frames_are_numbered_in_the_order_of_the_file(self, tmp_path):
        voxels, affine = oriented("LPI")
        path = save(tmp_path / "a.nii", voxels, affine)
        assert list(read_header(path).positions) == [60, 55, 50, 45, 40]
        np.testing.assert_array_equal(read_frame(path, 0), DISPLAYED[4])

    @pytest.mark.parametrize("tilt", [-30, -18.5, 18.5, 30])
    @pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "LPI"])
    def test_slices_of_a_tilted_gantry_are_not_resampled(self, code, tilt, tmp_path):
        # The couch moves along the body and the slices are tilted: a shear.
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

    def test_a_rotated_head_keeps_its_nearest_axes(self, tmp_path):
        angle = np.deg2rad(20)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        path = save(tmp_path / "a.nii", affine=turn @ RAS_AFFINE)
        np.testing.assert_array_equal(read_frame(path, 2), DISPLAYED[2])
        np.testing.assert_allclose(read_header(path).positions, [40, 45, 50, 55, 60])

    def test_without_codes_the_default_of_the_format_is_used(self, edited):
        # nifti1.h, method 1; in nibabel, as in SPM, the first axis grows to the left.
        path = edited((QFORM_CODE, "h", 0), (SFORM_CODE, "h", 0))
        np.testing.assert_array_equal(read_frame(path, 3), DISPLAYED[3][:, ::-1])

    def test_a_qform_alone_is_used(self, tmp_path):
        voxels, affine = oriented("PSL")
        image = nibabel.Nifti1Image(voxels, affine)
        image.set_qform(affine, 1)
        image.set_sform(np.eye(4), 0)
        image.to_filename(tmp_path / "a.nii")
        np.testing.assert_array_equal(read_frame(tmp_path / "a.nii", 3), DISPLAYED[3])

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
    def test_refuses_an_affine_without_directions(self, value, edited):
        path = edited(*((SROW + 4 * entry, "f", value) for entry in range(12)))
        assert "affine" in refusal(path)
        with pytest.raises(SliceError, match="affine"):
            read_header(path)

    def test_refuses_a_flat_affine(self, edited):
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
    def test_reads_each_voxel_type(self, dtype, suffix, tmp_path):
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
        # The writer inverts the scaling, so that reading returns the input.
        stored = nibabel.load(tmp_path / "a.nii").get_fdata()
        expected = np.where(stored < -1024, AIR, stored).astype(np.float32)
        np.testing.assert_array_equal(
            read_frame(tmp_path / "a.nii", 1), expected[::-1, ::-1, 1].T, strict=True
        )

    @pytest.mark.parametrize("slope", [0, np.nan, np.inf])
    def test_without_a_slope_values_are_not_scaled(self, slope, edited):
        path = edited((SLOPE, "f", slope), (INTERCEPT, "f", 100))
        np.testing.assert_array_equal(read_frame(path, 1), DISPLAYED[1])

    def test_refuses_a_slope_without_an_intercept(self, edited):
        assert "header is damaged" in refusal(edited((SLOPE, "f", 1), (INTERCEPT, "f", np.nan)))

    @pytest.mark.parametrize("padding", [-1025, -1500, -2000, -3024, -32768])
    def test_padding_is_air(self, padding, tmp_path):
        voxels = np.full((3, 3, 2), padding, np.int16)
        voxels[1, 1] = 40
        voxels[1, 2] = -1024
        pixels = read_frame(save(tmp_path / "a.nii", voxels, np.eye(4)), 0)
        np.testing.assert_array_equal(pixels, [[AIR, -1024, AIR], [AIR, 40, AIR], [AIR] * 3])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300])
    def test_values_that_are_not_finite_are_air(self, value, tmp_path):
        voxels = np.full((3, 3, 2), 30.0)
        voxels[0, 0] = value
        pixels = read_frame(save(tmp_path / "a.nii", voxels, np.eye(4)), 0)
        assert pixels[2, 2] == AIR and np.count_nonzero(pixels == 30) == 8

    def test_nifti_2(self, tmp_path):
        path = save(tmp_path / "a.nii", kind=nibabel.Nifti2Image)
        np.testing.assert_array_equal(read_frame(path, 4), DISPLAYED[4])

    def test_extensions_are_skipped(self, tmp_path):
        for suffix in nifti.NIFTI_SUFFIXES:
            image = nibabel.Nifti1Image(RAS, RAS_AFFINE)
            image.header.extensions.append(
                nibabel.nifti1.Nifti1Extension("comment", b"of the scanner" * 1000)
            )
            image.to_filename(tmp_path / f"a{suffix}")
            np.testing.assert_array_equal(read_frame(tmp_path / f"a{suffix}", 4), DISPLAYED[4])


class TestFrames:
    def test_the_only_slice_needs_no_number(self, tmp_path):
        path = save(tmp_path / "a.nii", RAS[:, :, 2:3])
        np.testing.assert_array_equal(read_frame(path), DISPLAYED[2])
        np.testing.assert_array_equal(read_frame(path, None), read_frame(path, 0))

    def test_one_of_several_slices_must_be_chosen(self, tmp_path):
        assert refusal(save(tmp_path / "a.nii"), None) == "holds 5 slices: choose one, from 0 to 4"

    @pytest.mark.parametrize("frame", [-1, 5, 10**12])
    def test_refuses_a_slice_out_of_range(self, frame, tmp_path):
        reason = refusal(save(tmp_path / "a.nii"), frame)
        assert reason == f"has no slice {frame}: it holds 5, numbered from 0"

    def test_trailing_axes_of_length_1_are_dropped(self, tmp_path):
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
    def test_refuses_arrays_that_are_not_a_volume(self, shape, named, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros(shape, np.int16), np.eye(4))
        assert refusal(path) == f"holds an array of {named}, not a volume of three axes"


class TestInputWarning:
    def test_axial_slices_cause_none(self, tmp_path):
        assert read_header(save(tmp_path / "a.nii")).input_warning is None

    def test_of_few_voxels_across(self, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros((2, 40, 40), np.int16), np.eye(4))
        assert read_header(path).input_warning == "its axial slices have only 2 x 40 voxels"

    def test_of_thick_sagittal_slices(self, tmp_path):
        path = save(tmp_path / "a.nii", np.zeros((40, 64, 64), np.int16), np.diag([5, 0.5, 0.5, 1]))
        assert "5 x 0.5 mm" in read_header(path).input_warning


class TestDamage:
    def test_missing(self, tmp_path):
        assert refusal(tmp_path / "a.nii") == "no such file"

    def test_folder(self, tmp_path):
        (tmp_path / "a.nii").mkdir()
        assert refusal(tmp_path / "a.nii") == "not a file"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_pipe_is_not_opened(self, tmp_path):
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
    def test_depends_on_content_and_not_on_the_name(self, compressed_as, tmp_path):
        data = save(tmp_path / "whole.nii").read_bytes()
        (tmp_path / compressed_as).write_bytes(gzip.compress(data))
        np.testing.assert_array_equal(read_frame(tmp_path / compressed_as, 1), DISPLAYED[1])
        (tmp_path / compressed_as).write_bytes(data)
        np.testing.assert_array_equal(read_frame(tmp_path / compressed_as, 1), DISPLAYED[1])

    @pytest.mark.parametrize("length", [3, 100, 347, 350, 352, 1000, -1])
    def test_truncated(self, length, tmp_path):
        data = save(tmp_path / "whole.nii").read_bytes()[:length]
        for name in ("a.nii", "a.nii.gz"):
            path = tmp_path / name
            path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
            reason = refusal(path)
            assert "truncated" in reason or (length < 348 and "not a NIfTI file" in reason)

    @pytest.mark.parametrize("lost", [1, 8, 9, 1000])
    def test_truncated_gzip_stream(self, lost, tmp_path):
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
    def test_voxels_that_are_not_real_numbers(self, code, name, edited):
        assert f"its voxels are {name}" in refusal(edited((DATATYPE, "h", code)))

    @pytest.mark.parametrize("code", [0, 1, 3, 999, -4])
    def test_unknown_voxel_type(self, code, edited):
        refusal(edited((DATATYPE, "h", code)))

    def test_float128_is_refused(self, edited):
        refusal(edited((DATATYPE, "h", 1536), (BITPIX, "h", 128)))

    @pytest.mark.parametrize("value", [0, -1, -32768])
    @pytest.mark.parametrize("axis", [1, 2, 3])
    def test_empty_axes(self, value, axis, edited):
        assert "declares an array of" in refusal(edited((DIM + 2 * axis, "h", value)))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1.0, 1e30])
    def test_offset_outside_the_file(self, value, edited):
        for name in ("a.nii", "a.nii.gz"):
            refusal(edited((VOX_OFFSET, "f", value), name=name))

    def test_offset_of_zero_is_right_after_the_header(self, edited):
        np.testing.assert_array_equal(read_frame(edited((VOX_OFFSET, "f", 0)), 1), DISPLAYED[1])

    def test_small_faults_are_fixed_silently(self, edited, caplog, capfd):
        path = edited((PIXDIM, "f", 0.5), (PIXDIM + 4, "f", -0.5), (SFORM_CODE, "h", 0))
        with caplog.at_level(logging.DEBUG):
            read_header(path)
            refusal(edited((DATATYPE, "h", 999)))
        assert caplog.records == []
        assert capfd.readouterr() == ("", "")


class TestDeclaredSizes:
    """Sizes that a header declares are checked before anything is allocated."""

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
        assert reason.startswith(
            "declares 600 MiB of voxels: the limit for compressed files is 512 MiB"
        )

    def test_compressed_volume_that_the_file_cannot_hold(self, edited):
        sizes = [(DIM + 2 * axis, "h", length) for axis, length in ((1, 512), (2, 512), (3, 300))]
        assert "truncated" in refusal(edited(*sizes, name="a.nii.gz"))

    def test_slice(self, edited):
        sizes = [(DIM + 2, "h", 8001), (DIM + 4, "h", 8000)]
        for name in ("a.nii", "a.nii.gz"):
            assert "8001 x 8000 pixels: the limit is 64 million" in refusal(
                edited(*sizes, name=name)
            )

    def test_number_of_slices(self, edited):
        for name in ("a.nii", "a.nii.gz"):
            reason = refusal(edited((DIM + 6, "h", 10_001), name=name))
            assert reason == "declares 10001 slices: the limit is 10000"

    def test_offset_in_a_gzip_stream(self, edited):
        reason = refusal(edited((VOX_OFFSET, "f", 2**31), name="a.nii.gz"))
        assert reason == "declares that its voxels start at byte 2147483648"

    def test_nifti_2_counts_in_64_bits(self, tmp_path):
        data = bytearray(save(tmp_path / "a.nii", kind=nibabel.Nifti2Image).read_bytes())
        struct.pack_into("<3q", data, 24, 2**62, 2**62, 2**62)
        (tmp_path / "a.nii").write_bytes(data)
        assert "declares slices of" in refusal(tmp_path / "a.nii")


class TestLaziness:
    def test_only_the_slice_of_an_uncompressed_file_is_read(self, tmp_path):
        # 16 GB by its header, but sparse.
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
        """Record the names of the files that are decompressed, with an empty cache."""
        names = []

        class RecordingCache(VolumeCache):
            def get(self, key, nbytes, decompress, keep=True):
                def recorded():
                    names.append(os.path.basename(key[0]))
                    return decompress()

                return super().get(key, nbytes, recorded, keep)

        cache = RecordingCache(2, nifti.MAX_COMPRESSED_BYTES)
        monkeypatch.setattr(nifti, "decompressed_volumes", cache)
        return names

    def test_a_compressed_file_is_decompressed_once(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz")
        assert read_header(path).positions and decompressions == []
        for frame in (0, 1, 2, 3, 4, 2):
            np.testing.assert_array_equal(read_frame(path, frame), DISPLAYED[frame])
        assert decompressions == ["a.nii.gz"]

    def test_a_rewritten_file_is_read_again(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz")
        read_frame(path, 0)
        save(path, np.full_like(RAS, 7))
        os.utime(path, ns=(1, 1))
        assert (read_frame(path, 0) == 7).all()
        assert len(decompressions) == 2

    def test_changing_a_returned_slice_does_not_change_the_cache(self, tmp_path, decompressions):
        path = save(tmp_path / "a.nii.gz", RAS.astype(np.float32))
        read_frame(path, 0)[:] = 0
        np.testing.assert_array_equal(read_frame(path, 0), DISPLAYED[0])

    def test_a_damaged_file_does_not_block_others(self, tmp_path, decompressions):
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


def check_damaged_file(whole_files, tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    # Half of the places are in the header, where damage matters most.
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


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_reads_or_refuses_damaged_files(whole_files, tmp_path, data):
    check_damaged_file(whole_files, tmp_path, data)


@pytest.mark.slow
@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_reads_or_refuses_many_damaged_files(whole_files, tmp_path, data):
    check_damaged_file(whole_files, tmp_path, data)


@pytest.mark.real_data
@pytest.mark.parametrize("suffix", nifti.NIFTI_SUFFIXES)
def test_a_real_series_is_the_same_as_nifti_and_as_dicom(suffix, shared, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    folder = shared / "ct" / "ge_series"
    if not folder.is_dir():
        pytest.skip("no DICOM series next to the project")
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
    # The spacing changes from 4 to 8 mm, which an affine cannot express: only the ends fit.
    ends = [normal @ first, normal @ last]
    np.testing.assert_allclose([header.positions[0], header.positions[-1]], ends, atol=1e-3)
    assert list(np.argsort(header.positions)) == list(range(len(files)))
    for frame, hounsfield in enumerate(slices):
        assert hounsfield.min() == -1500  # the scanner's padding
        np.testing.assert_array_equal(
            read_frame(path, frame), np.where(hounsfield < -1024, AIR, hounsfield)
        )
