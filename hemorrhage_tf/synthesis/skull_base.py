"""The skull base: petrous bones, mastoids, sphenoid, sella, orbits, crests and facial sinuses."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import Canvas, Roughness, Shape, step
from hemorrhage_tf.synthesis.head import (
    FAT,
    SIDES,
    SINUS_AIR,
    PhantomHead,
    interpolate,
    partial_volume_density,
    visibility,
)


def draw_skull_base(head: PhantomHead) -> None:
    """Draw the bones and air cells of the base into a head; nothing in slices above it."""
    if min(head.front, head.back) > 0.42:
        return
    _draw_middle_of_the_base(head)
    _draw_petrous_bones(head)
    _draw_mastoids(head)
    _draw_clivus_and_sphenoid_wings(head)
    _draw_ethmoid(head)
    _draw_sphenoid_sinus(head)
    _draw_orbits(head)
    _draw_orbital_roofs(head)
    _draw_sella(head)
    _draw_frontal_crest(head)
    _draw_occipital_crest(head)
    _draw_frontal_sinuses(head)
    _draw_partial_volume_temporal_bone(head)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    value: float = np.exp(rng.uniform(np.log(low), np.log(high)))
    return value


def _draw_middle_of_the_base(head: PhantomHead) -> None:
    """Draw the bone between face and posterior fossa, with its holes and air cells."""
    canvas, rng, k = head.canvas, head.own_stream(), head.scale
    hard, aeration, wide = rng.uniform(600, 1100), rng.uniform(-0.4, 0.5), rng.uniform(20, 30)
    deep = rng.normal(0, 2)
    for side in SIDES:
        level = head.level_at(side * 30 * k, -4 * k)
        if not (share := visibility(level, 0.035, 0.15, 0.05)):
            continue
        outer = interpolate(level, (0.02, 0.1), (46, 60))
        points = [(0.0, -13 + deep), (side * 28, -7 + deep), (side * outer, 8 + deep)]
        mass = canvas.line([(x * k, y * k) for x, y in points], (wide * k, wide * 0.85 * k))
        alpha = mass.alpha * step(-1 - head.inside[mass.window], 1.5)
        texture = canvas.texture(5.0, alpha.shape, rng)
        holes = step(texture - np.float32(1.5 - aeration), 0.4)
        content = np.where(canvas.texture(12.0, alpha.shape, rng) > 0, SINUS_AIR * 0.8, 55)
        value = hard + 250 * texture
        canvas.paint(Shape(mass.window, alpha), value + (content - value) * holes, share)


def _draw_petrous_bones(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    for side in SIDES:
        if visible := visibility(head.back + side * head.roll, 0.06, 0.27, 0.06):
            outer = rng.uniform(12, 20) * visible
            apex = interpolate(head.back, (0.12, 0.2, 0.27), (13, 18, 34))  # its ridge rises
            points = [
                (side * 62 * k, rng.normal(20, 3) * k),
                (side * 36 * k, rng.normal(10, 2) * k),
                (side * apex * k, rng.normal(-2, 2) * k),
            ]
            petrous = canvas.line(points, (outer, 6.0 * visible), inner=False)
            bone = 1300 + 250 * canvas.texture(5.0, petrous.alpha.shape, rng)
            canvas.paint(petrous, bone, min(1.0, 1.3 * visible))
            middle_ear = canvas.ellipse(
                (side * rng.normal(40, 2) * k, rng.normal(11, 2) * k),
                (4, 2.5),
                0,
                Roughness(0.3, rng),
                inner=False,
            )
            canvas.paint(middle_ear, rng.choice((-700.0, 60.0, 300.0)), visible)
            carotid = canvas.ellipse((side * 20 * k, 1 * k), (3, 3), inner=False)
            canvas.paint(carotid, 60, visible * 0.8)


def _draw_mastoids(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    for side in SIDES:
        if visible := visibility(head.back + side * head.roll, -0.12, 0.2, 0.05):
            mastoid = canvas.ellipse(
                (side * rng.normal(59, 2) * k, rng.normal(27, 3) * k),
                (rng.uniform(8, 13), rng.uniform(10, 17)),
                side * -0.3,
                Roughness(0.15, rng),
                inner=False,
            )
            mastoid = Shape(mastoid.window, mastoid.alpha * np.float32(visible))
            _draw_air_cells(canvas, mastoid, rng.uniform(0.2, 0.75) - 0.5 * head.youth, rng)


def _draw_air_cells(
    canvas: Canvas, shape: Shape, aeration: float, rng: np.random.Generator
) -> None:
    """Draw bone that is full of air cells."""
    holes = step(canvas.texture(5.0, shape.alpha.shape, rng) + 2 * aeration - 1, 0.5)
    canvas.paint(shape, 900 + (SINUS_AIR * 0.8 - 900) * holes)


def _draw_clivus_and_sphenoid_wings(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.05, 0.25, 0.05):
        low = visibility(head.front, 0.05, 0.195, 0.03)
        clivus = canvas.ellipse(
            (0, rng.normal(-12, 2) * k),
            (rng.uniform(9, 15), rng.uniform(7, 12)),
            0,
            Roughness(0.15, rng),
            inner=False,
        )
        canvas.paint(clivus, 700 + 200 * canvas.texture(5.0, clivus.alpha.shape, rng), low)
        for side in SIDES:
            points = [
                (side * 12 * k, -20 * k),
                (side * 34 * k, rng.normal(-40, 3) * k),
                (side * 60 * k, rng.normal(-36, 3) * k),
            ]
            wing = canvas.line(points, (rng.uniform(4, 8), rng.uniform(3, 6)), inner=False)
            canvas.paint(wing, 1200, visible)


def _draw_ethmoid(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.08, 0.225, 0.03):
        ethmoid = canvas.ellipse(
            (0, rng.normal(-62, 3) * k),
            (rng.uniform(9, 14), rng.uniform(17, 25)),
            0,
            Roughness(0.1, rng),
            inner=False,
        )
        septa = step(canvas.texture(5.0, ethmoid.alpha.shape, rng) - 0.9, 0.5)
        content = rng.choice((SINUS_AIR, SINUS_AIR, 25.0))
        canvas.paint(ethmoid, content + (500 - content) * septa, visible)


def _draw_sphenoid_sinus(head: PhantomHead) -> None:
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.04, 0.19, 0.04):
        sinus = canvas.ellipse(
            (rng.normal(0, 3), rng.normal(-30, 3) * k),
            (rng.uniform(9, 16), rng.uniform(7, 12)),
            0,
            Roughness(0.12, rng),
            inner=False,
        )
        canvas.paint(sinus, rng.choice((SINUS_AIR, SINUS_AIR, 30.0)), visible)
        septum = canvas.line([(0, -22 * k), (2, -40 * k)], 1.5, inner=False)
        canvas.paint(septum, 700, visible)


def _draw_orbits(head: PhantomHead) -> None:
    """Draw the orbits: cones of fat between thin walls, with the globes in their openings."""
    canvas, k = head.canvas, head.scale
    for side in SIDES:
        rng = head.own_stream()
        level = head.front + side * head.roll
        if not (visible := visibility(level, 0.085, 0.25, 0.03)):
            continue
        height = np.clip((level - 0.065) / 0.195, 0.02, 0.98)
        size = float(np.sin(height * np.pi)) ** 0.5
        x, y = side * (32 + rng.normal(0, 1.2)) * k, (-70 + rng.normal(0, 2)) * k
        apex = (side * 15 * k, -32 * k)
        wide = rng.normal(37, 2) * k * size
        start = (x + side * 1.5 * k, y + 6 * k)
        wall = canvas.line([start, apex], (wide + rng.uniform(3, 7), 13 * size), inner=False)
        canvas.paint(wall, rng.uniform(700, 1200), visible)
        # Above the globe the frontal bone closes the orbit in front.
        opening = (x, y - interpolate(level, (0.17, 0.22), (6.0, -8.0)) * k)
        cone = canvas.line([opening, start, apex], (wide * 1.05, 7 * size), inner=False)
        canvas.paint(cone, FAT, visible)
        _draw_eye(head, rng, (x, y), side * size)


def _draw_eye(
    head: PhantomHead, rng: np.random.Generator, place: tuple[float, float], turned: float
) -> None:
    """Draw the contents of an orbit.

    Args:
        head: The head.
        rng: Random generator of the eye.
        place: x and y of the globe, in mm.
        turned: How large the section of the orbit is, 1 in its middle; negative on the left.
    """
    canvas, k, (x, y) = head.canvas, head.scale, place
    size, side = abs(turned), float(np.sign(turned))
    for offset in (-11, 11):  # the medial and lateral rectus muscles
        points = [(x + offset * size, y + 2), (x - side * 13 * k, y + 30 * k)]
        muscle = canvas.line(points, rng.uniform(2.5, 4.5), inner=False)
        canvas.paint(muscle, 42, size)
    radius, ahead, dense = rng.normal(11.8, 0.5) * k, rng.normal(0, 1.5), rng.uniform(45, 110)
    has_lens = rng.random() < 0.85
    globe = radius * float(np.sqrt(np.clip(2.2 * size - 1.2, 0, 1)))
    if globe < 3:
        return
    y += ahead
    nerve = canvas.line([(x, y + 8), (x - side * 14 * k, y + 34 * k)], 4.0, inner=False)
    canvas.paint(nerve, 38, size**4)
    for grown, value in ((3.0, 25.0), (0.0, 55.0), (-1.5, 12.0)):  # lids, sclera, vitreous
        part = canvas.ellipse((x, y), (globe + grown, globe + grown), inner=False)
        canvas.paint(part, value)
    if has_lens and globe > 0.8 * radius:
        lens = canvas.ellipse((x, y - radius * 0.65), (4.4 * k, 2.0 * k), inner=False)
        canvas.paint(lens, dense)


def _draw_orbital_roofs(head: PhantomHead) -> None:
    """Draw the orbital roofs, which rise into the slice and fill a part of its thickness."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.225, 0.315, 0.04):
        x, y = rng.normal(30, 4) * k, rng.normal(-58, 5) * k
        density = partial_volume_density(rng)
        width, length = rng.uniform(8, 22), rng.uniform(8, 20)
        for side in SIDES:  # one side shows more than the other, since no head lies quite straight
            size = rng.uniform(0.7, 1.15) * max(1 - side * head.roll * 8, 0.1)
            roof = head.partial_volume_bone(
                (side * x + rng.normal(0, 1.5), y + rng.normal(0, 2)),
                (width * size, length * size),
                rng.uniform(-0.5, 0.5),
                rng,
            )
            canvas.paint(roof, density * rng.uniform(0.6, 1), visible * rng.uniform(0.5, 1))


