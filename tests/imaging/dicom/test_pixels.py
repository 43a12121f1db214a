import struct

import gdcm
import numpy as np
import pytest
from dicom_files import (
    JPEG_2000_LOSSLESS,
    PACKAGED,
    RAMP,
    compressed,
    dataset_of,
    encode,
    item_of,
    reason_of_refusal,
)

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.reading import read_frame
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    RUN_LENGTH,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int8, np.int32])
@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN])
def test_reads_every_integer_type(dtype, syntax, read):
    stored = np.arange(35, dtype=dtype).reshape(5, 7)
    np.testing.assert_array_equal(read(stored, syntax=syntax), stored)


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_12_bit_jpeg_matches_gdcm(name, write):
    # The file is refused by its modality, NM, so it is written as CT.
    data = (PACKAGED / name).read_bytes()
    at = data.index(b"\x08\0\x60\0CS\2\0")
    path = write(data[: at + 8] + b"CT" + data[at + 10 :])
    reader = gdcm.ImageReader()
    reader.SetFileName(str(PACKAGED / name))
    assert reader.Read()
    pixels = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    expected = np.frombuffer(pixels, np.uint16).reshape(1024, 256)
    assert (expected[420, 140], expected[230, 120]) == (244, 95)
    np.testing.assert_array_equal(read_frame(path), expected)


def test_only_the_requested_frame_is_read(write):
    # 40 frames of 8 MB would be 320 MB, over the limit on bytes; the file is sparse.
    dataset = dataset_of(np.zeros((2048, 2048), np.int16), NumberOfFrames=40, PixelData=b"")
    path = write(encode(dataset)[:-4] + struct.pack("<I", 40 << 23))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + (40 << 23))
    assert read_frame(path, 39).shape == (2048, 2048)


class TestUnusedBits:
    def test_signs_that_are_not_extended_are_restored(self, read):
        bits = RAMP.view(np.uint16) & 0x0FFF | 0xA000
        np.testing.assert_array_equal(read(bits, BitsStored=12, PixelRepresentation=1), RAMP)

    def test_overlays_in_unused_bits_are_dropped(self, read):
        stored = np.arange(120, dtype=np.uint16).reshape(10, 12)
        with_overlay = stored | (stored % 2 << 12)
        np.testing.assert_array_equal(read(with_overlay, BitsStored=12, HighBit=11), stored)

    def test_samples_end_at_the_high_bit(self, read):
        np.testing.assert_array_equal(read(RAMP << 4, BitsStored=12, HighBit=15), RAMP)

    def test_overlay_planes_are_ignored(self, write):
        dataset = dataset_of()
        dataset.add_new(0x60000010, "US", 10)
        dataset.add_new(0x60000011, "US", 12)
        dataset.add_new(0x60000100, "US", 1)
        dataset.add_new(0x60003000, "OW", b"\xff" * 16)
        np.testing.assert_array_equal(read_frame(write(encode(dataset))), RAMP)


class TestRefusals:
    @pytest.mark.parametrize(
        "tags, words",
        [
            ({"PixelData": None, "Rows": None}, "no image .CT Image Storage"),
            ({"PixelData": None}, "truncated"),
            ({"NumberOfFrames": 2}, "truncated: 240 bytes of pixel data, but 480 expected"),
            ({"Rows": 11}, "truncated"),
        ],
    )
    def test_missing_pixels(self, tags, words, write):
        with pytest.raises(SliceError, match=words):
            read_frame(write(**tags), 0)

    def test_floating_point_pixels(self, write):
        path = write(PixelData=None, FloatPixelData=bytes(480))
        assert "floating-point" in reason_of_refusal(read_frame, path)

    def test_files_without_an_image(self, write):
        structures = "1.2.840.10008.5.1.4.1.1.481.3"
        path = write(SOPClassUID=structures, PixelData=None, Rows=None, Modality="RTSTRUCT")
        assert reason_of_refusal(read_frame, path) == "holds no image (RT Structure Set Storage)"

    def test_encrypted_content(self, write):
        item = item_of(EncryptedContentTransferSyntaxUID=EXPLICIT, EncryptedContent=b"0123")
        path = write(PixelData=None, EncryptedAttributesSequence=[item])
        assert "encrypted" in reason_of_refusal(read_frame, path)

    @pytest.mark.parametrize("syntax", [EXPLICIT, RUN_LENGTH, JPEG_2000_LOSSLESS, DEFLATED])
    def test_truncated_files(self, syntax, write):
        dataset = dataset_of(np.random.default_rng(0).integers(-99, 99, (64, 64), np.int16))
        if syntax == DEFLATED:
            dataset.file_meta.TransferSyntaxUID = DEFLATED
        elif syntax != EXPLICIT:
            compressed(dataset, syntax)
        data = encode(dataset)
        start = data.index(b"\xe0\x7f\x10\0") if syntax != DEFLATED else 400
        for share in (0.3, 0.6, 0.9, 0.99):
            path = write(data[: start + int((len(data) - start) * share)])
            assert "truncated" in reason_of_refusal(read_frame, path)
