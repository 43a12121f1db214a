"""Windows: from Hounsfield units to display pixels, as DICOM's VOI LUT functions say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import OptionError

# What lies outside the patient, in HU.
AIR = -1000.0

FUNCTIONS = ("linear", "linear_exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """A range of Hounsfield units that is spread over the display's gray levels.

    Attributes:
        center: in HU.
        width: in HU; at least 1 for "linear", above 0 for the others.
        function: the VOI LUT function: "linear" (default), "linear_exact" or "sigmoid".

    Raises:
        OptionError: the width or the function is none of the accepted ones.

    Reference:
        DICOM PS3.3, C.11.2.1.2 (linear), C.11.2.1.3.1 (sigmoid), C.11.2.1.3.2 (linear exact).
    """

    center: float
    width: float
    function: str = "linear"

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.function not in FUNCTIONS:
            raise OptionError(
                f"VOI LUT function {self.function!r}: accepted are {', '.join(FUNCTIONS)}"
            )
        finite = math.isfinite(self.center) and math.isfinite(self.width)
        lowest = "at least 1" if self.function == "linear" else "above 0"
        if not finite or self.width <= 0 or (self.function == "linear" and self.width < 1):
            raise OptionError(
                f"window center {self.center}, width {self.width}: both must be finite and the "
                f"width {lowest} (function {self.function})"
            )

    def apply(self, hounsfield: np.ndarray) -> np.ndarray:
        """Shows Hounsfield units as gray levels.

        Args:
            hounsfield: any shape, in HU.

        Returns:
            float32 of the same shape, in [0, 255], not rounded.
        """
        # Files name windows of any center and width; what overflows is black or white.
        with np.errstate(over="ignore"):
            distance = np.asarray(hounsfield, np.float64) - self.center
            if self.function == "sigmoid":
                # Far beyond the window the exponential would overflow.
                gray = 255 / (1 + np.exp(np.clip(-4 * (distance / self.width), -80, 80)))
            elif self.function == "linear_exact":
                # In place, here and below: making arrays takes longer than the arithmetic.
                gray = distance
                gray /= self.width
                gray += 0.5
                gray *= 255
            elif self.width == 1:  # the formula's ramp has no width left: a step
                gray = np.where(distance > -0.5, 255, 0)
            else:
                gray = distance
                gray += 0.5
                gray /= self.width - 1
                gray += 0.5
                gray *= 255
        return np.clip(gray, 0, 255).astype(np.float32)


# Of acute head CT, as radiologists set them and as the winners of the RSNA 2019 challenge used.
WINDOWS = {
    "brain": Window(40, 80),
    "subdural": Window(80, 200),
    "bone": Window(600, 2800),
    "stroke": Window(40, 40),
}
DEFAULT_WINDOW = ("brain",)


def parse_windows(text: str | Sequence[str]) -> tuple[str, ...]:
    """Checks the windows that a user names.

    Args:
        text: names with commas between them, or a sequence of them: one, which is shown as gray,
            or three, one for each channel. A name is one of `WINDOWS`, or CENTER/WIDTH in HU.

    Returns:
        The names, one or three.

    Raises:
        OptionError: an unknown name, or neither one nor three of them.
    """
    parts = text.split(",") if isinstance(text, str) else text
    names = tuple(part.strip().lower() for part in parts)
    if len(names) not in (1, 3):
        raise OptionError(
            f"--window {','.join(names)}: accepted is one window (gray), or three, one a channel"
        )
    for name in names:
        window_of(name)
    return names


def window_of(name: str) -> Window:
    """Gives the window of a name, or of CENTER/WIDTH in HU; raises OptionError for others."""
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
    raise OptionError(f"--window {name}: accepted are {known}, or CENTER/WIDTH in HU")


def display_image(pixels: np.ndarray) -> np.ndarray:
    """Gives a slice as a picture: what statistics of its look are taken from.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])`.

    Returns:
        uint8: HU through the brain window, rounded; display pixels as they are.
    """
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(show(pixels, DEFAULT_WINDOW)).astype(np.uint8)


def show(hounsfield: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Shows Hounsfield units through one window or three.

    Args:
        hounsfield: `(height, width)`, in HU.
        names: one or three, from `parse_windows`.

    Returns:
        float32 in [0, 255]: `(height, width)` of one window, `(height, width, 3)` of three.
    """
    shown = [window_of(name).apply(hounsfield) for name in names]
    return shown[0] if len(shown) == 1 else np.stack(shown, axis=-1)
