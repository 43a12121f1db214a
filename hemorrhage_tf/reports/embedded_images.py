"""Images as data URIs, small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from hemorrhage_tf.core.errors import DataError

PICTURE_BYTES = 4_200_000  # of all pictures as they stand in the page


# Longest side and JPEG quality of the pictures, the first that stays under PICTURE_BYTES.
_PICTURES = ((192, 75), (160, 65), (128, 55), (96, 45), (64, 40))


def data_uris(pictures: Sequence[bytes]) -> list[str]:
    """Makes small JPEGs that stand in the page itself.

    They are at most 192 pixels high and wide, and smaller where they would be many megabytes
    together.

    Args:
        pictures: PNG or JPEG files.

    Returns:
        A `data:` URI of each.

    Raises:
        DataError: bytes that are no PNG or JPEG.
    """
    loaded = [_loaded(picture, index) for index, picture in enumerate(pictures)]
    found: list[str] = []
    for side, quality in _PICTURES:
        found = [_data_uri(image, side, quality) for image in loaded]
        if sum(map(len, found)) <= PICTURE_BYTES:
            break
    return found


def _loaded(picture: bytes, index: int) -> Image.Image:
    most = _PICTURES[0][0]
    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
            grey = image.mode in ("1", "L")
            if not grey:
                # Alpha is composited on black, as the readers do.
                layer = image.convert("RGBA")
                black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, layer)
            image = image.convert("L" if grey else "RGB")
            image.thumbnail((most, most), Image.Resampling.LANCZOS)
            return image
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"picture {index} of the gallery is no PNG or JPEG ({error})") from None


def _data_uri(image: Image.Image, side: int, quality: int) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