def _draw_sella(head: PhantomHead) -> None:
    """Draw the clinoid processes around the sella, and the dorsum between them."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.front, 0.17, 0.29, 0.04):
        density = _log_uniform(rng, 90, 1100)
        y = rng.normal(-15, 3) * k
        for side in SIDES:
            clinoid = canvas.ellipse(
                (side * rng.normal(12, 1.5) * k, y + rng.normal(0, 1)),
                (rng.uniform(1.2, 3.5), rng.uniform(2, 6)),
                side * rng.uniform(-0.2, 0.6),
                Roughness(0.2, rng),
                inner=False,
            )
            canvas.paint(clinoid, density, visible * rng.uniform(0.3, 1))
        if rng.random() < 0.6:
            width, middle = rng.uniform(4, 9) * k, y + rng.uniform(6, 12) * k
            points = [(-width, middle - 1), (0.0, middle + 1), (width, middle - 1)]
            dorsum = canvas.line(points, rng.uniform(1.5, 4), inner=False)
            canvas.paint(dorsum, density * rng.uniform(0.6, 1), visible)


def _draw_frontal_crest(head: PhantomHead) -> None:
    """Draw the frontal crest and the crista galli below it, where the falx begins."""
    canvas, rng = head.canvas, head.rng
    if (visible := visibility(head.front, 0.15, 0.4, 0.06)) and rng.random() < 0.6:
        top = -(head.half_length - rng.uniform(3, 6))
        crest = canvas.line(
            [(0.0, top), (rng.normal(0, 1), top + rng.uniform(5, 18))],
            (rng.uniform(3, 8), rng.uniform(0.8, 2.5)),
            inner=False,
        )
        canvas.paint(crest, _log_uniform(rng, 150, 1300), visible)


def _draw_occipital_crest(head: PhantomHead) -> None:
    """Draw the internal occipital crest and protuberance."""
    canvas, rng = head.canvas, head.rng
    if (visible := visibility(head.back, 0.1, 0.36, 0.05)) and rng.random() < 0.7:
        middle = (np.abs(canvas.x) < canvas.pixel) & (head.depth > 0)
        behind = float(canvas.y[middle].max(initial=0.0)) - rng.uniform(3, 6)
        crest = canvas.line(
            [(rng.normal(0, 1.5), behind), (rng.normal(0, 2), behind - rng.uniform(5, 14))],
            (rng.uniform(6, 16), rng.uniform(1, 4)),
            inner=False,
        )
        bulge = step(head.depth[crest.window] + np.float32(rng.uniform(0, 3)), canvas.blur)
        crest = Shape(crest.window, crest.alpha * bulge)
        canvas.paint(crest, _log_uniform(rng, 250, 1400), visible)


def _draw_frontal_sinuses(head: PhantomHead) -> None:
    canvas, rng = head.canvas, head.rng
    if (visible := visibility(head.front, 0.2, 0.4)) and rng.random() < 0.7 - 2 * head.youth:
        for side in SIDES:
            sinus = canvas.ellipse(
                (side * rng.uniform(4, 14), -(head.half_length - rng.uniform(3.5, 6))),
                (rng.uniform(4, 14), rng.uniform(2, 4.5)),
                side * 0.25,
                Roughness(0.2, rng),
                inner=False,
            )
            wall = canvas.ellipse((0, -(head.half_length - 6)), (22, 7), inner=False)
            canvas.paint(wall, 1100, 0.6 * visible)
            canvas.paint(sinus, SINUS_AIR, visible)


def _draw_partial_volume_temporal_bone(head: PhantomHead) -> None:
    """Draw temporal bone that fills a part of the slice's thickness, more on the lower side."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    if visible := visibility(head.level, 0.1, 0.3, 0.05):
        x, y = rng.normal(50, 7) * k, rng.normal(2, 14) * k
        density = partial_volume_density(rng)
        radii = rng.uniform(3, 11), rng.uniform(3, 9)
        for side in SIDES:
            if rng.random() < 0.6 - side * head.roll * 5:
                bone = head.partial_volume_bone(
                    (side * x + rng.normal(0, 2), y + rng.normal(0, 2)),
                    radii,
                    rng.uniform(-1, 1),
                    rng,
                )
                canvas.paint(bone, density * rng.uniform(0.6, 1), visible * rng.uniform(0.5, 1))
