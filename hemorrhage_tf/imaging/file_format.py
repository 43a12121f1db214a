"""How a slice was saved: the mode, depth, quality and metadata that its file declares."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

# Metadata that a file may embed, by Pillow's names. Other names are not printed: they may be a
# patient's.
_METADATA = {
    "exif": "EXIF",
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
    "icc_profile": "ICC profile",
    "dpi": "resolution",
    "gamma": "gamma",
    "srgb": "sRGB",
    "chromaticity": "chromaticity",
    "transparency": "transparency",
    "Software": "software",
    "photoshop": "Photoshop",
    "adobe": "Adobe",
    "comment": "comment",
    "jfif": "JFIF",
    "progressive": "progressive",
    "interlace": "interlace",
}
_NO_METADATA = frozenset(
    {"jfif_version", "jfif_unit", "jfif_density", "adobe_transform", "progression", "aspect"}
)

# ITU-T T.81, table K.1: the luminance quantization table at quality 50.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()
_PNG_DEPTH_AT = 24  # position of the bit depth in a PNG


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a slice was saved.

    Attributes:
        mode: Color mode of the file, by Pillow's name: "L", "RGB", "RGBA", "P", "I;16" ...; "HU"
            for Hounsfield units, "secondary capture" for a display image in DICOM.
        file_format: "PNG", "JPEG", "DICOM" or "NIfTI".
        bits: Bits per sample in the file.
        jpeg_quality: 1 to 100, from the quantization table; None for other formats. Defaults to
            None.
        metadata: Kinds of embedded metadata. Defaults to none.
    """

    mode: str
    file_format: str
    bits: int
    jpeg_quality: int | None = None
    metadata: frozenset[str] = frozenset()


def format_of_image(image: Image.Image, file: BinaryIO) -> FileFormat:
    """Return how a PNG or JPEG was saved.

    Args:
        image: The image, opened but not loaded.
        file: The file that it was opened from; its position is not changed.
    """
    bits = 8
    if image.format == "PNG":  # Pillow widens samples of less than 8 bits
        at = file.tell()
        file.seek(_PNG_DEPTH_AT)
        bits = file.read(1)[0]
        file.seek(at)
    tables = getattr(image, "quantization", None)
    return FileFormat(
        mode=image.mode,
        file_format=str(image.format),
        bits=bits,
        jpeg_quality=jpeg_quality(tables[0]) if tables and 0 in tables else None,
        metadata=frozenset(
            _METADATA.get(str(name), "text") for name in image.info.keys() - _NO_METADATA
        ),
    )


def jpeg_quality(table: Sequence[int]) -> int:
    """Estimate the quality that a JPEG was saved with, on the scale of libjpeg.

    Args:
        table: Its luminance quantization table, 64 entries.

    Returns:
        1 to 100, the quality whose table is nearest.

    Reference:
        ITU-T T.81 (1992), table K.1, scaled as libjpeg's `jpeg_quality_scaling` does.
    """
    return _quality(tuple(table))


@functools.lru_cache(maxsize=256)  # a data set mostly has a few qualities
def _quality(table: tuple[int, ...]) -> int:
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((_LUMINANCE * scale[:, None] + 50) // 100, 1, 255)
    # Sorted, since writers differ in the order of the entries.
    distance = np.abs(np.sort(tables, axis=1) - np.sort(np.asarray(table))).sum(axis=1)
    return int(quality[distance.argmin()])
