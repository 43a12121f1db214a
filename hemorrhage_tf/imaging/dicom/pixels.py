"""TODO docstring."""

from __future__ import annotations

import struct

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import _Source, _text
from hemorrhage_tf.imaging.dicom.encapsulated import _bare_jpeg, _encoded_frame
from hemorrhage_tf.imaging.dicom.layout import _MAX_FRAME_BYTES, _Layout
from hemorrhage_tf.imaging.dicom.parse import _LONG_VRS, _PIXEL_DATA, _UNDEFINED_LENGTH
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    _JPEG,
    _JPEG_EXTENDED,
    _JPEG_LOSSLESS,
    _NATIVE,
    _PLUGINS,
    _plugin,
    _quiet_gdcm,
    _syntax_name,
)


def _pixel_element(source: _Source) -> tuple[str, int]:
    """Reads the head of the pixel data; returns its VR and declared length."""
    stream, path = source.stream, source.path
    implicit, little = source.dataset.original_encoding
    order = "<" if little else ">"
    head = stream.read(8)
    if len(head) < 8:
        raise SliceError(path, _why_no_pixels(source))
    group, element = struct.unpack_from(f"{order}HH", head)
    if group << 16 | element != _PIXEL_DATA:
        raise SliceError(path, "its pixels are floating-point numbers, which are not read")
    if implicit:
        return "OW", struct.unpack_from(f"{order}I", head, 4)[0]
    vr = head[4:6]
    if vr in _LONG_VRS:
        return vr.decode("ascii"), struct.unpack(f"{order}I", stream.read(4))[0]
    return "OW", struct.unpack_from(f"{order}H", head, 6)[0]


def _why_no_pixels(source: _Source) -> str:
    from pydicom.uid import UID

    if "EncryptedAttributesSequence" in source.dataset:
        return "its content is encrypted"
    if "Rows" in source.dataset:
        return "cut short: it ends before the pixel data"
    uid = _text(source.dataset, "SOPClassUID") or ""
    name = UID(uid).name
    return f"holds no picture ({name})" if uid and name != uid else "holds no picture"


def _decode(
    source: _Source, layout: _Layout, index: int, pixel_vr: str, length: int
) -> tuple[np.ndarray, _Layout]:
    """Decodes one frame, and no other; returns it with the layout that it came out in."""
    syntax, path = source.syntax, source.path
    if syntax not in _NATIVE and syntax not in _PLUGINS:
        raise SliceError(path, f"no decoder for its transfer syntax, {_syntax_name(syntax)}")
    from pydicom.pixels import get_decoder

    options = {
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
        "pixel_vr": pixel_vr,
        # Done here: pydicom takes the lowest bits, whatever the highest bit is said to be.
        "correct_unused_bits": False,
    }
    if syntax in _NATIVE:
        _require_length(source, layout, length)
        source.stream.allow(_MAX_FRAME_BYTES)
        pixels, after = get_decoder(syntax).as_array(
            source.stream, index=index, raw=True, **options
        )
    else:
        encoded, precision = _encoded_frame(source, layout, index)
        if syntax in _JPEG:
            if syntax == _JPEG_EXTENDED and precision == 12 and layout.samples == 1:
                return _decode_12_bits(_bare_jpeg(encoded), layout), layout
            if syntax in _JPEG_LOSSLESS:
                encoded = _bare_jpeg(encoded)
            # The decoder needs to know what is in the codestream, not what the header says; but
            # where 8 bits have less than 8 in use, gdcm ends the process (an assertion in its
            # gdcmImageCodec.cxx, of 3.2.6).
            options["bits_stored"] = max(precision, 8)
        from pydicom.encaps import encapsulate

        pixels, after = get_decoder(syntax).as_array(
            encapsulate([encoded], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=_plugin(path, syntax),
            **{**options, "number_of_frames": 1},
        )
    photometric = str(after["photometric_interpretation"])
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False), layout._replace(
        photometric=photometric
    )


def _require_length(source: _Source, layout: _Layout, length: int) -> None:
    expected = layout.frame_bytes * layout.frames
    if length == _UNDEFINED_LENGTH:
        raise SliceError(source.path, "damaged: its pixels are compressed, but said not to be")
    there = min(length, source.stream.size - source.stream.tell())
    if there < expected:
        raise SliceError(
            source.path, f"cut short: {there} bytes of pixel data, but {expected} expected"
        )


def _decode_12_bits(encoded: bytes, layout: _Layout) -> np.ndarray:
    """Decodes 12-bit JPEG by gdcm itself: pydicom's plugin leaves it out, though gdcm reads it."""
    import gdcm

    _quiet_gdcm()
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
    # It hands its bytes over as text.
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    kind = np.int16 if layout.signed else np.uint16
    return np.frombuffer(pixels, kind).reshape(layout.rows, layout.columns)


def _without_unused_bits(raw: np.ndarray, layout: _Layout) -> np.ndarray:
    """Drops the bits that are not the sample's: old files keep overlays in them, or anything."""
    above = layout.allocated - 1 - layout.high
    unused = layout.allocated - layout.stored
    # To the top and back, so that a signed sample takes its sign along.
    return (raw << above) >> unused if unused else raw
