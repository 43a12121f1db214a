import struct

import numpy as np
import pydicom
import pytest
from dicom_files import (
    CT_SMALL,
    JPEG_2000_LOSSLESS,
    PACKAGED,
    TILES,
    compressed,
    dataset_of,
    encode,
    reason_of_refusal,
    transcode,
)
from pydicom.encaps import encapsulate, get_frame

from hemorrhage_tf.imaging.dicom.reading import read_frame


@pytest.mark.parametrize("has_table", [True, False])
def test_reads_each_compressed_frame(has_table, write):
    frames = [compressed(dataset_of(TILES + number), JPEG_2000_LOSSLESS) for number in range(3)]
    encoded = [get_frame(frame.PixelData, 0, number_of_frames=1) for frame in frames]
    data = encapsulate(encoded, fragments_per_frame=2, has_bot=has_table)
    dataset = dataset_of(TILES, syntax=JPEG_2000_LOSSLESS, NumberOfFrames=3, PixelData=data)
    dataset["PixelData"].is_undefined_length = True
    path = write(encode(dataset))
    for number in range(3):
        np.testing.assert_array_equal(read_frame(path, number), TILES + number)


def test_refuses_jpeg_2000_of_another_size(write):
    dataset = compressed(dataset_of(TILES), JPEG_2000_LOSSLESS)
    encoded = bytearray(dataset.PixelData)
    at = encoded.index(b"\xff\x4f\xff\x51")
    encoded[at + 8 : at + 16] = struct.pack(">II", 60_000, 60_000)
    dataset.PixelData = bytes(encoded)
    dataset["PixelData"].is_undefined_length = True
    reason = reason_of_refusal(read_frame, write(encode(dataset)))
    assert "60000 x 60000" in reason and "48 x 40" in reason


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jls_lossy_line.dcm"])
def test_refuses_jpegs_of_another_size(name, write):
    data = bytearray((PACKAGED / name).read_bytes())
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xf7"))
    data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    assert "65500 x 65500" in reason_of_refusal(read_frame, write(bytes(data)))


# gdcm 3.2.6 ends the process on both.
@pytest.mark.parametrize(
    "inserted, is_read",
    [(b"junk", False), (b"\xff\xe0\0\x10JFIF\0\x09\x02\0\0\x01\0\x01\0\0", True)],
)
def test_odd_jpeg_segments_do_not_end_the_process(inserted, is_read, tmp_path):
    path = tmp_path / "ct.dcm"
    transcode(CT_SMALL, path, "JPEGLosslessProcess14_1")
    dataset = pydicom.dcmread(path)
    jpeg = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([jpeg[:2] + inserted + jpeg[2:]])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    if is_read:
        np.testing.assert_array_equal(read_frame(path), read_frame(CT_SMALL))
    else:
        assert "no readable size" in reason_of_refusal(read_frame, path)
