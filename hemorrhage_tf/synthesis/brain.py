"""The brain: white and gray matter, sulci, deep nuclei, ventricles, fissures and cisterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import (
    CSF,
    GRAY_MATTER,
    SIDES,
    WHITE_MATTER,
    PhantomHead,
    interpolate,
    visibility,
)


def draw_brain(head: PhantomHead) -> None:
    """Draw the brain into a skull; fill in sulci, fluid, ventricles, plexus and pineal gland.

    Nothing is drawn in slices that show no brain.
    """
    if not head.has_brain:
        _leave_empty(head)
        return
    _draw_cortex(head)
    width = float(np.exp(head.rng.normal(-0.15, 0.22))) * (0.72 + 0.85 * head.atrophy)
    if head.rng.random() < 0.06:
        width *= head.rng.uniform(1.4, 2.2)  # hydrocephalus
    deep = _DeepBrain(head, width, asymmetry=head.rng.normal(0, 0.12))
    deep.draw_nuclei()
    deep.draw_ventricles_of_the_middle()
    deep.draw_lateral_ventricle_bodies()
    deep.draw_lower_ventricles()
    opening = 0.45 + 0.7 * head.atrophy + 0.3 * head.rng.random()
    deep.draw_basal_cisterns(opening)
    deep.draw_sylvian_fissures(opening)
    deep.draw_posterior_fossa(opening)
    deep.draw_interhemispheric_fissure(opening)
    if 0.36 < head.level < 0.48:
        head.pineal = (head.rng.normal(0, 0.8), 19 * head.scale)
    _draw_fluid_and_plexus(head)


def _leave_empty(head: PhantomHead) -> None:
    """Set the maps of a head that shows no brain."""
    head.sulci = np.ones_like(head.inside)
    head.fluid = np.zeros_like(head.inside)
    head.ventricles = np.zeros_like(head.inside)


def _draw_cortex(head: PhantomHead) -> None:
    """Draw white and gray matter; set the map of sulci and the fluid in them."""
    canvas, rng = head.canvas, head.rng
    width = 0.3 + 1.1 * head.atrophy
    posterior_fossa = head.level < 0.24
    folds = canvas.field(9.0 if not posterior_fossa else 5.0, rng)
    second = canvas.texture(12.0, folds.shape, rng)
    head.sulci = np.abs(folds + np.float32(0.4) * second)
    reach = 14 + 12 * head.atrophy + (8 if head.level > 0.6 else 0)
    # Mostly gray matter along the skull and the falx, with thinner gray around deeper sulci.
    depth = np.minimum(head.inside, _distance_from_midline(head))
    deepest = rng.uniform(20, 32) * head.scale
    most = rng.uniform(1.0, 1.7) if not posterior_fossa else 2.5
    gray = step(np.float32(most) - depth * np.float32(most / deepest) - head.sulci, 0.6)
    np.maximum(gray, step(4.5 - depth, 2.0), out=gray)
    contrast = rng.uniform(0.6, 1.15)
    # A child's white matter holds more water.
    offset = rng.normal(0, 1.5) - 4 * head.youth
    white = WHITE_MATTER + offset
    gray_value = WHITE_MATTER + offset + (GRAY_MATTER - WHITE_MATTER) * contrast
    tissue = white + np.float32(gray_value - white) * gray
    tissue += np.float32(0.7) * canvas.texture(12.0, folds.shape, rng)
    if head.atrophy > 0.5:  # the white matter around old ventricles is thin
        patches = step(0.4 * canvas.texture(26.0, folds.shape, rng) - 0.1, 0.6)
        thin = patches * step(head.inside - 18, 12.0)
        tissue -= np.float32(rng.uniform(0, 9) * (head.atrophy - 0.3)) * thin
    canvas.paint(canvas.everywhere(head.brain), tissue)
    rim = width * rng.uniform(0.3, 2.0) * (1 + 0.8 * canvas.texture(26.0, folds.shape, rng))
    front = rng.uniform(0, 1.5) * head.atrophy
    rim = rim + np.float32(front) * np.clip(-head.sine, 0, 1)
    rim_fluid = step(rim - head.inside, canvas.blur) * np.clip(rim / canvas.pixel, 0, 1)
    # The width of a sulcus is in the unit of the folds, of which one is about 5 mm.
    opened = step(np.float32(0.06 + 0.17 * width) - head.sulci, 0.16)
    opened *= step(reach * 0.9 - head.inside, 8.0) * np.float32(min(1.0, 0.05 + 0.62 * width))
    head.fluid = np.maximum(rim_fluid, opened) * head.brain
    head.ventricles = np.zeros_like(head.fluid)


def _distance_from_midline(head: PhantomHead) -> np.ndarray:
    """Return the distance from the falx, in mm; far where there is none between the halves."""
    canvas = head.canvas
    away = np.abs(canvas.inner_x)
    if head.level < 0.24:
        return away + 99
    if head.level < 0.58:
        between = step(0.36 * head.half_length - np.abs(canvas.y), 12.0)
        away = away + 40 * between
    return away


@dataclass(frozen=True)
class _DeepBrain:
    """What lies deep in a brain.

    Attributes:
        head: The head.
        width: Width of the ventricles, 1 for the average.
        asymmetry: How much wider the right ventricle is than the average of both, as a share.
    """

    head: PhantomHead
    width: float
    asymmetry: float

    def _rough(self, amount: float) -> Roughness:
        return Roughness(amount, self.head.rng)

    def _jitter(self, value: float, spread: float = 1.5) -> float:
        """Return a position or size of an average head for this one, with a random deviation."""
        return self.head.scale * value + self.head.rng.normal(0, spread)

    def _add(self, shape: Shape, share: float, to: np.ndarray) -> None:
        """Add the part of a shape inside the dura to a map of the whole canvas."""
        shape = self.head.clip_to_brain(Shape(shape.window, shape.alpha * np.float32(share)))
        part = to[shape.window]
        np.maximum(part, shape.alpha, out=part)

    def _add_ventricle(self, shape: Shape, share: float = 1.0) -> None:
        self._add(shape, share, self.head.ventricles)

    def _add_cistern(self, shape: Shape, share: float = 1.0) -> None:
        self._add(shape, share, self.head.fluid)

    def draw_nuclei(self) -> None:
        """Draw caudate and lentiform nuclei, thalami and insular cortex."""
        head, canvas, k = self.head, self.head.canvas, self.head.scale
        jitter, rough = self._jitter, self._rough
        if visible := visibility(head.level, 0.36, 0.53):
            for side in SIDES:
                turn = side * head.rng.normal(0.3, 0.08)
                caudate = canvas.ellipse(
                    (side * jitter(13 + 4 * self.width), jitter(-26)),
                    (4.5 * k, 9 * k),
                    -turn,
                    rough(0.1),
                )
                lentiform = canvas.ellipse(
                    (side * jitter(27), jitter(-6)), (jitter(7, 0.8), 17 * k), -turn, rough(0.12)
                )
                thalamus = canvas.ellipse(
                    (side * jitter(11 + self.width), jitter(9)), (8.5 * k, 13 * k), turn, rough(0.1)
                )
                insula = canvas.ellipse(
                    (side * jitter(38), jitter(-5)), (2.5, 20 * k), -0.5 * turn, rough(0.15)
                )
                for shape in (caudate, lentiform, thalamus, insula):
                    shape.alpha[...] *= np.float32(visible)
                    canvas.paint(shape, GRAY_MATTER, 0.75)

    def draw_ventricles_of_the_middle(self) -> None:
        """Draw the frontal horns, the third ventricle, the trigones and the occipital horns."""
        head, canvas, rng, k = self.head, self.head.canvas, self.head.rng, self.head.scale
        jitter, rough = self._jitter, self._rough
        if visible := visibility(head.front, 0.34, 0.56):
            for side in SIDES:
                size = self.width * (1 + side * self.asymmetry)
                turn = side * rng.normal(0.35, 0.08)
                horn = canvas.ellipse(
                    (side * jitter(5 + 4.5 * size, 0.8), jitter(-29)),
                    ((1.6 + 3.2 * size) * k, (10 + 3 * size) * k),
                    turn,
                    rough(0.08),
                )
                self._add_ventricle(horn, visible)
        if visible := visibility(head.level, 0.35, 0.47):
            third = canvas.ellipse(
                (rng.normal(0, 0.5), jitter(3)),
                ((0.6 + 1.9 * self.width) * k, 13 * k),
                0,
                rough(0.1),
            )
            self._add_ventricle(third, visible)
        if visible := visibility(head.back, 0.38, 0.58):
            for side in SIDES:
                size = self.width * (1 + side * self.asymmetry) * rng.uniform(0.7, 1.25)
                x, y = side * jitter(24 + 2 * size), jitter(31, 3)
                turn = -side * rng.normal(0.35, 0.12)
                trigone = canvas.ellipse(
                    (x, y), ((1.5 + 3.6 * size) * k, (8 + 6 * size) * k), turn, rough(0.12)
                )
                self._add_ventricle(trigone, visible)
                head.plexus.append((x, y - 2))
                horn = canvas.ellipse(
                    (x + side * 1.5, y + (12 + 5 * size) * k),
                    ((0.6 + 1.8 * size) * k, (7 + 5 * size) * k),
                    turn * 0.6,
                    rough(0.15),
                )
                self._add_ventricle(horn, visible * min(1.0, 0.4 + 0.6 * size))

    def draw_lateral_ventricle_bodies(self) -> None:
        """Draw the bodies of the lateral ventricles."""
        head, k, jitter = self.head, self.head.scale, self._jitter
        if visible := visibility(head.level, 0.5, 0.655):
            for side in SIDES:
                size = self.width * (1 + side * self.asymmetry)
                high = 1 - float(np.clip((head.level - 0.55) / 0.11, 0, 0.8))
                segments = (
                    (4 + 5 * size, -29, 12.0),
                    (8 + 5 * size, -9, 15.0),
                    (11 + 6 * size, 12, 15.0),
                    (17 + 6 * size, 28, 11.0),
                )
                for x, y, length in segments[: 4 if high > 0.5 else 3]:
                    body = head.canvas.ellipse(
                        (side * jitter(x * (0.75 + 0.25 * high), 0.5), jitter(y, 1)),
                        ((1.5 + 3.4 * size) * k * (0.5 + 0.5 * high), length * k),
                        -side * 0.12 if y > -20 else side * 0.25,
                        self._rough(0.06),
                    )
                    self._add_ventricle(body, visible)

    def draw_lower_ventricles(self) -> None:
        """Draw the temporal horns and the fourth ventricle."""
        head, canvas, k, jitter = self.head, self.head.canvas, self.head.scale, self._jitter
        if visible := visibility(head.level, 0.27, 0.37):
            for side in SIDES:
                horn = canvas.ellipse(
                    (side * jitter(31), jitter(-3)),
                    ((0.5 + 1.4 * self.width * self.width) * k, 7 * k),
                    side * 0.5,
                )
                self._add_ventricle(horn, visible * min(1.0, 0.2 + 0.6 * self.width))
        if visible := visibility(head.back, 0.11, 0.26):
            fourth = canvas.ellipse(
                (head.rng.normal(0, 0.8), jitter(25)),
                ((3.5 + 3.5 * self.width) * k, (2.5 + 2.2 * self.width) * k),
                0,
                self._rough(0.15),
            )
            self._add_ventricle(fourth, visible)

    def draw_basal_cisterns(self, opening: float) -> None:
        """Draw the suprasellar, ambient and quadrigeminal cisterns and the midbrain.

        Args:
            opening: Width of the cisterns, 1 for the average.
        """
        head, canvas, k = self.head, self.head.canvas, self.head.scale
        jitter, rough = self._jitter, self._rough
        # In a young brain they are so narrow that they fill a part of the slice only.
        share = min(1.0, 0.2 + 0.65 * opening)
        if visible := visibility(head.front, 0.24, 0.36):
            suprasellar = canvas.ellipse((0, jitter(-9)), (12 * k, 10 * k), 0, rough(0.2))
            self._add_cistern(suprasellar, visible)
            for side in SIDES:
                points = [(side * 8, -10 * k), (side * 24 * k, -16 * k), (side * 40 * k, -10 * k)]
                sylvian = canvas.line(points, (5.0 * opening, 2.0 * opening))
                self._add_cistern(sylvian, share * visible)
            fissure = canvas.line([(0, -14 * k), (0, -40 * k)], 2.5 * opening)
            self._add_cistern(fissure, share * visible)
        if visible := visibility(head.level, 0.25, 0.385):
            midbrain = canvas.ellipse((0, jitter(10)), (15 * k, 13 * k), 0, rough(0.06))
            ambient = canvas.ellipse(
                (0, jitter(10)), (15 * k + 3.2 * opening, 13 * k + 3.2 * opening)
            )
            self._add_cistern(ambient, share * visible)
            part = head.fluid[midbrain.window]
            part *= 1 - midbrain.alpha
            canvas.paint(midbrain, WHITE_MATTER + 3, 0.8 * visible)
        if visible := visibility(head.level, 0.32, 0.43):
            smile = [(-11 * k, 21 * k), (0, 27 * k), (11 * k, 21 * k)]
            self._add_cistern(canvas.line(smile, 4.5 * opening), visible)

    def draw_sylvian_fissures(self, opening: float) -> None:
        """Draw the Sylvian fissures, see `draw_basal_cisterns`."""
        head, jitter = self.head, self._jitter
        if visible := visibility(head.front, 0.3, 0.55):
            for side in SIDES:
                width = (0.8 + 2.6 * opening) * head.rng.uniform(0.6, 1.3)
                points = [
                    (side * jitter(66), jitter(-22, 3)),
                    (side * jitter(56), jitter(-20, 2)),
                    (side * jitter(48), jitter(-15, 2)),
                    (side * jitter(42), jitter(-7, 2)),
                    (side * jitter(41), jitter(4, 2)),
                    (side * jitter(43), jitter(14, 2)),
                ]
                fissure = head.canvas.line(points, (width * 1.3, width * 0.7))
                self._add_cistern(fissure, visible * min(1.0, 0.25 + 0.7 * opening))

    def draw_posterior_fossa(self, opening: float) -> None:
        """Draw the pons and the cisterns around it, see `draw_basal_cisterns`."""
        head, canvas, k, back = self.head, self.head.canvas, self.head.scale, self.head.back
        if head.level >= 0.24:
            return
        jitter, rough = self._jitter, self._rough
        prepontine = canvas.ellipse((0, jitter(-2)), (16 * k, (2 + 2.5 * opening) * k))
        self._add_cistern(prepontine, 0.9)
        pons = canvas.ellipse(
            (0, jitter(9)),
            (
                interpolate(back, (0.05, 0.2), (8, 16)) * k,
                interpolate(back, (0.05, 0.2), (7, 12)) * k,
            ),
            0,
            rough(0.06),
        )
        part = head.fluid[pons.window]
        part *= 1 - pons.alpha
        canvas.paint(pons, WHITE_MATTER + 3, 0.7)
        for side in SIDES:
            cerebellopontine = canvas.ellipse(
                (side * jitter(22), jitter(8)), (6 * k, 2.5 * opening * k), side * 0.7, rough(0.2)
            )
            self._add_cistern(cerebellopontine, 0.8)
        if back < 0.13:
            y = jitter(58 * interpolate(back, (0, 0.13), (0.6, 1)))
            self._add_cistern(canvas.ellipse((0, y), (14, 6)), head.rng.uniform(0.2, 1))

    def draw_interhemispheric_fissure(self, opening: float) -> None:
        """Draw the interhemispheric fissure, see `draw_basal_cisterns`."""
        head, canvas, length = self.head, self.head.canvas, self.head.half_length
        if head.level <= 0.4:
            return
        width = head.rng.uniform(0.5, 1.5) * opening
        front, back = (-0.97, -0.3) if head.level < 0.6 else (-0.97, 0.97)
        fissure = canvas.line([(0.0, front * length), (0.0, back * length)], 1.0 + 1.6 * width)
        share = float(np.clip(0.75 * (opening - 0.35), 0.05, 0.8))
        self._add_cistern(fissure, share)
        if head.level < 0.6:
            behind = canvas.line([(0.0, 0.35 * length), (0.0, 0.95 * length)], 1.0 + width)
            self._add_cistern(behind, 0.75 * share)


def _draw_fluid_and_plexus(head: PhantomHead) -> None:
    canvas, rng = head.canvas, head.rng
    fluid = np.maximum(head.fluid, head.ventricles)
    canvas.paint(canvas.everywhere(fluid), CSF + rng.normal(0, 2))
    for x, y in head.plexus:  # without calcification it is a little brighter than brain
        plexus = canvas.ellipse((x, y), (2.5, 5), -np.sign(x) * 0.35, Roughness(0.2, rng))
        canvas.paint(plexus, 38, rng.uniform(0, 0.8))
