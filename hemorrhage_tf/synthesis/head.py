"""The phantom head: its canvas, level and proportions, and the maps derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hemorrhage_tf.synthesis.canvas import Canvas, Roughness, Shape, step

# Typical Hounsfield units of tissues on head CT.
CSF, WHITE_MATTER, GRAY_MATTER = 7.0, 29.5, 37.5
MUSCLE, FAT = 52.0, -85.0
DIPLOE, CORTICAL_BONE, SINUS_AIR = 600.0, 1500.0, -960.0

SIDES = (-1, 1)  # left and right of the image

# Levels below which there is no posterior and no middle fossa.
FORAMEN_MAGNUM, MIDDLE_FOSSA_FLOOR = -0.03, 0.07
_HALF_BASE = 60.0  # mm from the center to where the levels of the front and back are meant


@dataclass
class PhantomHead:
    """A head on its canvas.

    Attributes:
        canvas: The canvas it is drawn on.
        rng: Random generator of the anatomy.
        front: Level of the front half, 0 at the skull base to 1 at the vertex, and negative below
            the base: -1 at the upper edge of the shoulders. In a tilted slice it differs from
            that of the back half.
        back: Level of the back half.
        scale: Size of the head, 1 for the average.
        atrophy: 0 in a young brain to 1 in a very old one.
        roll: How much higher the slice lies on the right of the image than in the middle, and
            lower on the left, in units of the level.
        cosine: float32 `(size, size)`, x over the distance from the center.
        sine: float32 `(size, size)`, y over the distance from the center.
        skin: float32 `(size, size)`, mm inside the skin; negative outside.
        depth: float32 `(size, size)`, mm inside the outer table of the skull, or inside the fat
            under the skin where there is no skull; negative outside.
        inside: float32 `(size, size)`, mm inside the dura; negative outside.
        sulci: float32 `(size, size)`, distance from the middle of a sulcus, without unit.
        fluid: float32 `(size, size)`, share of each pixel that is CSF outside the ventricles.
        ventricles: float32 `(size, size)`, share of each pixel that is ventricle.
        half_width: From the center to the side of the skull, in mm.
        half_length: From the center to the front of the skull, in mm.
        youth: 0 in an adult to 1 in a newborn.
        fat: 0 in a lean neck to 1 in a fat one.
        ridges: How uneven the floor of the skull is, 1 for the average.
        jaw_drop: How far the mouth is open, in units of the level.
        plexus: x and y of the choroid plexus on each side, in mm.
        pineal: x and y of the pineal gland, in mm; None outside the slice.
        metal: x and y of each dental filling and crown, in mm.
        impact: Direction of a blow to the head, in radians; see `direction_cosine`. Swelling,
            fractures and the hemorrhages of a trauma gather around it.
    """

    canvas: Canvas
    rng: np.random.Generator
    front: float
    back: float
    scale: float
    atrophy: float
    roll: float
    cosine: np.ndarray = field(init=False)
    sine: np.ndarray = field(init=False)
    skin: np.ndarray = field(init=False)
    depth: np.ndarray = field(init=False)
    inside: np.ndarray = field(init=False)
    sulci: np.ndarray = field(init=False)
    fluid: np.ndarray = field(init=False)
    ventricles: np.ndarray = field(init=False)
    half_width: float = field(init=False)
    half_length: float = field(init=False)
    youth: float = 0.0
    fat: float = 0.5
    ridges: float = 1.0
    jaw_drop: float = 0.0
    plexus: list[tuple[float, float]] = field(default_factory=list)
    pineal: tuple[float, float] | None = None
    metal: list[tuple[float, float]] = field(default_factory=list)
    impact: float = 0.0

    @property
    def level(self) -> float:
        """Level of the middle of the slice."""
        return (self.front + self.back) / 2

    @property
    def brain(self) -> np.ndarray:
        """Share of each pixel that is inside the dura: float32 `(size, size)`."""
        return step(self.inside, self.canvas.blur)

    @property
    def brain_area(self) -> float:
        """Area inside the dura of the skull, in mm2; 0 in slices of the neck."""
        return float(self.brain.sum()) * self.canvas.pixel**2

    @property
    def has_brain(self) -> bool:
        """Whether the slice reaches into the cavity of the skull."""
        rolled = abs(self.roll)
        behind = self.back > FORAMEN_MAGNUM or self.back + rolled > 0
        return behind or self.front + rolled > MIDDLE_FOSSA_FLOOR

    def own_stream(self) -> np.random.Generator:
        """Return a random generator for one part, whose draws change no other part."""
        return np.random.default_rng(self.rng.integers(2**31))

    def level_at(self, x: float, y: float) -> float:
        """Return the level of the slice at a point, which depends on its tilt and roll.

        Args:
            x: To the right of the image, in mm.
            y: To the back, in mm.
        """
        tilt = (self.front - self.back) / 2
        return self.level + (self.roll * x - tilt * y) / (_HALF_BASE * self.scale)

    def clip_to_brain(self, shape: Shape) -> Shape:
        """Return the part of a shape that lies inside the dura."""
        brain = step(self.inside[shape.window], self.canvas.blur)
        return Shape(shape.window, shape.alpha * brain)

    def direction_cosine(self, angle: float) -> np.ndarray:
        """Return the cosine between a direction from the center and each pixel's own.

        Args:
            angle: The direction, in radians; 0 is the right of the image, pi / 2 the back.

        Returns:
            float32 `(size, size)`.
        """
        return self.cosine * np.float32(np.cos(angle)) + self.sine * np.float32(np.sin(angle))

    def angle_from(self, angle: float) -> np.ndarray:
        """Return the angle between a direction from the center and each pixel's own, in radians."""
        return np.arccos(np.clip(self.direction_cosine(angle), -1, 1))

    def partial_volume_bone(
        self,
        center: tuple[float, float],
        radii: tuple[float, float],
        angle: float,
        rng: np.random.Generator,
    ) -> Shape:
        """Return the share of a slice's thickness that bone takes where it rises into the slice.

        A dome covers most in its middle and nothing at its edge. A ridge with a flat top has a
        plateau, as a hemorrhage has.

        Args:
            center: x and y of its center, in mm.
            radii: Radii along x and y before the rotation, in mm.
            angle: Rotation, in radians.
            rng: Random generator of the outline and of the flatness.

        Returns:
            A shape inside the dura.
        """
        # With an edge as wide as the ellipse, alpha is the distance from the center.
        blur = 2 * min(radii)
        shape = self.canvas.ellipse(center, radii, angle, Roughness(0.3, rng), blur, inner=False)
        outward = 2 * (1 - shape.alpha)
        dome = np.clip((1 - outward * outward) / np.float32(rng.uniform(0.25, 1)), 0, 1)
        return self.clip_to_brain(Shape(shape.window, dome))

    def random_place(
        self, rng: np.random.Generator, shallowest: float, deepest: float
    ) -> tuple[float, float] | None:
        """Choose a random point in the brain.

        Args:
            rng: Random generator of the choice.
            shallowest: Least distance inside the dura, in mm.
            deepest: Largest distance inside the dura, in mm.

        Returns:
            x and y, in mm; None if no pixel has such a depth.
        """
        every = max(1, self.canvas.size // 112)
        inside = self.inside[::every, ::every]
        rows, columns = np.nonzero((inside > shallowest) & (inside < deepest))
        if not len(rows):
            return None
        chosen = int(rng.random() * len(rows))
        at = rows[chosen] * every, columns[chosen] * every
        return float(self.canvas.inner_x[at]), float(self.canvas.y[at])


def partial_volume_density(rng: np.random.Generator) -> float:
    """Draw the HU of partial-volume bone: from hardly more than brain to bone."""
    return float(np.exp(rng.uniform(np.log(50), np.log(900))))


def visibility(level: float, low: float, high: float, edge: float = 0.03) -> float:
    """Return the share of a structure that lies in a slice.

    Args:
        level: Level of the slice.
        low: Lowest level of the structure.
        high: Highest level of the structure.
        edge: Levels over which it appears and disappears. Default 0.03.

    Returns:
        0 outside the structure to 1 inside.
    """
    return min(max(min(level - low, high - level) / edge + 0.5, 0.0), 1.0)


def interpolate(level: float, levels: tuple[float, ...], values: tuple[float, ...]) -> float:
    """Return a size at a level, linear between the given levels and constant beyond them."""
    return float(np.interp(level, levels, values))
