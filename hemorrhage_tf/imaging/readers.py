"""Readers: a file in, one slice out, in Hounsfield units or as display pixels.

Listing, windowing and resizing live elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging import nifti
from hemorrhage_tf.imaging.dicom import parse, reading
from hemorrhage_tf.imaging.file_format import FileFormat, format_of_image
from hemorrhage_tf.imaging.header import MAX_PIXELS, Header

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
SLICE_SUFFIXES = (*IMAGE_SUFFIXES, *reading.DICOM_SUFFIXES, *nifti.NIFTI_SUFFIXES)
FORMATS = "PNG, JPEG, DICOM and NIfTI"

# No side may be longer, since the head crop pads a slice to a square.
MAX_SIDE = 10_000
# Pixels that are converted together; a usual slice has fewer.
_STRIP_PIXELS = 1 << 20

# Pillow warns of large sizes on its own; the limit here says so in an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class SliceRef:
    """Where a slice is.

    Attributes:
        path: the file.
        frame: which of a file's several slices, from 0; None in a file that holds one.
    """

    path: Path
    frame: int | None = None

    def __str__(self) -> str:
        """The path, with the frame behind it where there is one."""
        return str(self.path) if self.frame is None else f"{self.path}#{self.frame}"


def is_slice_path(path: str | Path, where: str | Path | None = None) -> bool:
    """Says whether a file looks like one with slices; no hidden file, no DICOMDIR.

    DICOM files often have no suffix, or a UID for a name, whose last number then looks like one:
    such files are looked into.

    Args:
        path: the file, or its name alone.
        where: the file, where only its name was given. Default None.
    """
    name = os.path.basename(path)
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    if name.lower().endswith(SLICE_SUFFIXES):
        return True
    unsaid = re.fullmatch(r"(\.\d+)?", Path(name).suffix) is not None
    return unsaid and parse.is_dicom(Path(where or path))


def is_display_image(path: Path) -> bool:
    """Says by its name whether a file is a PNG or JPEG, which has no header to read."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def read_header(path: Path) -> Header:
    """Reads what a file says of its slices, without their pixels.

    Args:
        path: a file of any format; a PNG or JPEG is one slice without position.

    Returns:
        The header.

    Raises:
        SliceError: a DICOM or NIfTI file that cannot be read.
    """
    if is_display_image(path):
        return Header(positions=(None,))
    if nifti.is_nifti(path):
        return nifti.read_header(path)
    return reading.read_header(path)


def read_slice(source: str | Path | SliceRef) -> np.ndarray:
    """Reads one slice.

    DICOM and NIfTI give Hounsfield units, with what lies outside the scan as air (-1000), in rows
    from anterior to posterior and columns from the patient's right to the left. A DICOM secondary
    capture of 8 bits is a picture. Pictures of every mode come out as 8-bit gray or RGB: palettes
    are looked up, alpha is composited on black, and of 16-bit samples the high byte is kept, which
    is the scaling that the PNG specification (third edition, section 13.12) allows and that
    TensorFlow's decoder does too. An EXIF orientation is not applied.

    Args:
        source: a PNG, JPEG, DICOM or NIfTI file, or one slice of a file with several.

    Returns:
        float32 `(height, width)` in HU; or uint8 `(height, width)` for gray and
        `(height, width, 3)` for RGB, in [0, 255].

    Raises:
        SliceError: the file is missing, empty, truncated, too large, encrypted, or of none of the
            formats; or it holds several slices and none was named.
    """
    return read_slice_and_format(source)[0]


def read_slice_and_format(source: str | Path | SliceRef) -> tuple[np.ndarray, FileFormat]:
    """Reads one slice and how it was saved; see `read_slice`, also for what it raises."""
    path, frame = (
        (source.path, source.frame) if isinstance(source, SliceRef) else (Path(source), None)
    )
    try:
        if path.stat().st_size == 0:
            raise SliceError(path, "the file is empty (0 bytes)")
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except OSError as error:
        raise SliceError(path, f"cannot be read ({_one_line(error)})") from None
    if nifti.is_nifti(path):
        pixels, saved = nifti.read_frame(path, frame), FileFormat("HU", "NIfTI", 16)
    elif parse.is_dicom(path) or path.name.lower().endswith(reading.DICOM_SUFFIXES):
        pixels = reading.read_frame(path, frame)
        saved = FileFormat("HU", "DICOM", 16)
        if pixels.dtype == np.uint8:
            saved = FileFormat("secondary capture", "DICOM", 8)
    elif frame is not None:
        raise SliceError(source, "a picture has one slice only, without a number")
    else:
        pixels, saved = _read_picture(path)
    if max(pixels.shape[:2]) > MAX_SIDE:
        raise SliceError(source, f"a side is longer than the {MAX_SIDE} pixels that are accepted")
    return pixels, saved


def _read_picture(path: Path) -> tuple[np.ndarray, FileFormat]:
    try:
        with open(path, "rb") as file, Image.open(file, formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                raise SliceError(
                    path,
                    f"declares {width} x {height} pixels, more than the "
                    f"{MAX_PIXELS // 1_000_000} million, or {MAX_SIDE} a side, that are accepted",
                )
            saved = format_of_image(image, file)
            image.load()
            return _to_display_pixels(image), saved
    except SliceError:
        raise
    except Image.UnidentifiedImageError:
        raise SliceError(path, f"not one of the formats that are read: {FORMATS}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SliceError(path, "declares more pixels than are accepted") from None
    except MemoryError:
        raise SliceError(path, "there is not enough memory to decode it") from None
    except Exception as error:  # from a damaged file Pillow raises almost anything
        raise SliceError(path, f"cannot be decoded ({_one_line(error)})") from None


def _to_display_pixels(image: Image.Image) -> np.ndarray:
    """Converts some rows at a time: the temporaries of a large picture would fill the memory."""
    width, height = image.size
    step = max(1, _STRIP_PIXELS // width)
    if height <= step:
        return _strip_to_display_pixels(image)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        strip = _strip_to_display_pixels(image.crop((0, top, width, bottom)))
        if top == 0:
            pixels = np.empty((height, *strip.shape[1:]), np.uint8)
        pixels[top:bottom] = strip
    return pixels


def _strip_to_display_pixels(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I"):  # 16-bit gray; Pillow's own convert("L") would clip it at 255
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    if mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        rgb = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
        return rgb[..., 0] if mode in ("LA", "La", "L", "1") else rgb
    return np.asarray(image.convert("RGB"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Gives a slice three channels.

    Args:
        pixels: `(height, width)` or `(height, width, 3)`.

    Returns:
        `(height, width, 3)`, of the same dtype; gray is repeated.
    """
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=-1)


def content_hash(pixels: np.ndarray) -> str:
    """Hashes what a slice shows, whatever the file format, mode or name.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`, or float32 `(height, width)` in
            HU. Gray and RGB with three equal channels give the same hash.

    Returns:
        32 hexadecimal digits (BLAKE2b, 128 bits, over shape and RGB pixels, or shape and HU).
    """
    seen = np.ascontiguousarray(to_rgb(pixels) if pixels.dtype == np.uint8 else pixels)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.asarray(seen.shape, np.int64).tobytes())
    digest.update(seen.tobytes())
    return digest.hexdigest()
