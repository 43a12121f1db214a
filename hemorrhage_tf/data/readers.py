"""Readers: a file in, one slice of display pixels out. Listing and resizing live elsewhere."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.errors import SliceError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

# A header can declare any size. Real slices have at most a few thousand pixels a side; this is
# refused before anything is allocated.
MAX_PIXELS = 64_000_000

# Pillow warns of large sizes on its own; the limit here says so in an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def is_image_path(path: Path) -> bool:
    """Says whether a path looks like a slice: a known suffix, and no hidden file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_slice(path: str | Path) -> np.ndarray:
    """Reads a PNG or JPEG as display pixels.

    Every mode comes out as 8-bit grey or RGB: palettes are looked up, alpha is composited on
    black, and of 16-bit samples the high byte is kept, which is the scaling that the PNG
    specification (third edition, section 13.12) allows and that TensorFlow's decoder does too.
    An EXIF orientation is not applied.

    Args:
        path: a PNG or JPEG file.

    Returns:
        uint8 array, `(height, width)` for grey or `(height, width, 3)` for RGB, in [0, 255].

    Raises:
        SliceError: the file is missing, empty, truncated, too large, or no PNG or JPEG.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise SliceError(path, "the file is empty (0 bytes)")
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise SliceError(
                    path,
                    f"declares {width} x {height} pixels, more than the "
                    f"{MAX_PIXELS // 1_000_000} million that are accepted",
                )
            image.load()
            return _to_display_pixels(image)
    except Image.UnidentifiedImageError:
        raise SliceError(path, "not a PNG or JPEG image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SliceError(path, "declares more pixels than are accepted") from None
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except _DECODER_ERRORS as error:
        raise SliceError(path, f"cannot be decoded ({_one_line(error)})") from None


def _to_display_pixels(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I"):  # 16-bit grey; Pillow's own convert("L") would clip it at 255
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
        `(height, width, 3)`, of the same dtype; grey is repeated.
    """
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=-1)


def content_hash(pixels: np.ndarray) -> str:
    """Hashes what a slice shows, whatever the file format, mode or name.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`. Grey and RGB with three equal
            channels give the same hash.

    Returns:
        32 hexadecimal digits (BLAKE2b, 128 bits, over shape and RGB pixels).
    """
    rgb = np.ascontiguousarray(to_rgb(pixels))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.asarray(rgb.shape, np.int64).tobytes())
    digest.update(rgb.tobytes())
    return digest.hexdigest()
