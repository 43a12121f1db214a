"""The neck: vertebrae with the cord, muscles, vessels, and the airway behind tongue and larynx."""

from __future__ import annotations

from hemorrhage_tf.synthesis.canvas import Roughness
from hemorrhage_tf.synthesis.head import CSF, MUSCLE, SIDES, SINUS_AIR, PhantomHead, visibility

_NECK_TOP = 0.03  # level of the foramen magnum's upper edge


def draw_neck(head: PhantomHead) -> None:
    """Draw the neck into a head; nothing in slices above it."""
    if head.back > _NECK_TOP:
        return
    _draw_muscles(head)
    _draw_vertebra(head)
    _draw_airway(head)


def _draw_muscles(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    for side in SIDES:
        for x, y, width, length in ((14, 60, 10, 16), (30, 52, 12, 14), (46, 28, 8, 16)):
            muscle = canvas.ellipse(
                (side * x * k, y * k), (width * k, length * k), 0, Roughness(0.2, rng), inner=False
            )
            canvas.paint(muscle, MUSCLE)


def _draw_vertebra(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    visible = 1 - visibility(head.back, 0.0, 2.0)
    body = canvas.ellipse((0, 17 * k), (15 * k, 9 * k), 0, Roughness(0.1, rng), inner=False)
    canvas.paint(body, 600, visible)
    arch = canvas.ellipse((0, 36 * k), (20 * k, 16 * k), 0, Roughness(0.1, rng), inner=False)
    canvas.paint(arch, 700, visible)
    canal = canvas.ellipse((0, 36 * k), (13 * k, 10 * k), inner=False)
    canvas.paint(canal, CSF + 8, visible)
    cord = canvas.ellipse((0, 36 * k), (7 * k, 5 * k), inner=False)
    canvas.paint(cord, 36, visible)


def _draw_airway(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    airway = canvas.ellipse((0, -14 * k), (10 * k, 7 * k), 0, Roughness(0.15, rng), inner=False)
    canvas.paint(airway, SINUS_AIR)
