"""Images as data URIs, reduced until all of them fit in one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from hemorrhage_tf.core.errors import DataError

MAX_IMAGE_BYTES = 4_200_000  # total length of all data URIs of a page

# Longest side in pixels and JPEG quality. The first pair that stays under the limit is used.
_SIZES = ((192, 75), (160, 65), (128, 55), (96, 45), (64, 40))


def data_uris(images: Sequence[bytes]) -> list[str]:
    """Convert images to small JPEGs that are part of the page itself.

    Each side is at most 192 pixels, and less if the images would exceed `MAX_IMAGE_BYTES` together.

    Args:
        images: Contents of PNG or JPEG files.

    Returns:
        One `data:` URI per image.

    Raises:
        DataError: If an image is not a PNG or JPEG.
    """
    decoded = [_decode(content, index) for index, content in enumerate(images)]
    uris: list[str] = []
    for side, quality in _SIZES:
        uris = [_data_uri(image, side, quality) for image in decoded]
        if sum(map(len, uris)) <= MAX_IMAGE_BYTES:
            break
    return uris


def _decode(content: bytes, index: int) -> Image.Image:
    largest = _SIZES[0][0]
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as file:
            image: Image.Image = file
            is_gray = image.mode in ("1", "L")
            if not is_gray:
                # Alpha is composited on black, as the readers do.
                layer = image.convert("RGBA")
                black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, layer)
            image = image.convert("L" if is_gray else "RGB")
            image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
            return image
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"image {index} of the gallery: not a PNG or JPEG ({error}). Pass the content of a PNG "
            "or JPEG file."
        ) from None


def _data_uri(image: Image.Image, side: int, quality: int) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
