"""Read a slice of any supported format, in Hounsfield units or as display pixels.

Listing files is in `datasets.series`, windows are in `windows`, resizing is in
`pipeline.model_input`.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging import nifti
from hemorrhage_tf.imaging.dicom import parse, reading
from hemorrhage_tf.imaging.file_format import FileFormat, format_of_image
from hemorrhage_tf.imaging.header import MAX_PIXELS, Header

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
SLICE_SUFFIXES = (*IMAGE_SUFFIXES, *reading.DICOM_SUFFIXES, *nifti.NIFTI_SUFFIXES)
FORMATS = "PNG, JPEG, DICOM and NIfTI"

# Limit on each side, since the head crop pads a slice to a square.
MAX_SIDE = 10_000
# Pixels that are converted at a time; usual slices have fewer.
_STRIP_PIXELS = 1 << 20
_HASHED_PIXELS = 1 << 14

# Pillow warns of large sizes; here they raise an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class SliceRef:
    """The location of a slice.

    Attributes:
        path: The file.
        frame: Index of the slice in a file of several, from 0. Defaults to None, for a file of one.
    """

    path: Path
    frame: int | None = None

    def __str__(self) -> str:
        """Return the path, followed by the frame if there is one."""
        return str(self.path) if self.frame is None else f"{self.path}#{self.frame}"


def is_slice_path(path: str | Path, location: str | Path | None = None) -> bool:
    """Return whether a file looks like one with slices; never a hidden file or a DICOMDIR.

    DICOM files often have no suffix, or a UID as their name, whose last number looks like a suffix:
    such files are opened to check.

    Args:
        path: The file, or its name alone.
        location: The file, if `path` is only its name. Defaults to None.
    """
    name = os.path.basename(path)
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    if name.lower().endswith(SLICE_SUFFIXES):
        return True
    has_no_suffix = re.fullmatch(r"(\.\d+)?", Path(name).suffix) is not None
    return has_no_suffix and parse.is_dicom(Path(location or path))


def is_display_image(path: Path) -> bool:
    """Return whether a file is named like a PNG or JPEG, which has no header to read."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


def read_header(path: Path) -> Header:
    """Read the header of a file; no pixels are read.

    Args:
        path: A file of any supported format; a PNG or JPEG is one slice without a position.

    Returns:
        The header.

    Raises:
        SliceError: A DICOM or NIfTI file that cannot be read.
    """
    if is_display_image(path):
        return Header(positions=(None,))
    if nifti.is_nifti(path):
        return nifti.read_header(path)
    return reading.read_header(path)


def read_slice(source: str | Path | SliceRef) -> np.ndarray:
    """Read one slice.

    DICOM and NIfTI are read in Hounsfield units, with padding set to air (-1000 HU). Rows run from
    anterior to posterior, columns from the patient's right to left. An 8-bit DICOM secondary
    capture is a display image.

    Display images of every mode are converted to 8-bit gray or RGB: palettes are looked up, alpha
    is composited on black, and 16-bit samples keep their high byte, as in TensorFlow's decoder. An
    EXIF orientation is not applied.

    Args:
        source: A PNG, JPEG, DICOM or NIfTI file, or a `SliceRef` to one slice of a file of several.

    Returns:
        float32 `(height, width)` in HU; or uint8 `(height, width)` for gray and
        `(height, width, 3)` for RGB, in [0, 255].

    Raises:
        SliceError: The file is missing, empty, truncated, too large, encrypted or not in a
            supported format; or it holds several slices and none was chosen.

    Reference:
        PNG specification, third edition, section 13.12 (sample depth rescaling).

    Example:
        >>> import hemorrhage_tf as htf
        >>> pixels = htf.read_slice("slice.png")
        >>> pixels.ndim, pixels.dtype
        (2, dtype('uint8'))
    """
    return read_slice_and_format(source)[0]


def read_slice_and_format(source: str | Path | SliceRef) -> tuple[np.ndarray, FileFormat]:
    """Read one slice and how it was saved; see `read_slice`, also for its errors."""
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
        raise SliceError(source, "a PNG or JPEG holds one slice: leave out the slice number")
    else:
        pixels, saved = _read_display_image(path)
    if max(pixels.shape[:2]) > MAX_SIDE:
        raise SliceError(source, f"a side is longer than the limit of {MAX_SIDE} pixels")
    return pixels, saved


def _read_display_image(path: Path) -> tuple[np.ndarray, FileFormat]:
    try:
        with open(path, "rb") as file, Image.open(file, formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                raise SliceError(
                    path,
                    f"declares {width} x {height} pixels: the limit is "
                    f"{MAX_PIXELS // 1_000_000} million, and {MAX_SIDE} per side",
                )
            saved = format_of_image(image, file)
            image.load()
            return _to_display_pixels(image), saved
    except SliceError:
        raise
    except UnidentifiedImageError:
        raise SliceError(path, f"not in a supported format: {FORMATS}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SliceError(path, "declares more pixels than the limit") from None
    except MemoryError:
        raise SliceError(path, "not enough memory to decode it") from None
    except Exception as error:  # Pillow raises almost any error on damaged files
        raise SliceError(path, f"cannot be decoded ({_one_line(error)})") from None


def _to_display_pixels(image: Image.Image) -> np.ndarray:
    """Convert some rows at a time, so that the temporaries of large images stay small."""
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
    if mode.startswith("I"):  # 16-bit gray, which Pillow's convert("L") would clip at 255
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
    """Return a slice with three channels.

    Args:
        pixels: `(height, width)` or `(height, width, 3)`, of any dtype.

    Returns:
        `(height, width, 3)`, of the same dtype, with gray repeated.
    """
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=-1)


def drop_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Return an RGB image without color as a gray image, which everything is computed from faster.

    Args:
        pixels: Of any reader.

    Returns:
        `(height, width)` where three channels are equal; other pixels unchanged.
    """
    if pixels.ndim == 2:
        return pixels
    for part in (pixels[::16], pixels):  # few rows tell most color images
        red = part[..., 0]
        if not all(np.array_equal(red, part[..., channel]) for channel in (1, 2)):
            return pixels
    return np.ascontiguousarray(pixels[..., 0])


def content_hash(pixels: np.ndarray) -> str:
    """Hash the pixels of a slice, independent of file format, mode and name.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`, or float32 `(height, width)` in
            HU. Gray and RGB with three equal channels have the same hash.

    Returns:
        32 hexadecimal digits (BLAKE2b, 128 bits, over shape and RGB pixels, or shape and HU).
    """
    is_gray_image = pixels.dtype == np.uint8 and pixels.ndim == 2
    shape = (*pixels.shape, 3) if is_gray_image else pixels.shape
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.asarray(shape, np.int64).tobytes())
    if not is_gray_image:
        digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()
    # A part at a time, which stays in the processor's cache.
    rgb = np.empty((_HASHED_PIXELS, 3), np.uint8)
    flat = pixels.reshape(-1)
    for begin in range(0, len(flat), _HASHED_PIXELS):
        gray = flat[begin : begin + _HASHED_PIXELS]
        for channel in range(3):
            rgb[: len(gray), channel] = gray
        digest.update(rgb[: len(gray)].data)
    return digest.hexdigest()
