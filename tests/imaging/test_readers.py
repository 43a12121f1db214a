import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from hemorrhage_tf.core.errors import DataError, SliceError
from hemorrhage_tf.imaging.readers import (
    FORMATS,
    SLICE_SUFFIXES,
    SliceRef,
    content_hash,
    drop_equal_channels,
    is_slice_path,
    read_header,
    read_slice,
    to_rgb,
)

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
COLOR = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
NO_FORMAT = f"not in a supported format: {FORMATS}"
NOISE = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)

slices = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=5))


def encode(image, suffix, **options):
    buffer = io.BytesIO()
    image.save(buffer, {"png": "PNG", "jpg": "JPEG"}[suffix], **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_declaring(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.fixture
def read(tmp_path):
    def read(data, name="slice.png"):
        path = tmp_path / name
        path.write_bytes(data)
        return read_slice(path)

    return read


class TestModes:
    def test_gray_png_keeps_its_samples(self, read):
        pixels = read(encode(Image.fromarray(GRAY), "png"))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, GRAY)

    def test_rgb_png_keeps_its_samples(self, read):
        pixels = read(encode(Image.fromarray(COLOR), "png"))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, COLOR)

    def test_bilevel_png_is_black_and_white(self, read):
        bits = GRAY % 3 == 0
        pixels = read(encode(Image.fromarray(bits), "png"))
        np.testing.assert_array_equal(pixels, np.where(bits, 255, 0))

    @pytest.mark.parametrize("colors", [2, 4, 16, 256])
    def test_palette_is_looked_up(self, read, colors):
        palette = np.random.default_rng(colors).integers(0, 256, (colors, 3), np.uint8)
        indices = (np.arange(20 * 15).reshape(20, 15) % colors).astype(np.uint8)
        image = Image.new("P", (15, 20))
        image.putdata(indices.ravel().tolist())
        image.putpalette(palette.ravel().tolist())
        np.testing.assert_array_equal(read(encode(image, "png")), palette[indices])

    def test_palette_entry_without_opacity_is_black(self, read):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        pixels = read(encode(image, "png", transparency=0))
        np.testing.assert_array_equal(pixels, [[[0, 0, 0], [200, 100, 50]]])

    def test_palette_alphas_are_composited_on_black(self, read):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        pixels = read(encode(image, "png", transparency=bytes([255, 128])))
        # 200 * 128 / 255 = 100.4, 100 * 128 / 255 = 50.2, 50 * 128 / 255 = 25.1
        np.testing.assert_array_equal(pixels, [[[10, 20, 30], [100, 50, 25]]])

    def test_gray_with_one_transparent_level_turns_it_black(self, read):
        pixels = read(encode(Image.fromarray(GRAY), "png", transparency=100))
        np.testing.assert_array_equal(pixels, np.where(GRAY == 100, 0, GRAY))

    def test_rgb_with_one_transparent_color_turns_it_black(self, read):
        color = tuple(int(value) for value in COLOR[3, 4])
        expected = COLOR.copy()
        expected[(COLOR == color).all(axis=-1)] = 0
        pixels = read(encode(Image.fromarray(COLOR), "png", transparency=color))
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha_is_composited_on_black_for_every_level_and_alpha(self, read, mode):
        alpha, level = np.mgrid[0:256, 0:256].astype(np.uint8)
        channels = [level, alpha] if mode == "LA" else [level, 255 - level, level // 2, alpha]
        bands = [Image.fromarray(channel) for channel in channels]
        pixels = read(encode(Image.merge(mode, bands), "png"))
        colors = level if mode == "LA" else np.stack(channels[:3], axis=-1)
        weight = alpha if mode == "LA" else alpha[..., np.newaxis]
        assert pixels.shape == colors.shape
        np.testing.assert_allclose(pixels, colors * (weight / 255.0), rtol=0, atol=0.51)

    def test_alpha_matches_a_calculation_by_hand(self, read):
        # 200 * 51 / 255 = 40, 100 * 51 / 255 = 20, 255 * 51 / 255 = 51
        pixels = read(encode(Image.new("RGBA", (1, 1), (200, 100, 255, 51)), "png"))
        np.testing.assert_array_equal(pixels, [[[40, 20, 51]]])

    def test_gray_jpeg_is_gray_and_near_its_source(self, read):
        pixels = read(encode(Image.fromarray(GRAY), "jpg", quality=100), "slice.jpg")
        assert pixels.shape == GRAY.shape
        assert pixels.dtype == np.uint8
        np.testing.assert_allclose(pixels.astype(int), GRAY, atol=3)

    @pytest.mark.parametrize("progressive", [False, True])
    def test_rgb_jpeg_agrees_with_tensorflow(self, read, progressive):
        import tensorflow as tf

        data = encode(
            Image.fromarray(COLOR), "jpg", quality=100, subsampling=0, progressive=progressive
        )
        decoded = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        np.testing.assert_allclose(read(data, "slice.jpeg").astype(int), decoded, atol=1)

    def test_cmyk_jpeg_is_converted_to_rgb(self, read):
        cyan, magenta, yellow, black = 40, 120, 200, 60
        data = encode(Image.new("CMYK", (16, 16), (cyan, magenta, yellow, black)), "jpg")
        expected = [(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)]
        pixels = read(data, "slice.jpg")
        assert pixels.shape == (16, 16, 3)
        np.testing.assert_allclose(
            pixels, np.broadcast_to(expected, pixels.shape), rtol=0, atol=2.5
        )

    def test_exif_orientation_is_not_applied(self, read):
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = read(encode(Image.fromarray(NOISE[:20]), "jpg", exif=exif), "slice.jpg")
        assert pixels.shape == (20, 64)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5)])
    def test_shape_is_height_by_width(self, read, shape):
        assert read(encode(Image.new("L", shape[::-1], 7), "png")).shape == shape


