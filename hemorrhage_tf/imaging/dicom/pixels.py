"""Decode one frame of the pixel data into stored values; what they mean is decided elsewhere."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.codestreams import strip_optional_segments
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_text
from hemorrhage_tf.imaging.dicom.encapsulated import read_encoded_frame
from hemorrhage_tf.imaging.dicom.layout import MAX_FRAME_BYTES, PixelLayout
from hemorrhage_tf.imaging.dicom.parse import LONG_VRS, PIXEL_DATA, UNDEFINED_LENGTH
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    JPEG,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    NATIVE,
    PLUGINS,
    require_plugin,
    silence_gdcm,
    syntax_name,
)


class PixelElement(NamedTuple):
    """The head of the Pixel Data element.

    Attributes:
        vr: Value representation.
        length: Declared length of the value, in bytes.
    """

    vr: str
    length: int


def read_pixel_element(file: DicomFile) -> PixelElement:
    """Read the head of the pixel data, and leave the stream at its first byte.

    Raises:
        SliceError: There is no pixel data, or it holds floating-point numbers.
    """
    stream, path = file.stream, file.path
    implicit, little = file.dataset.original_encoding
    order = "<" if little else ">"
    head = stream.read(8)
    if len(head) < 8:
        raise SliceError(path, _explain_missing_pixels(file))
    group, element = struct.unpack_from(f"{order}HH", head)
    if group << 16 | element != PIXEL_DATA:
        raise SliceError(path, "its pixels are floating-point numbers, which are not supported")
    if implicit:
        return PixelElement("OW", struct.unpack_from(f"{order}I", head, 4)[0])
    vr = head[4:6]
    if vr in LONG_VRS:
        return PixelElement(vr.decode("ascii"), struct.unpack(f"{order}I", stream.read(4))[0])
    return PixelElement("OW", struct.unpack_from(f"{order}H", head, 6)[0])


def decode_frame(
    file: DicomFile, layout: PixelLayout, index: int, element: PixelElement
) -> tuple[np.ndarray, PixelLayout]:
    """Decode one frame; the other frames are not read.

    Args:
        file: The file, its stream at the first byte of the pixel data.
        layout: How its pixels are stored.
        index: The frame, from 0.
        element: The head of its pixel data.

    Returns:
        The stored values, integers `(rows, columns)` or `(rows, columns, 3)` in native byte order,
        and the layout with the photometric interpretation after decoding.

    Raises:
        SliceError: There is no decoder, or the pixel data is truncated or damaged.
    """
    syntax = file.transfer_syntax
    if syntax not in NATIVE and syntax not in PLUGINS:
        raise SliceError(file.path, f"no decoder for its transfer syntax, {syntax_name(syntax)}")
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "photometric_interpretation": layout.photometric,
        "number_of_frames": layout.frames,
        "pixel_keyword": "PixelData",
        "pixel_vr": element.vr,
        # Done by `clear_unused_bits`: pydicom ignores High Bit.
        "correct_unused_bits": False,
    }
    if syntax in NATIVE:
        _require_length(file, layout, element.length)
        pixels, photometric = _decode_native(file, index, options)
        return pixels, layout._replace(photometric=photometric)
    encoded, precision = read_encoded_frame(file, layout, index)
    if syntax == JPEG_EXTENDED and precision == 12 and layout.samples == 1:
        return _decode_12_bits(strip_optional_segments(encoded), layout), layout
    if syntax in JPEG_LOSSLESS:
        encoded = strip_optional_segments(encoded)
    if syntax in JPEG:
        # The decoder needs the bits of the codestream, not those of the header. With less than 8 of
        # 8 bits in use, gdcm 3.2.6 ends the process (an assertion in gdcmImageCodec.cxx).
        options["bits_stored"] = max(precision, 8)
    pixels, photometric = _decode_compressed(file, encoded, options)
    return pixels, layout._replace(photometric=photometric)


def clear_unused_bits(raw: np.ndarray, layout: PixelLayout) -> np.ndarray:
    """Drop the bits that do not belong to the sample; old files keep overlays in them.

    Reference:
        DICOM PS3.5, section 8.1.1 (pixel data encoding).
    """
    above = layout.allocated - 1 - layout.high
    unused = layout.allocated - layout.stored
    # Shifting to the top and back extends the sign of signed samples.
    return (raw << above) >> unused if unused else raw


def _explain_missing_pixels(file: DicomFile) -> str:
    from pydicom.uid import UID

    if "EncryptedAttributesSequence" in file.dataset:
        return "its content is encrypted"
    if "Rows" in file.dataset:
        return "truncated: it ends before the pixel data"
    uid = read_text(file.dataset, "SOPClassUID") or ""
    name = UID(uid).name
    return f"holds no image ({name})" if uid and name != uid else "holds no image"


def _require_length(file: DicomFile, layout: PixelLayout, length: int) -> None:
    expected = layout.frame_bytes * layout.frames
    if length == UNDEFINED_LENGTH:
        raise SliceError(
            file.path, "damaged: its pixels are compressed, but its transfer syntax is not"
        )
    available = min(length, file.stream.size - file.stream.tell())
    if available < expected:
        raise SliceError(
            file.path, f"truncated: {available} bytes of pixel data, but {expected} expected"
        )


def _decode_native(file: DicomFile, index: int, options: dict[str, Any]) -> tuple[np.ndarray, str]:
    from pydicom.pixels.decoders.base import get_decoder

    file.stream.allow(MAX_FRAME_BYTES)
    pixels, after = get_decoder(file.transfer_syntax).as_array(
        file.stream.as_binary_io(), index=index, raw=True, **options
    )
    return _native_order(pixels), str(after["photometric_interpretation"])


def _decode_compressed(
    file: DicomFile, encoded: bytes, options: dict[str, Any]
) -> tuple[np.ndarray, str]:
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder

    pixels, after = get_decoder(file.transfer_syntax).as_array(
        encapsulate([encoded], has_bot=False),
        index=0,
        raw=True,
        decoding_plugin=require_plugin(file.path, file.transfer_syntax),
        **{**options, "number_of_frames": 1},
    )
    return _native_order(pixels), str(after["photometric_interpretation"])


def _native_order(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _decode_12_bits(encoded: bytes, layout: PixelLayout) -> np.ndarray:
    """Decode 12-bit JPEG with gdcm directly, since pydicom's gdcm plugin does not offer it."""
    import gdcm

    silence_gdcm()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, int(layout.signed)))
    # The binding returns the bytes as text.
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    dtype = np.int16 if layout.signed else np.uint16
    return np.frombuffer(pixels, dtype).reshape(layout.rows, layout.columns)
