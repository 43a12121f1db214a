import io
import struct

import numpy as np
import pytest
from dicom_files import JPEG_2000_LOSSLESS, TILES, compressed, dataset_of
from PIL import Image
from pydicom.encaps import get_frame

from hemorrhage_tf.imaging.dicom.codestreams import (
    jpeg_2000_size,
    jpeg_size,
    strip_optional_segments,
)


def jpeg_bytes(mode, **options):
    buffer = io.BytesIO()
    gray = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(gray).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def jpeg_2000_bytes():
    dataset = compressed(dataset_of(TILES), JPEG_2000_LOSSLESS)
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("mode, samples", [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("progressive", [False, True])
def test_size_of_a_jpeg(mode, samples, progressive):
    assert jpeg_size(jpeg_bytes(mode, progressive=progressive)) == (10, 12, samples, 8)


def test_size_of_a_jpeg_2000():
    codestream = jpeg_2000_bytes()
    assert jpeg_2000_size(codestream) == (40, 48, 1, 16)
    boxes = struct.pack(">I4sI", 12, b"jP  ", 0x0D0A870A) + struct.pack(">I4s", 0, b"jp2c")
    assert jpeg_2000_size(boxes + codestream) == (40, 48, 1, 16)


def test_a_codestream_without_a_frame_header_has_no_size():
    for data in (b"", b"\xff\xd8", b"GIF89a", jpeg_bytes("L")[:30], bytes(100)):
        assert jpeg_size(data) is None
    for data in (b"", b"\xff\x4f\xff\x51", jpeg_2000_bytes()[:40], bytes(100)):
        assert jpeg_2000_size(data) is None


def test_stripping_optional_segments_keeps_the_image():
    data = jpeg_bytes("L", comment=b"a comment")
    stripped = strip_optional_segments(data)
    assert b"JFIF" in data and b"JFIF" not in stripped and b"a comment" not in stripped
    before, after = (np.asarray(Image.open(io.BytesIO(each))) for each in (data, stripped))
    np.testing.assert_array_equal(before, after)
