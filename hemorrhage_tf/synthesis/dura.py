"""Falx, tentorium, venous sinuses and the larger arteries: all a little denser than brain."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, step
from hemorrhage_tf.synthesis.head import SIDES, PhantomHead, interpolate, visibility


def draw_dura_and_vessels(head: PhantomHead) -> None:
    """Draw falx, tentorium, sinuses and arteries into a brain; nothing where there is none."""
    if not head.has_brain:
        return
    dura = head.rng.uniform(37, 54)
    _draw_falx(head, dura)
    blood = head.rng.uniform(42, 62)
    _draw_sagittal_sinus(head, blood)
    _draw_vertex_veins(head, blood)
    _draw_tentorium(head, dura)
    _draw_transverse_sinuses(head, blood)
    _draw_basal_arteries(head)


def _draw_falx(head: PhantomHead, density: float) -> None:
    canvas, rng, length = head.canvas, head.rng, head.half_length
    if head.level <= 0.4:
        return
    width, share = rng.uniform(0.6, 2.0), rng.uniform(0.6, 1)
    front, back = (-0.98, -0.36) if head.level < 0.6 else (-0.98, 0.98)
    points = [(0.0, end * (length - 6)) for end in (front, back)]
    canvas.paint(head.clip_to_brain(canvas.line(points, (width, width * 1.3))), density, share)
    if head.level < 0.6:
        points = [(0.0, 0.4 * length), (0.0, length - 8)]
        canvas.paint(head.clip_to_brain(canvas.line(points, (width, width * 1.8))), density, share)


def _draw_sagittal_sinus(head: PhantomHead, density: float) -> None:
    """Draw the superior sagittal sinus where the slice cuts across it, behind and in front."""
    canvas, rng = head.canvas, head.rng
    if head.level <= 0.3:
        return
    middle = (np.abs(canvas.x) < canvas.pixel) & (head.inside > 0)
    if not middle.any():
        return
    ends = float(canvas.y[middle].max()), float(canvas.y[middle].min())
    for end, size in zip(ends, (rng.uniform(3, 6.5), rng.uniform(1, 3.5)), strict=True):
        center = (0, end - np.sign(end) * 0.5 * size)
        sinus = canvas.ellipse(center, (size, size * 0.8), 0, Roughness(0.15, rng), inner=False)
        canvas.paint(head.clip_to_brain(sinus), density)


def _draw_vertex_veins(head: PhantomHead, density: float) -> None:
    """Draw the sagittal sinus where it runs in the slice near the vertex, and veins into it."""
    canvas, rng = head.canvas, head.rng
    if visible := visibility(head.level, 0.83, 1.2, 0.06):
        low, high = sorted(rng.uniform(-1.1, 1.1, 2))
        ends = [(rng.normal(0, 0.7), end * (head.half_length - 7)) for end in (low, high)]
        sinus = canvas.line(ends, (rng.uniform(2, 9), rng.uniform(2, 9)))
        canvas.paint(head.clip_to_brain(sinus), density, visible * rng.uniform(0.3, 1))
        for _ in range(int(rng.integers(0, 5))):
            y, side = rng.uniform(-0.7, 0.7) * head.half_length, rng.choice(SIDES)
            vein = canvas.line(
                [(0.0, y), (side * rng.uniform(5, 22), y - rng.uniform(-3, 12))],
                (rng.uniform(1.5, 4), rng.uniform(0.8, 2)),
            )
            canvas.paint(head.clip_to_brain(vein), density, visible * rng.uniform(0.3, 1))


def _draw_tentorium(head: PhantomHead, density: float) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.back, 0.21, 0.37):
        spread = interpolate(head.back, (0.21, 0.37), (52, 26)) * k
        reach = rng.uniform(2, 16) * k
        for side in SIDES:
            bow = rng.uniform(0, 6) * k
            points = [
                (0.0, 60 * k),
                (side * (spread * 0.28 + bow * 0.6), 51 * k),
                (side * (spread * 0.55 + bow), 40 * k),
                (side * (spread * 0.8 + bow * 0.8), 0.5 * (40 * k + reach)),
                (side * spread, reach),
            ]
            tentorium = canvas.line(points, (rng.uniform(1.2, 3.2), rng.uniform(0.6, 1.8)))
            value = density + rng.uniform(-4, 6)
            canvas.paint(head.clip_to_brain(tentorium), value, visible * rng.uniform(0.4, 1))


def _draw_transverse_sinuses(head: PhantomHead, density: float) -> None:
    """Draw transverse and sigmoid sinuses."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.back, 0.13, 0.29):
        for side in SIDES:
            if rng.random() < 0.85:
                width = rng.uniform(2, 7)
                band = step(width - head.inside, 1.5) * step(head.inside, 1.0)
                band = band * step(side * canvas.x - 14, 6) * step(canvas.y - 26 * k, 8)
                band = band * np.float32(visible * rng.uniform(0.5, 1))
                canvas.paint(canvas.everywhere(band), density)
            sigmoid = canvas.ellipse(
                (side * rng.normal(50, 3) * k, rng.normal(28, 3) * k),
                (rng.uniform(2, 5), rng.uniform(4, 8)),
                side * 0.4,
                Roughness(0.15, rng),
                inner=False,
            )
            canvas.paint(head.clip_to_brain(sigmoid), density, visible)


def _draw_basal_arteries(head: PhantomHead) -> None:
    """Draw basilar, internal carotid and middle cerebral arteries."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.12, 0.38):
        density = rng.uniform(38, 56)
        across = [(rng.normal(0, 1.5), rng.normal(-4, 2), rng.uniform(1.3, 2.8))]
        for side in SIDES:
            across.append((side * rng.normal(9, 2), rng.normal(-13, 2), rng.uniform(1.2, 2.6)))
            points = [(side * 9 * k, -14 * k), (side * 22 * k, -16 * k), (side * 34 * k, -12 * k)]
            canvas.paint(canvas.line(points, rng.uniform(0.8, 2.2)), density, 0.7 * visible)
        for x, y, radius in across:
            canvas.paint(canvas.ellipse((x * k, y * k), (radius, radius)), density, visible)
