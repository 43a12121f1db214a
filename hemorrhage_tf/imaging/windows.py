"""Windows: map Hounsfield units to gray levels with the VOI LUT functions of DICOM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.imaging.row_blocks import BLOCK_PIXELS

FUNCTIONS = ("linear", "linear_exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """A range of Hounsfield units that is mapped to the gray levels of a display.

    Attributes:
        center: Float, in HU.
        width: Float, in HU; at least 1 for "linear", above 0 for the other functions.
        function: str, one of "linear", "linear_exact", "sigmoid". The VOI LUT function. Defaults
            to "linear".

    Raises:
        OptionError: The width or the function is not accepted.

    Reference:
        DICOM PS3.3, C.11.2.1.2 (linear), C.11.2.1.3.1 (sigmoid), C.11.2.1.3.2 (linear exact).

    Example:
        >>> import numpy as np
        >>> import hemorrhage_tf as htf
        >>> hounsfield = np.array([-1000, 0, 20, 80, 1000], np.float32)
        >>> htf.Window(40, 80, "linear_exact").apply(hounsfield)
        array([  0.  ,   0.  ,  63.75, 255.  , 255.  ], dtype=float32)
        >>> htf.WINDOWS["subdural"]
        Window(center=80, width=200, function='linear')
    """

    center: float
    width: float
    function: str = "linear"

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.function not in FUNCTIONS:
            raise OptionError(
                f"VOI LUT function {self.function!r}: unknown. Pass one of {', '.join(FUNCTIONS)}."
            )
        finite = math.isfinite(self.center) and math.isfinite(self.width)
        lowest = "at least 1" if self.function == "linear" else "above 0"
        if not finite or self.width <= 0 or (self.function == "linear" and self.width < 1):
            raise OptionError(
                f"window center {self.center}, width {self.width}: both must be finite, and the "
                f"width must be {lowest} (function {self.function}). Pass, for example, 40 and 80."
            )

    def apply(self, hounsfield: np.ndarray) -> np.ndarray:
        """Map Hounsfield units to gray levels.

        Args:
            hounsfield: Array of any shape, in HU.

        Returns:
            float32 of the same shape, in [0, 255], not rounded.
        """
        hounsfield = np.asarray(hounsfield)
        flat = hounsfield.reshape(-1)
        gray = np.empty(flat.shape, np.float32)
        for begin in range(0, len(flat), BLOCK_PIXELS):
            gray[begin : begin + BLOCK_PIXELS] = self._apply(flat[begin : begin + BLOCK_PIXELS])
        return gray.reshape(hounsfield.shape)

    def _apply(self, hounsfield: np.ndarray) -> np.ndarray:
        # Files name windows of any center and width; values that overflow are black or white.
        with np.errstate(over="ignore"):
            distance = hounsfield.astype(np.float64)
            distance -= self.center
            if self.function == "sigmoid":
                # Clipped, since the exponential overflows far outside the window.
                gray = 255 / (1 + np.exp(np.clip(-4 * (distance / self.width), -80, 80)))
            elif self.function == "linear_exact":
                # In place, here and below: allocating arrays takes longer than the arithmetic.
                gray = distance
                gray /= self.width
                gray += 0.5
                gray *= 255
            elif self.width == 1:  # the ramp of the formula has width 0: a step
                gray = np.where(distance > -0.5, 255, 0)
            else:
                gray = distance
                gray += 0.5
                gray /= self.width - 1
                gray += 0.5
                gray *= 255
        return np.clip(gray, 0, 255)


# The usual windows of acute head CT, by name; see `Window` for an example.
WINDOWS = {
    "brain": Window(40, 80),
    "subdural": Window(80, 200),
    "bone": Window(600, 2800),
    "stroke": Window(40, 40),
}
DEFAULT_WINDOW = ("brain",)


def parse_windows(text: str | Sequence[str]) -> tuple[str, ...]:
    """Validate the windows that a user names.

    Args:
        text: A comma-separated list or a sequence of one name, for gray, or three, one per
            channel. A name is a key of `WINDOWS`, or CENTER/WIDTH in HU.

    Returns:
        The names, one or three.

    Raises:
        OptionError: A name is unknown, or their number is neither one nor three.
    """
    parts = text.split(",") if isinstance(text, str) else text
    names = tuple(part.strip().lower() for part in parts)
    if len(names) not in (1, 3):
        raise OptionError(
            f"--window {','.join(names)}: {len(names)} windows. Pass one, or three for the three "
            "channels."
        )
    for name in names:
        parse_window(name)
    return names


def parse_window(name: str) -> Window:
    """Return the window that a key of `WINDOWS`, or CENTER/WIDTH in HU, stands for.

    Raises:
        OptionError: The name is neither.
    """
    if name in WINDOWS:
        return WINDOWS[name]
    center, slash, width = name.partition("/")
    try:
        if slash:
            return Window(float(center), float(width))
    except ValueError:
        pass
    except OptionError as error:
        raise OptionError(f"--window {name}: {error}") from None
    known = ", ".join(
        f"{each} ({window.center:g}/{window.width:g})" for each, window in WINDOWS.items()
    )
    raise OptionError(f"--window {name}: unknown. Pass {known}, or CENTER/WIDTH in HU.")


def to_display_image(pixels: np.ndarray) -> np.ndarray:
    """Convert a slice to the display image that image statistics are computed from.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or
            `(height, width, 3)` in [0, 255].

    Returns:
        uint8: HU through the brain window, rounded; display pixels unchanged.
    """
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(apply_windows(pixels, DEFAULT_WINDOW)).astype(np.uint8)


def apply_windows(hounsfield: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Map Hounsfield units to gray levels through one window or three.

    Args:
        hounsfield: `(height, width)`, in HU.
        names: One or three names, from `parse_windows`.

    Returns:
        float32 in [0, 255]: `(height, width)` for one window, `(height, width, 3)` for three.
    """
    channels = [parse_window(name).apply(hounsfield) for name in names]
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
