"""Evidence: the part of a class activation map that speaks for the decision, and its colors.

One scale holds for every slice and model, see docs/decisions.md. This file imports only NumPy and
the standard library, so that a device can run it as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Standard deviation of the smoothing, as a share of the map's side: about 6 mm of a head crop. A
# maximum assigns its share to a single location, which is finer than what the network sees.
SMOOTHING = 1 / 32
# Evidence, in logits, at which the scale ends, and from which the color has its full opacity.
FULL_COLOR, FULL_OPACITY = 30.0, 7.5
# The colors from no evidence to the end of the scale: their lightness falls, so that they differ
# in gray and for the colorblind, too.
LOW_COLOR, HIGH_COLOR = (255, 214, 0), (226, 0, 26)
MAX_OPACITY = 0.55  # the slice stays visible below
CONTOURS = (FULL_OPACITY, FULL_COLOR)  # evidence that contours are drawn at

_EDGE = 1e-6  # logits of probabilities of 0 and 1 are finite


@dataclass(frozen=True, slots=True)
class Decision:
    """A probability and the threshold that it is compared with.

    Attributes:
        probability: P(hemorrhage) of the slice, in [0, 1].
        threshold: A probability that reaches it counts as hemorrhage.
    """

    probability: float
    threshold: float

    @property
    def excess(self) -> float:
        """By how much the logit of the probability exceeds that of the threshold."""
        return _logit(self.probability) - _logit(self.threshold)


def locate_evidence(cam: np.ndarray, decision: Decision) -> np.ndarray:
    """Locate the evidence by which the logit of a slice exceeds its threshold.

    The map is smoothed. Then a level is subtracted, and what is below is left out, so that the mean
    of the rest is the excess of the logit: what lies below the level cancels out. The level is at
    least 0, so that a location that speaks against hemorrhage never counts.

    Args:
        cam: float `(h, w)`, the class activation map; its mean is the logit of the slice alone.
        decision: That on the slice; in its scan if a scan model has decided.

    Returns:
        float32 `(h, w)`, in logits, at least 0; 0 everywhere if the threshold is not reached.
    """
    excess = decision.excess
    if excess <= 0:
        return np.zeros(cam.shape, np.float32)
    rows, columns = (_smoothing_matrix(side) for side in cam.shape)
    smooth = rows @ cam.astype(np.float64) @ columns.T
    falling = np.sort(smooth, axis=None)[::-1]
    levels = (np.cumsum(falling) - excess * falling.size) / np.arange(1, falling.size + 1)
    # The level at which the first k values exceed it by the right amount in total; it is the one
    # searched for once the next value does not exceed it.
    following = np.append(falling[1:], -np.inf)
    level = levels[np.argmax(levels >= following)]
    return np.maximum(smooth - max(level, 0.0), 0).astype(np.float32)


def color_evidence(evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the color and the opacity of evidence.

    Args:
        evidence: float32 of any shape, in logits, at least 0.

    Returns:
        float32 of that shape and 3, RGB in [0, 255]; and float32 of that shape, in [0, 1].
    """
    low, high = np.array(LOW_COLOR, np.float32), np.array(HIGH_COLOR, np.float32)
    share = np.clip(evidence / np.float32(FULL_COLOR), 0, 1)[..., np.newaxis]
    opacity = np.float32(MAX_OPACITY) * np.clip(evidence / np.float32(FULL_OPACITY), 0, 1)
    return low + (high - low) * share, opacity


def blend_evidence(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Color an image by the evidence at each pixel.

    Args:
        image: uint8 `(height, width, 3)`, RGB.
        evidence: float32 `(height, width)`, in logits, at least 0.

    Returns:
        uint8 `(height, width, 3)`.
    """
    colors, opacity = color_evidence(evidence)
    opacity = opacity[..., np.newaxis]
    return np.rint(image * (1 - opacity) + colors * opacity).astype(np.uint8)


def outline_evidence(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Draw the contours of the evidence at the levels of `CONTOURS` into an image.

    Args:
        image: uint8 `(height, width, 3)`, RGB.
        evidence: float32 `(height, width)`, in logits, at least 0.

    Returns:
        uint8 `(height, width, 3)`; lines are a pixel wide per 400 pixels of the longer side.
    """
    outlined = image.copy()
    width = max(1, round(max(evidence.shape) / 400))
    for level in CONTOURS:
        inside = evidence >= level
        core = inside
        for _ in range(width):
            core = _eroded(core)
        color, _ = color_evidence(np.array(level, np.float32))
        outlined[inside & ~core] = np.rint(color).astype(np.uint8)
    return outlined


def _smoothing_matrix(side: int) -> np.ndarray:
    """Return a Gaussian with mirrored borders, float64 `(side, side)`.

    It is symmetric and its rows sum to 1, so that smoothing keeps the mean.
    """
    at = np.arange(side)
    deviation = SMOOTHING * side

    def gauss(distance: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * (distance / deviation) ** 2)

    across = at[:, np.newaxis]
    weights = gauss(across - at) + gauss(across + at + 1) + gauss(2 * side - 1 - across - at)
    matrix: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def _eroded(flags: np.ndarray) -> np.ndarray:
    """Remove the flags that border on one that is not set; the edge of the image is no border."""
    padded = np.pad(flags, 1, mode="edge")
    core = flags.copy()
    for down, across in ((0, 1), (2, 1), (1, 0), (1, 2)):
        core &= padded[down : down + flags.shape[0], across : across + flags.shape[1]]
    return core


def _logit(probability: float) -> float:
    clipped = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(clipped / (1 - clipped))