class Test16Bit:
    @settings(max_examples=20, deadline=None)
    @given(samples=arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=6)))
    def test_gray_agrees_with_tensorflow(self, tmp_path_factory, samples):
        import tensorflow as tf

        path = tmp_path_factory.getbasetemp() / "16-bit-gray.png"
        path.write_bytes(encode(Image.fromarray(samples), "png"))
        decoded = tf.io.decode_png(path.read_bytes(), channels=1, dtype=tf.uint8).numpy()
        np.testing.assert_array_equal(read_slice(path), decoded[..., 0])

    def test_every_gray_level_agrees_with_tensorflow(self, read):
        import tensorflow as tf

        samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        data = encode(Image.fromarray(samples), "png")
        decoded = tf.io.decode_png(data, channels=1, dtype=tf.uint8).numpy()
        np.testing.assert_array_equal(read(data), decoded[..., 0])

    @pytest.mark.parametrize("channels", [2, 3])
    def test_color_and_opaque_alpha_agree_with_tensorflow(self, read, channels):
        import tensorflow as tf

        samples = np.random.default_rng(2).integers(0, 65536, (9, 7, channels), np.uint16)
        if channels == 2:
            samples[..., 1] = 65535
        data = tf.io.encode_png(samples).numpy()
        decoded = tf.io.decode_png(data, dtype=tf.uint8).numpy()
        # Pillow opens 16-bit gray with alpha as RGBA, so gray has three channels.
        expected = decoded if channels == 3 else np.repeat(decoded[..., :1], 3, axis=-1)
        np.testing.assert_array_equal(read(data), expected)


class TestContentHash:
    @settings(max_examples=30, deadline=None)
    @given(pixels=slices)
    def test_gray_equals_rgb_with_equal_channels(self, pixels):
        assert content_hash(pixels) == content_hash(np.stack([pixels] * 3, axis=-1))

    @settings(max_examples=40, deadline=None)
    @given(first=slices, second=slices)
    def test_equal_only_for_equal_pixels(self, first, second):
        assert (content_hash(first) == content_hash(second)) == np.array_equal(first, second)

    @settings(max_examples=30, deadline=None)
    @given(pixels=slices, data=st.data())
    def test_one_changed_pixel_changes_it(self, pixels, data):
        row = data.draw(st.integers(0, pixels.shape[0] - 1))
        column = data.draw(st.integers(0, pixels.shape[1] - 1))
        changed = pixels.copy()
        changed[row, column] ^= data.draw(st.integers(1, 255))
        assert content_hash(changed) != content_hash(pixels)

    def test_same_bytes_in_another_shape_differ(self):
        assert content_hash(GRAY) != content_hash(GRAY.reshape(12, 10))

    def test_same_for_every_png_mode(self, read):
        image = Image.fromarray(GRAY)
        palette = Image.fromarray(GRAY).convert("P")
        palette.putpalette(np.repeat(np.arange(256), 3).tolist())
        palette.putdata(GRAY.ravel().tolist())
        modes = [image.convert(mode) for mode in ("L", "LA", "RGB", "RGBA")]
        modes += [palette, Image.fromarray(GRAY.astype(np.uint16) * 257)]
        assert {content_hash(read(encode(mode, "png"))) for mode in modes} == {content_hash(GRAY)}

    def test_memory_layout_does_not_matter(self):
        assert content_hash(np.asfortranarray(COLOR)) == content_hash(COLOR)

    def test_is_32_hexadecimal_digits(self):
        digits = content_hash(GRAY)
        assert len(digits) == 32
        assert set(digits) <= set("0123456789abcdef")


