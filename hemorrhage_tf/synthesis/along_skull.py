"""Places along the skull and near it, in directions from the middle of the head."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.head import PhantomHead

# How many random places are compared to find one in a direction.
_PLACES = 6
_MARGIN = 14.0  # mm that the skull may lie farther out than an ellipse


def distance_of_skull(head: PhantomHead, angles: np.ndarray) -> np.ndarray:
    """Return about how far the skull lies from the center of the head.

    Args:
        head: The head.
        angles: Directions, in radians; 0 is the right of the image, pi / 2 the back.

    Returns:
        Distances in mm, of the shape of the angles.
    """
    return 1 / np.hypot(np.cos(angles) / head.half_width, np.sin(angles) / head.half_length)


def window_along(
    head: PhantomHead, middle: float, half: float, reach: float
) -> tuple[slice, slice]:
    """Return rows and columns that contain a part of the skull.

    Args:
        head: The head.
        middle: Direction of the middle of the part, in radians.
        half: Angle from its middle to its ends, in radians.
        reach: How far from the skull the window reaches, in mm.
    """
    angles = np.linspace(middle - half, middle + half, 9)
    distance = distance_of_skull(head, angles)
    x, y = distance * np.cos(angles), distance * np.sin(angles)
    center = float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2
    radius = max(float(np.ptp(x)), float(np.ptp(y))) / 2
    return head.canvas.window(*center, radius + reach + _MARGIN)


def place_toward(
    head: PhantomHead, angle: float, depths: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float] | None:
    """Choose a random point in the brain, rather in a direction than elsewhere.

    Args:
        head: The head.
        angle: The direction, in radians.
        depths: Least and largest distance inside the dura, in mm.
        rng: Random generator of the choice.

    Returns:
        x and y, in mm; None if no pixel has such a depth.
    """
    every = max(1, head.canvas.size // 112)
    inside = head.inside[::every, ::every]
    rows, columns = np.nonzero((inside > depths[0]) & (inside < depths[1]))
    chosen = (rng.random(_PLACES) * len(rows)).astype(int)
    if not len(rows):
        return None
    at = rows[chosen] * every, columns[chosen] * every
    toward = head.cosine[at] * np.cos(angle) + head.sine[at] * np.sin(angle)
    best = int(np.argmax(toward))
    point = at[0][best], at[1][best]
    return float(head.canvas.inner_x[point]), float(head.canvas.y[point])


def angle_within(head: PhantomHead, angle: float, window: tuple[slice, slice]) -> np.ndarray:
    """Return the angle between a direction and that of each pixel of a window, in radians."""
    cosine = head.cosine[window] * np.float32(np.cos(angle))
    cosine += head.sine[window] * np.float32(np.sin(angle))
    return np.arccos(np.clip(cosine, -1, 1))


def mm_along(head: PhantomHead, angle: float, window: tuple[slice, slice]) -> np.ndarray:
    """Return how far each pixel of a window lies beside a direction, along the skull, in mm.

    The distance is negative on one side, and holds near the direction only.
    """
    sine = head.sine[window] * np.float32(np.cos(angle))
    sine -= head.cosine[window] * np.float32(np.sin(angle))
    return sine * np.float32(distance_of_skull(head, np.array(angle)))