class TestToRgb:
    def test_repeats_gray(self):
        rgb = to_rgb(GRAY)
        assert rgb.shape == (10, 12, 3)
        assert rgb.dtype == GRAY.dtype
        for channel in range(3):
            np.testing.assert_array_equal(rgb[..., channel], GRAY)

    def test_color_is_unchanged(self):
        np.testing.assert_array_equal(to_rgb(COLOR), COLOR)


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(SliceError, match=r"gone\.png: no such file$"):
            read_slice(tmp_path / "gone.png")

    def test_folder(self, tmp_path):
        with pytest.raises(SliceError, match=r"cannot be decoded \(.*directory"):
            read_slice(tmp_path)

    def test_empty(self, read):
        with pytest.raises(SliceError, match=r"slice\.png: the file is empty \(0 bytes\)$"):
            read(b"")

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_truncated(self, read, suffix, share):
        data = encode(Image.fromarray(NOISE), suffix)
        with pytest.raises(SliceError, match=rf"slice\.{suffix}: cannot be decoded \(.+\)$"):
            read(data[: int(len(data) * share)], f"slice.{suffix}")

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_cut_in_the_signature(self, read, suffix):
        with pytest.raises(SliceError, match=NO_FORMAT):
            read(encode(Image.fromarray(NOISE), suffix)[:2], f"slice.{suffix}")

    def test_text_named_png(self, read):
        with pytest.raises(SliceError, match=rf"slice\.png: {NO_FORMAT}$"):
            read(b"No pixels here.\n")

    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
    def test_other_formats_named_png(self, read, kind):
        buffer = io.BytesIO()
        Image.fromarray(GRAY).save(buffer, kind)
        with pytest.raises(SliceError, match=NO_FORMAT):
            read(buffer.getvalue())

    def test_damaged_checksum(self, read):
        data = bytearray(encode(Image.fromarray(NOISE), "png"))
        data[60] ^= 0xFF
        with pytest.raises(SliceError, match="cannot be decoded"):
            read(bytes(data))

    def test_declared_size_over_the_limit(self, read):
        with pytest.raises(
            SliceError,
            match="declares 8001 x 8000 pixels: the limit is 64 million",
        ):
            read(png_declaring(8001, 8000))

    @pytest.mark.parametrize("side", [10_000, 13_000, 65_535, 2**31 - 1])
    def test_huge_declared_size(self, read, side):
        with pytest.raises(SliceError, match="declares .*pixels.* limit"):
            read(png_declaring(side, side))

    @settings(max_examples=40, deadline=None)
    @given(
        data=st.sampled_from(
            [
                encode(Image.fromarray(GRAY), "png"),
                encode(Image.fromarray(COLOR), "png"),
                encode(Image.fromarray(GRAY), "jpg"),
            ]
        ),
        place=st.integers(0, 1000),
        byte=st.integers(0, 255),
        end=st.one_of(st.none(), st.integers(1, 300)),
    )
    def test_reads_or_refuses_damaged_files(self, tmp_path_factory, data, place, byte, end):
        damaged = bytearray(data)
        damaged[place % len(damaged)] = byte
        path = tmp_path_factory.getbasetemp() / "damaged.png"
        path.write_bytes(damaged[:end])
        try:
            pixels = read_slice(path)
        except SliceError as error:
            assert error.problem.path == str(path)
            assert error.problem.reason in str(error)
        else:
            assert pixels.dtype == np.uint8

    def test_error_is_a_data_error_with_one_line(self, read):
        with pytest.raises(DataError) as caught:
            read(b"nonsense")
        assert "\n" not in str(caught.value)
        assert caught.value.problem.reason == NO_FORMAT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", True),
        ("a.PNG", True),
        ("a.jpg", True),
        ("a.JpEg", True),
        ("a.dcm", True),
        ("a.DICOM", True),
        ("a.ima", True),
        ("a.nii", True),
        ("a.nii.gz", True),
        ("a.gz", False),
        ("a.csv", False),
        ("DICOMDIR", False),
        ("dicomdir", False),
        (".a.dcm", False),
        ("png", False),
        (".a.png", False),
        ("._a.png", False),
    ],
)
def test_is_slice_path(tmp_path, name, expected):
    assert is_slice_path(tmp_path / name) is expected


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.2.55", "file.7"])
def test_files_without_a_suffix_are_opened_to_check(tmp_path, name, head, write_dicom):
    path = write_dicom(tmp_path / name, head(0))
    assert is_slice_path(path)
    np.testing.assert_array_equal(read_slice(path), head(0))
    path.write_text("notes")
    assert not is_slice_path(path)
    assert not is_slice_path(write_dicom(tmp_path / f"{name}.txt", head(0)))


class TestHounsfield:
    def test_a_slice_is_the_same_in_every_format(self, tmp_path, head, write_dicom, write_nifti):
        heads = np.stack([head(index) for index in range(3)])
        frames = write_dicom(tmp_path / "frames.dcm", heads, [0, 5, 10])
        volume = write_nifti(tmp_path / "a.nii", heads)
        packed = write_nifti(tmp_path / "b.nii.gz", heads)
        alone = write_dicom(tmp_path / "c.dcm", heads[2])
        for source in (
            *(SliceRef(path, 2) for path in (frames, volume, packed)),
            alone,
            str(alone),
            SliceRef(alone),
            SliceRef(alone, 0),
        ):
            pixels = read_slice(source)
            assert pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, heads[2])

    @pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz"])
    def test_one_of_several_must_be_chosen(self, tmp_path, name, head, write_dicom, write_nifti):
        heads = np.stack([head(index) for index in range(3)])
        path = tmp_path / name
        if name == "a.dcm":
            write_dicom(path, heads, [0, 5, 10])
        else:
            write_nifti(path, heads)
        with pytest.raises(SliceError, match="holds 3 .*choose one"):
            read_slice(path)
        with pytest.raises(SliceError, match="3.*it holds 3"):
            read_slice(SliceRef(path, 3))

    def test_a_png_has_no_frames(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(encode(Image.fromarray(GRAY), "png"))
        with pytest.raises(SliceError, match=r"a\.png#0: a PNG or JPEG holds one slice"):
            read_slice(SliceRef(path, 0))

    def test_refuses_a_side_that_is_too_long(self, tmp_path, write_dicom):
        path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 10_001)))
        with pytest.raises(SliceError, match="a side is longer than the limit of 10000 pixels"):
            read_slice(path)

    @pytest.mark.parametrize("suffix", SLICE_SUFFIXES)
    def test_refuses_text_with_any_suffix(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_text("No pixels here.\n")
        with pytest.raises(SliceError) as caught:
            read_slice(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)

    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_hash_depends_on_shape_and_values(self, data):
        shapes = array_shapes(min_dims=2, max_dims=2, max_side=4)
        values = st.integers(-1024, 3000)
        first, second = (
            data.draw(arrays(np.int64, shapes, elements=values)).astype(np.float32) for _ in "12"
        )
        assert (content_hash(first) == content_hash(second)) == np.array_equal(first, second)

    def test_hash_differs_between_hounsfield_units_and_gray_levels(self):
        assert content_hash(GRAY.astype(np.float32)) != content_hash(GRAY)


def test_a_slice_ref_is_printed_with_its_frame(tmp_path):
    assert str(SliceRef(tmp_path / "a.png")) == f"{tmp_path}/a.png"
    assert str(SliceRef(tmp_path / "a.nii", 0)) == f"{tmp_path}/a.nii#0"


def test_a_png_has_a_header_without_a_position(tmp_path):
    header = read_header(tmp_path / "a.png")  # the file is not opened
    assert header.positions == (None,) and header.patient is None


class TestDropEqualChannels:
    @pytest.mark.parametrize("shape", [(1, 1), (40, 30)])
    def test_gray_in_three_channels_becomes_gray(self, shape):
        gray = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        rgb = np.stack([gray] * 3, axis=-1)
        np.testing.assert_array_equal(drop_equal_channels(rgb), gray)
        assert content_hash(rgb) == content_hash(gray)

    @pytest.mark.parametrize("row", [0, 17])
    def test_a_single_pixel_in_color_keeps_the_channels(self, row):
        rgb = np.full((40, 30, 3), 9, np.uint8)
        rgb[row, 3, 2] = 10
        assert drop_equal_channels(rgb) is rgb

    def test_other_pixels_are_unchanged(self):
        hounsfield = np.zeros((3, 4), np.float32)
        assert drop_equal_channels(hounsfield) is hounsfield
