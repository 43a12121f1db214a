"""Anatomy: a head without findings, at any level from the skull base (0) to the vertex (1).

Places and sizes are those of an adult head in mm, x to the right of the picture and y to the back,
from what atlases of sectional anatomy show; every one of them varies from head to head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hemorrhage_tf.synthesis.canvas import Canvas, Shape, step

# Hounsfield units of tissues, as text books of head CT have them.
CSF, WHITE, GRAY, MUSCLE, FAT, BLOOD_VESSEL = 7.0, 29.5, 37.5, 52.0, -85.0, 46.0
DIPLOE, TABLE, SINUS_AIR = 600.0, 1500.0, -960.0

SIDES = (-1, 1)


@dataclass
class PhantomHead:
    """A head as it is drawn.

    Attributes:
        canvas: what it is drawn on.
        rng: of the anatomy.
        front: level of the front half, 0 to 1; a tilted slice has another one at the back.
        back: level of the back half.
        scale: of all that is inside, 1 for a head of average size.
        atrophy: 0 in a young brain to 1 in a very old one.
        roll: how much higher the slice is on the right of the picture than in the middle, and lower
            on the left, as a level.
        cosine: x over the distance from the middle.
        sine: y over the distance from the middle.
        depth: mm inside the outer table of the skull; negative outside.
        inside: mm inside the dura; negative outside.
        sulci: distance from the middle of a sulcus, in no unit, 0 in its middle.
        fluid: share of each pixel that is CSF outside the ventricles.
        ventricles: share of each pixel that is ventricle.
        glands: places of choroid plexus and pineal, in mm.
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
    depth: np.ndarray = field(init=False)
    inside: np.ndarray = field(init=False)
    sulci: np.ndarray = field(init=False)
    fluid: np.ndarray = field(init=False)
    ventricles: np.ndarray = field(init=False)
    half_width: float = field(init=False)
    half_length: float = field(init=False)
    plexus: list[tuple[float, float]] = field(default_factory=list)
    pineal: tuple[float, float] | None = None

    @property
    def level(self) -> float:
        """Of the middle of the slice."""
        return (self.front + self.back) / 2

    @property
    def brain(self) -> np.ndarray:
        """Share of each pixel that is inside the dura."""
        return step(self.inside, self.canvas.blur)

    def add(self, shape: Shape, to: np.ndarray) -> None:
        """Notes what a shape covers in a map of the whole canvas."""
        part = to[shape.window]
        np.maximum(part, shape.alpha, out=part)

    def grazed(
        self,
        x: float,
        y: float,
        radius_x: float,
        radius_y: float,
        angle: float,
        rng: np.random.Generator,
    ) -> Shape:
        """Gives how much of a slice is covered by bone that comes up into it.

        Of a dome it is the most in the middle and falls to nothing at the edge; a ridge that is
        flat on top has a plateau, as blood has.

        Args:
            x: of its middle, in mm.
            y: of its middle, in mm.
            radius_x: in mm, before it is turned.
            radius_y: in mm, before it is turned.
            angle: that it is turned by, in radians.
            rng: where its uneven outline, and how flat it is, come from.

        Returns:
            float32 coverage in [0, 1].
        """
        # With an edge as wide as the ellipse, coverage tells how far out of the middle a pixel is.
        blur = 2 * min(radius_x, radius_y)
        shape = self.canvas.ellipse(x, y, radius_x, radius_y, angle, 0.3, blur, rng, inner=False)
        outward = 2 * (1 - shape.alpha)
        dome = np.clip((1 - outward * outward) / np.float32(rng.uniform(0.25, 1)), 0, 1)
        return Shape(shape.window, dome * self.brain[shape.window])

    def random_place(
        self, rng: np.random.Generator, shallowest: float, deepest: float
    ) -> tuple[float, float] | None:
        """Finds a place in the brain, in mm; None where nothing is that deep."""
        every = max(1, self.canvas.size // 112)
        inside = self.inside[::every, ::every]
        rows, columns = np.nonzero((inside > shallowest) & (inside < deepest))
        if not len(rows):
            return None
        chosen = int(rng.random() * len(rows))
        at = rows[chosen] * every, columns[chosen] * every
        return float(self.canvas.inner_x[at]), float(self.canvas.y[at])


def grazed_value(rng: np.random.Generator) -> float:
    """Draws the HU of what bone covers a part of: from hardly more than brain to bone."""
    return float(np.exp(rng.uniform(np.log(50), np.log(900))))


def _within(level: float, low: float, high: float, edge: float = 0.03) -> float:
    """Gives how much of a structure that spans some levels is in the slice, 0 to 1."""
    return float(np.clip(min(level - low, high - level) / edge + 0.5, 0, 1))


def between(level: float, levels: tuple[float, ...], values: tuple[float, ...]) -> float:
    """Interpolates what changes with the level."""
    return float(np.interp(level, levels, values))


def _outline(head: PhantomHead) -> None:
    """Lays out skull and scalp."""
    canvas, rng, level = head.canvas, head.rng, head.level
    if level > 0.4:
        share = max(1 - ((level - 0.4) / 0.625) ** 2, 0.06) ** 0.5
    else:
        share = 1 - 0.12 * (0.4 - level)
    half_width = head.half_width = (72 + rng.normal(0, 2.5)) * head.scale * share
    half_length = head.half_length = (89 + rng.normal(0, 3)) * head.scale * share
    distance = np.sqrt(canvas.x * canvas.x + canvas.y * canvas.y) + np.float32(1e-3)
    cosine, sine = canvas.x / distance, canvas.y / distance
    a, b = cosine * np.float32(1 / half_width), sine * np.float32(1 / half_length)
    radius = 1 / np.sqrt(a * a + b * b)
    egg, square, skew = rng.normal(0.05, 0.02), rng.normal(0, 0.012), rng.normal(0, 0.01)
    doubled = 2 * cosine * sine
    radius *= 1 + egg * sine * (1 - sine * sine) * 2.2 + square * doubled * doubled + skew * doubled
    head.cosine, head.sine = cosine, sine
    head.depth = radius - distance


def _skull_thickness(head: PhantomHead) -> np.ndarray:
    rng = head.rng
    thick = rng.uniform(4.5, 8.5) * (0.75 + 0.25 * head.scale)
    front, back, bumpy = rng.uniform(0, 0.3), rng.uniform(0, 0.45), rng.uniform(0.04, 0.12)
    side = rng.uniform(-0.15, 0.1)
    s, c = head.sine, head.cosine
    before, behind = np.clip(-s, 0, 1), np.clip(s, 0, 1)
    behind *= behind
    thickness = 1 + front * (before * before) + back * (behind * behind) + side * (c * c)
    thickness += np.float32(bumpy) * head.canvas.wobble(26.0, s.shape, rng)
    return np.clip(thick * thickness, 2.0, None)


def _cavity(head: PhantomHead, thickness: np.ndarray) -> None:
    """Lays out what the dura encloses: one room above, three fossae at the skull base."""
    canvas, rng = head.canvas, head.rng
    whole = head.depth - thickness - np.float32(0.6)
    lowest = min(head.front, head.back)
    if lowest >= 0.31:
        head.inside = whole
        return
    k, x, y = head.scale, canvas.x, canvas.y

    def room(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        rx, ry = max(rx, 2.0) * k, max(ry, 2.0) * k
        across = (x - np.float32(cx * k)) * np.float32(1 / rx)
        down = (y - np.float32(cy * k)) * np.float32(1 / ry)
        away = np.sqrt(across * across + down * down)
        return (1 - away) * np.float32(min(rx, ry))

    grown = between(head.back, (0, 0.08, 0.18, 0.3), (0.34, 0.62, 0.95, 1.12))
    inside = room(rng.normal(0, 1.5), 37 + rng.normal(0, 2), 56 * grown, 44 * grown)
    for side in SIDES:
        at = head.front + side * head.roll
        if at > 0.07:
            lobe = between(at, (0.07, 0.2, 0.3), (0.25, 1.0, 1.25))
            middle = room(side * 42, -12 + rng.normal(0, 2), 25 * lobe, 29 * lobe)
            inside = np.maximum(inside, middle)
    if head.front > 0.17:
        inside = np.maximum(inside, room(0, 2, 22, 26))
    if head.front > 0.21:
        share = between(head.front, (0.21, 0.31), (0.3, 1.25))
        inside = np.maximum(inside, room(0, -44, 52 * share, 38 * share))
    head.inside = np.minimum(inside, whole)


def _soft_tissue_and_bone(head: PhantomHead, thickness: np.ndarray) -> None:
    """Paints scalp and skull, and at the base the bone and tissue between the fossae."""
    canvas, rng, level = head.canvas, head.rng, head.level
    base = min(head.front, head.back)
    s, c = head.sine, head.cosine
    scalp = rng.uniform(3.0, 7.5) * (0.8 + 0.2 * canvas.wobble(26.0, s.shape, rng) * 0.4)
    temporal = rng.uniform(3, 9) * _within(level, -1, 0.5, 0.3)
    sides = c * c
    scalp = scalp + np.float32(temporal) * (sides * sides)
    if base < 0.22:
        behind = np.clip(s, 0, 1)
        scalp = scalp + np.float32((0.24 - base) * rng.uniform(40, 110)) * behind * behind
    skin = head.depth + scalp
    if base < 0.2 and rng.random() < 0.6:
        for side in SIDES:
            ear = canvas.ellipse(
                side * (head.half_width + rng.uniform(4, 9)), rng.uniform(8, 22),
                rng.uniform(2, 4), rng.uniform(9, 16), side * rng.uniform(-0.5, 0.1),
                0.2, rng=rng, inner=False,
            )  # fmt: skip
            canvas.paint(ear, 20)
    soft = FAT + (MUSCLE - FAT) * step(rng.normal(0, 2) + 3 - skin, 3.0)
    muscle = step(canvas.wobble(12.0, s.shape, rng) + sides * 1.5 - 0.4, 1.0)
    soft = np.maximum(soft, (MUSCLE - FAT) * muscle + FAT)
    canvas.paint(canvas.everywhere(step(skin, canvas.blur)), soft)

    table = rng.uniform(1.0, 2.2)
    edge = np.minimum(head.depth, thickness - head.depth)
    spongy = step(edge - table, 1.5) * np.float32(rng.uniform(0.3, 1.0))
    bone = TABLE * rng.uniform(0.75, 1.15) + (DIPLOE * rng.uniform(0.6, 1.3) - TABLE) * spongy
    ring = step(edge, canvas.blur)
    if head.front < 0.25:  # the face has no vault
        open_face = step(canvas.y + np.float32(46 * head.scale), 8.0)
        ring = ring * (1 - (1 - open_face) * np.float32(np.clip((0.27 - head.front) / 0.05, 0, 1)))
    if base < 0.31:
        # Within the outline, what is not brain: tissue, and bone along the fossae.
        within = step(head.depth, canvas.blur)
        stuff = FAT + (MUSCLE - FAT) * step(canvas.wobble(12.0, s.shape, rng) + 0.5, 0.5)
        canvas.paint(canvas.everywhere(within * step(-head.inside, 1.0)), stuff)
        wall = rng.uniform(2.5, 6.0) * (1 + 0.5 * canvas.wobble(12.0, s.shape, rng))
        walls = np.minimum(-head.inside, wall + head.inside) + np.float32(0.3)
        trabecular = TABLE * 0.8 + 320 * canvas.wobble(5.0, s.shape, rng)
        canvas.paint(canvas.everywhere(step(walls, canvas.blur) * within), trabecular)
    canvas.paint(canvas.everywhere(ring), bone)


def _cortex(head: PhantomHead) -> None:
    """Paints white matter, gray matter and the fluid of sulci."""
    canvas, rng = head.canvas, head.rng
    wide = 0.3 + 1.1 * head.atrophy
    posterior_fossa = head.level < 0.24
    folds = canvas.field(9.0 if not posterior_fossa else 5.0, rng)
    second = canvas.wobble(12.0, folds.shape, rng)
    head.sulci = np.abs(folds + np.float32(0.4) * second)
    reach = 14 + 12 * head.atrophy + (8 if head.level > 0.6 else 0)
    shallow = step(reach - head.inside, 10.0)
    gray = step(0.62 - head.sulci, 0.35) * shallow
    np.maximum(gray, step(4.5 - head.inside, 2.0), out=gray)
    contrast = rng.uniform(0.6, 1.15)
    offset = rng.normal(0, 1.5)
    white, gray_value = WHITE + offset, WHITE + offset + (GRAY - WHITE) * contrast
    tissue = white + np.float32(gray_value - white) * gray
    tissue += np.float32(0.7) * canvas.wobble(12.0, folds.shape, rng)
    if head.atrophy > 0.5:  # the white matter around old ventricles is thin
        thin = step(0.4 * canvas.wobble(26.0, folds.shape, rng) - 0.1, 0.6) * step(
            head.inside - 18, 12.0
        )
        tissue -= np.float32(rng.uniform(0, 9) * (head.atrophy - 0.3)) * thin
    canvas.paint(canvas.everywhere(head.brain), tissue)
    rim = wide * rng.uniform(0.3, 2.0) * (1 + 0.8 * canvas.wobble(26.0, folds.shape, rng))
    front = rng.uniform(0, 1.5) * head.atrophy
    rim = rim + np.float32(front) * np.clip(-head.sine, 0, 1)
    rim_fluid = step(rim - head.inside, canvas.blur) * np.clip(rim / canvas.pixel, 0, 1)
    # How wide a sulcus is, in the unit of the folds: about 5 mm for one.
    opened = step(np.float32(0.06 + 0.17 * wide) - head.sulci, 0.16)
    opened *= step(reach * 0.9 - head.inside, 8.0) * np.float32(min(1.0, 0.35 + 0.5 * wide))
    head.fluid = np.maximum(rim_fluid, opened) * head.brain
    head.ventricles = np.zeros_like(head.fluid)


def _cistern(head: PhantomHead, shape: Shape, share: float = 1.0) -> None:
    shape = Shape(shape.window, shape.alpha * np.float32(share) * head.brain[shape.window])
    head.add(shape, head.fluid)


def _ventricle(head: PhantomHead, shape: Shape, share: float = 1.0) -> None:
    shape = Shape(shape.window, shape.alpha * np.float32(share) * head.brain[shape.window])
    head.add(shape, head.ventricles)


def _gray_nucleus(head: PhantomHead, shape: Shape, value: float = GRAY) -> None:
    head.canvas.paint(shape, value, 0.75)


def _deep(head: PhantomHead) -> None:
    """Paints what lies deep: nuclei, ventricles, cisterns, fissures."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    wide = float(np.exp(rng.normal(-0.15, 0.22))) * (0.72 + 0.85 * head.atrophy)
    if rng.random() < 0.06:
        wide *= rng.uniform(1.4, 2.2)  # hydrocephalus
    front, back, level = head.front, head.back, head.level

    def jitter(value: float, spread: float = 1.5) -> float:
        return k * value + rng.normal(0, spread)

    lean = rng.normal(0, 0.12)  # no brain is symmetrical

    if shown := _within(level, 0.36, 0.53):
        for side in SIDES:
            turn = side * rng.normal(0.3, 0.08)
            caudate = canvas.ellipse(
                side * jitter(13 + 4 * wide), jitter(-26), 4.5 * k, 9 * k, -turn, 0.1, rng=rng
            )
            lentiform = canvas.ellipse(
                side * jitter(27), jitter(-6), jitter(7, 0.8), 17 * k, -turn, 0.12, rng=rng
            )
            thalamus = canvas.ellipse(
                side * jitter(11 + wide), jitter(9), 8.5 * k, 13 * k, turn, 0.1, rng=rng
            )
            insula = canvas.ellipse(
                side * jitter(38), jitter(-5), 2.5, 20 * k, -0.5 * turn, 0.15, rng=rng
            )
            for shape in (caudate, lentiform, thalamus, insula):
                shape.alpha[...] *= np.float32(shown)
                _gray_nucleus(head, shape)
    if shown := _within(front, 0.34, 0.56):
        for side in SIDES:
            size = wide * (1 + side * lean)
            turn = side * rng.normal(0.35, 0.08)
            horn = canvas.ellipse(
                side * jitter(5 + 4.5 * size, 0.8), jitter(-29), (1.6 + 3.2 * size) * k,
                (10 + 3 * size) * k, turn, 0.08, rng=rng,
            )  # fmt: skip
            _ventricle(head, horn, shown)
    if shown := _within(level, 0.35, 0.47):
        third = canvas.ellipse(
            rng.normal(0, 0.5), jitter(3), (0.6 + 1.9 * wide) * k, 13 * k, 0, 0.1, rng=rng
        )
        _ventricle(head, third, shown)
    if shown := _within(back, 0.38, 0.58):
        for side in SIDES:
            size = wide * (1 + side * lean) * rng.uniform(0.7, 1.25)
            x, y = side * jitter(24 + 2 * size), jitter(31, 3)
            turn = -side * rng.normal(0.35, 0.12)
            trigone = canvas.ellipse(
                x, y, (1.5 + 3.6 * size) * k, (8 + 6 * size) * k, turn, 0.12, rng=rng
            )
            _ventricle(head, trigone, shown)
            head.plexus.append((x, y - 2))
            horn = canvas.ellipse(
                x + side * 1.5, y + (12 + 5 * size) * k, (0.6 + 1.8 * size) * k,
                (7 + 5 * size) * k, turn * 0.6, 0.15, rng=rng,
            )  # fmt: skip
            _ventricle(head, horn, shown * min(1.0, 0.4 + 0.6 * size))
    if shown := _within(level, 0.5, 0.655):
        for side in SIDES:
            size = wide * (1 + side * lean)
            high = 1 - float(np.clip((level - 0.55) / 0.11, 0, 0.8))
            points = (
                (4 + 5 * size, -29, 10.0),
                (8 + 5 * size, -8, 13.0),
                (11 + 6 * size, 14, 13.0),
                (17 + 6 * size, 30, 9.0),
            )
            for x, y, length in points[: 4 if high > 0.5 else 3]:
                body = canvas.ellipse(
                    side * jitter(x * (0.75 + 0.25 * high), 0.5), jitter(y, 1),
                    (1.5 + 3.4 * size) * k * (0.5 + 0.5 * high), length * k,
                    -side * 0.12 if y > -20 else side * 0.25, 0.06, rng=rng,
                )  # fmt: skip
                _ventricle(head, body, shown)
    if shown := _within(level, 0.27, 0.37):
        for side in SIDES:
            slit = canvas.ellipse(
                side * jitter(31), jitter(-3), (0.5 + 1.4 * wide * wide) * k, 7 * k, side * 0.5
            )
            _ventricle(head, slit, shown * min(1.0, 0.2 + 0.6 * wide))
    if shown := _within(back, 0.11, 0.26):
        fourth = canvas.ellipse(
            rng.normal(0, 0.8), jitter(25), (3.5 + 3.5 * wide) * k, (2.5 + 2.2 * wide) * k,
            0, 0.15, rng=rng,
        )  # fmt: skip
        _ventricle(head, fourth, shown)

    open_ = 0.45 + 0.7 * head.atrophy + 0.3 * rng.random()
    if shown := _within(front, 0.24, 0.36):
        _cistern(head, canvas.ellipse(0, jitter(-9), 12 * k, 10 * k, 0, 0.2, rng=rng), shown)
        for side in SIDES:
            _cistern(
                head,
                canvas.line(
                    [(side * 8, -10 * k), (side * 24 * k, -16 * k), (side * 40 * k, -10 * k)],
                    (5.0 * open_, 2.0 * open_),
                ),
                shown,
            )
        _cistern(head, canvas.line([(0, -14 * k), (0, -40 * k)], 2.5 * open_), shown)
    if shown := _within(level, 0.25, 0.385):
        brainstem = canvas.ellipse(0, jitter(10), 15 * k, 13 * k, 0, 0.06, rng=rng)
        around = canvas.ellipse(0, jitter(10), 15 * k + 3.2 * open_, 13 * k + 3.2 * open_)
        before = Shape(around.window, around.alpha * np.float32(shown))
        _cistern(head, before)
        part = head.fluid[brainstem.window]
        part *= 1 - brainstem.alpha
        canvas.paint(brainstem, WHITE + 3, 0.8 * shown)
    if shown := _within(level, 0.32, 0.43):
        smile = [(-11 * k, 21 * k), (0, 27 * k), (11 * k, 21 * k)]
        _cistern(head, canvas.line(smile, 4.5 * open_), shown)
    if shown := _within(front, 0.3, 0.55):
        for side in SIDES:
            width = (0.8 + 2.6 * open_) * rng.uniform(0.6, 1.3)
            points = [
                (side * jitter(66), jitter(-22, 3)),
                (side * jitter(48), jitter(-16, 2)),
                (side * jitter(41), jitter(-6, 2)),
                (side * jitter(42), jitter(12, 2)),
            ]
            _cistern(head, canvas.line(points, (width * 1.3, width * 0.7)), shown)
    if level < 0.24:
        _cistern(head, canvas.ellipse(0, jitter(-2), 16 * k, (2 + 2.5 * open_) * k), 0.9)
        pons = canvas.ellipse(
            0, jitter(9), between(back, (0.05, 0.2), (8, 16)) * k,
            between(back, (0.05, 0.2), (7, 12)) * k, 0, 0.06, rng=rng,
        )  # fmt: skip
        part = head.fluid[pons.window]
        part *= 1 - pons.alpha
        canvas.paint(pons, WHITE + 3, 0.7)
        for side in SIDES:
            angle = canvas.ellipse(
                side * jitter(22), jitter(8), 6 * k, 2.5 * open_ * k, side * 0.7, 0.2, rng=rng
            )
            _cistern(head, angle, 0.8)
        if back < 0.13:
            magna = canvas.ellipse(0, jitter(58 * between(back, (0, 0.13), (0.6, 1))), 14, 6)
            _cistern(head, magna, rng.uniform(0.2, 1))
    if level > 0.4:
        where = rng.uniform(0.5, 1.5) * open_
        ends = (-0.97, -0.3) if level < 0.6 else (-0.97, 0.97)
        points = [(0.0, end * head.half_length) for end in ends]
        _cistern(head, canvas.line(points, 1.0 + 1.6 * where), 0.8)
        if level < 0.6:
            points = [(0.0, 0.35 * head.half_length), (0.0, 0.95 * head.half_length)]
            _cistern(head, canvas.line(points, 1.0 + where), 0.6)
    if 0.36 < level < 0.48:
        head.pineal = (rng.normal(0, 0.8), 19 * k)

    fluid = np.maximum(head.fluid, head.ventricles)
    canvas.paint(canvas.everywhere(fluid), CSF + rng.normal(0, 2))
    for x, y in head.plexus:  # not calcified it is a little brighter than brain
        plexus = canvas.ellipse(x, y, 2.5, 5, -np.sign(x) * 0.35, 0.2, rng=rng)
        canvas.paint(plexus, 38, rng.uniform(0, 0.8))


def _dura_and_vessels(head: PhantomHead) -> None:
    """Paints falx, tentorium, sinuses and the larger arteries, all a little denser than brain."""
    canvas, rng, k, level = head.canvas, head.rng, head.scale, head.level
    density = rng.uniform(40, 58)
    if level > 0.4:
        width = rng.uniform(0.7, 2.2)
        ends = (-0.98, -0.36) if level < 0.6 else (-0.98, 0.98)
        points = [(0.0, end * (head.half_length - 6)) for end in ends]
        canvas.paint(_inside(head, canvas.line(points, (width, width * 1.3))), density)
        if level < 0.6:
            points = [(0.0, 0.4 * head.half_length), (0.0, head.half_length - 8)]
            canvas.paint(_inside(head, canvas.line(points, (width, width * 1.8))), density)
    blood = rng.uniform(42, 62)
    if level > 0.3:
        for end, size in ((0.985, rng.uniform(3, 6.5)), (-0.985, rng.uniform(1, 3.5))):
            place = end * (head.half_length - 6.5)
            sinus = canvas.ellipse(0, place, size, size * 0.8, 0, 0.15, rng=rng, inner=False)
            canvas.paint(_inside(head, sinus), blood)
    if shown := _within(level, 0.83, 1.2, 0.06):
        # Near the vertex the superior sagittal sinus runs in the slice, and veins run into it.
        low, high = sorted(rng.uniform(-1.1, 1.1, 2))
        ends = [(rng.normal(0, 0.7), end * (head.half_length - 7)) for end in (low, high)]
        sinus = canvas.line(ends, (rng.uniform(2, 9), rng.uniform(2, 9)))
        canvas.paint(_inside(head, sinus), blood, shown * rng.uniform(0.3, 1))
        for _ in range(int(rng.integers(0, 5))):
            y, side = rng.uniform(-0.7, 0.7) * head.half_length, rng.choice(SIDES)
            vein = canvas.line(
                [(0.0, y), (side * rng.uniform(5, 22), y - rng.uniform(-3, 12))],
                (rng.uniform(1.5, 4), rng.uniform(0.8, 2)),
            )
            canvas.paint(_inside(head, vein), blood, shown * rng.uniform(0.3, 1))
    if shown := _within(head.back, 0.21, 0.37):
        spread = between(head.back, (0.21, 0.37), (52, 26)) * k
        reach = rng.uniform(2, 16) * k
        for side in SIDES:
            points = [
                (0.0, 60 * k),
                (side * spread * 0.55, 40 * k),
                (side * spread, reach),
            ]
            tentorium = canvas.line(points, (rng.uniform(1.5, 3.5), rng.uniform(0.8, 2.0)))
            canvas.paint(_inside(head, tentorium), density + rng.uniform(-4, 6), shown)
    if shown := _within(head.back, 0.13, 0.29):
        for side in SIDES:
            if rng.random() < 0.85:
                strong = rng.uniform(2, 7)
                band = step(strong - head.inside, 1.5) * step(head.inside, 1.0)
                band = band * step(side * canvas.x - 14, 6) * step(canvas.y - 26 * k, 8)
                shape = canvas.everywhere(band * np.float32(shown * rng.uniform(0.5, 1)))
                canvas.paint(shape, blood)
            sigmoid = canvas.ellipse(
                side * rng.normal(50, 3) * k, rng.normal(28, 3) * k, rng.uniform(2, 5),
                rng.uniform(4, 8), side * 0.4, 0.15, rng=rng, inner=False,
            )  # fmt: skip
            canvas.paint(_inside(head, sigmoid), blood, shown)
    if shown := _within(head.front, 0.12, 0.38):
        artery = rng.uniform(38, 56)
        places = [(rng.normal(0, 1.5), rng.normal(-4, 2), rng.uniform(1.3, 2.8))]
        for side in SIDES:
            places.append((side * rng.normal(9, 2), rng.normal(-13, 2), rng.uniform(1.2, 2.6)))
            points = [(side * 9 * k, -14 * k), (side * 22 * k, -16 * k), (side * 34 * k, -12 * k)]
            canvas.paint(canvas.line(points, rng.uniform(0.8, 2.2)), artery, 0.7 * shown)
        for x, y, radius in places:
            canvas.paint(canvas.ellipse(x * k, y * k, radius, radius), artery, shown)


def _inside(head: PhantomHead, shape: Shape) -> Shape:
    return Shape(shape.window, shape.alpha * head.brain[shape.window])


def _skull_base(head: PhantomHead) -> None:
    """Paints petrous bones, mastoids, sphenoid, sella, crests, orbits and sinuses of the face."""
    canvas, rng, k = head.canvas, head.rng, head.scale
    front, back = head.front, head.back
    if min(front, back) > 0.42:
        return

    def cells(shape: Shape, aerated: float) -> None:
        """Bone that is full of air cells."""
        holes = step(canvas.wobble(5.0, shape.alpha.shape, rng) + 2 * aerated - 1, 0.5)
        canvas.paint(shape, 900 + (SINUS_AIR * 0.8 - 900) * holes)

    for side in SIDES:
        if shown := _within(back + side * head.roll, 0.06, 0.27, 0.06):
            outer = rng.uniform(12, 20) * shown
            points = [
                (side * 62 * k, rng.normal(20, 3) * k),
                (side * 36 * k, rng.normal(10, 2) * k),
                (side * 13 * k, rng.normal(-2, 2) * k),
            ]
            petrous = canvas.line(points, (outer, 6.0 * shown), inner=False)
            bone = 1300 + 250 * canvas.wobble(5.0, petrous.alpha.shape, rng)
            canvas.paint(petrous, bone, min(1.0, 1.3 * shown))
            hollow = canvas.ellipse(
                side * rng.normal(40, 2) * k, rng.normal(11, 2) * k, 4, 2.5, 0, 0.3, rng=rng,
                inner=False,
            )  # fmt: skip
            canvas.paint(hollow, rng.choice((-700.0, 60.0, 300.0)), shown)
            carotid = canvas.ellipse(side * 20 * k, 1 * k, 3, 3, inner=False)
            canvas.paint(carotid, 60, shown * 0.8)
    for side in SIDES:
        if shown := _within(back + side * head.roll, -1, 0.2, 0.05):
            mastoid = canvas.ellipse(
                side * rng.normal(59, 2) * k, rng.normal(27, 3) * k, rng.uniform(8, 13),
                rng.uniform(10, 17), side * -0.3, 0.15, rng=rng, inner=False,
            )  # fmt: skip
            mastoid = Shape(mastoid.window, mastoid.alpha * np.float32(shown))
            cells(mastoid, rng.uniform(0.2, 0.75))
    if shown := _within(front, 0.05, 0.25, 0.05):
        clivus = canvas.ellipse(
            0, rng.normal(-12, 2) * k, rng.uniform(9, 15), rng.uniform(7, 12), 0, 0.15, rng=rng,
            inner=False,
        )  # fmt: skip
        canvas.paint(clivus, 700 + 200 * canvas.wobble(5.0, clivus.alpha.shape, rng), shown)
        for side in SIDES:
            points = [
                (side * 12 * k, -20 * k),
                (side * 34 * k, rng.normal(-40, 3) * k),
                (side * 60 * k, rng.normal(-36, 3) * k),
            ]
            wing = canvas.line(points, (rng.uniform(4, 8), rng.uniform(3, 6)), inner=False)
            canvas.paint(wing, 1200, shown)
    if shown := _within(front, -1, 0.26, 0.05):
        nose = canvas.ellipse(
            0, -(head.half_length + rng.uniform(0, 5)), rng.uniform(8, 13), rng.uniform(8, 16),
            0, 0.1, rng=rng, inner=False,
        )  # fmt: skip
        canvas.paint(nose, 40, shown)
        ethmoid = canvas.ellipse(
            0, rng.normal(-62, 3) * k, rng.uniform(9, 14), rng.uniform(17, 25), 0, 0.1, rng=rng,
            inner=False,
        )  # fmt: skip
        septa = step(canvas.wobble(5.0, ethmoid.alpha.shape, rng) - 0.9, 0.5)
        filled = rng.choice((SINUS_AIR, SINUS_AIR, 25.0))
        canvas.paint(ethmoid, filled + (500 - filled) * septa, shown)
    if shown := _within(front, 0.04, 0.19, 0.04):
        sphenoid = canvas.ellipse(
            rng.normal(0, 3), rng.normal(-30, 3) * k, rng.uniform(9, 16), rng.uniform(7, 12), 0,
            0.12, rng=rng, inner=False,
        )  # fmt: skip
        canvas.paint(sphenoid, rng.choice((SINUS_AIR, SINUS_AIR, 30.0)), shown)
        canvas.paint(canvas.line([(0, -22 * k), (2, -40 * k)], 1.5, inner=False), 700, shown)
    if shown := _within(front, 0.085, 0.275, 0.04):
        for side in SIDES:
            at = float(np.clip(front + side * head.roll, 0.09, 0.27))
            grown = float(np.sin(np.clip((at - 0.06) / 0.22, 0, 1) * np.pi)) ** 0.5
            x, y = side * rng.normal(32, 1.5) * k, rng.normal(-65, 2) * k
            outer = canvas.ellipse(x, y, 20 * k * grown + 2, 23 * k * grown + 2, inner=False)
            canvas.paint(outer, 900, 0.8 * shown)
            orbit = canvas.ellipse(
                x, y - 1, 18 * k * grown, 21 * k * grown, 0, 0.06, rng=rng, inner=False
            )
            canvas.paint(orbit, FAT, shown)
            for offset in (-11, 11):  # the rectus muscles, at the walls
                points = [(x + offset * grown, y - 10 * grown), (x - side * 10, y + 20 * grown)]
                muscle = canvas.line(points, 3.0, inner=False)
                canvas.paint(muscle, 42, shown * grown)
            if 0.12 < at < 0.245:
                nerve = canvas.line([(x, y - 2), (x - side * 13, y + 21)], 3.8, inner=False)
                canvas.paint(nerve, 38, shown)
                globe = canvas.ellipse(x, y - 10 * k, 11.5 * k, 11.5 * k, inner=False)
                canvas.paint(globe, 48, shown)
                vitreous = canvas.ellipse(x, y - 10 * k, 10.3 * k, 10.3 * k, inner=False)
                canvas.paint(vitreous, 12, shown)
                if rng.random() < 0.6:
                    lens = canvas.ellipse(x, y - 18 * k, 4.2, 1.8, inner=False)
                    canvas.paint(lens, 70, shown)
    if shown := _within(front, 0.225, 0.315, 0.04):
        # The roofs of the orbits come up into the slice, so that bone covers a part of it.
        x, y = rng.normal(30, 4) * k, rng.normal(-58, 5) * k
        value = grazed_value(rng)
        wide, long = rng.uniform(6, 18), rng.uniform(6, 16)
        for side in SIDES:  # more of one than of the other, since no head lies quite straight
            grown = rng.uniform(0.7, 1.15) * max(1 - side * head.roll * 8, 0.1)
            roof = head.grazed(
                side * x + rng.normal(0, 1.5), y + rng.normal(0, 2), wide * grown, long * grown,
                rng.uniform(-0.5, 0.5), rng,
            )  # fmt: skip
            canvas.paint(roof, value * rng.uniform(0.6, 1), shown * rng.uniform(0.5, 1))
    if shown := _within(front, -1, 0.095, 0.03):
        for side in SIDES:
            maxillary = canvas.ellipse(
                side * rng.normal(30, 2) * k, rng.normal(-58, 3) * k, rng.uniform(11, 16),
                rng.uniform(12, 18), 0, 0.12, rng=rng, inner=False,
            )  # fmt: skip
            wall = canvas.ellipse(side * 30 * k, -58 * k, 18, 20, inner=False)
            canvas.paint(wall, 700, 0.5 * shown)
            canvas.paint(maxillary, rng.choice((SINUS_AIR, SINUS_AIR, 20.0)), shown)
    if shown := _within(front, 0.17, 0.29, 0.04):
        # Around the sella: the clinoid processes, and the dorsum between them.
        density = np.exp(rng.uniform(np.log(90), np.log(1100)))
        y = rng.normal(-15, 3) * k
        for side in SIDES:
            clinoid = canvas.ellipse(
                side * rng.normal(12, 1.5) * k, y + rng.normal(0, 1), rng.uniform(1.2, 3.5),
                rng.uniform(2, 6), side * rng.uniform(-0.2, 0.6), 0.2, rng=rng, inner=False,
            )  # fmt: skip
            canvas.paint(clinoid, density, shown * rng.uniform(0.3, 1))
        if rng.random() < 0.6:
            wide, bent = rng.uniform(4, 9) * k, y + rng.uniform(6, 12) * k
            dorsum = canvas.line(
                [(-wide, bent - 1), (0.0, bent + 1), (wide, bent - 1)], rng.uniform(1.5, 4),
                inner=False,
            )  # fmt: skip
            canvas.paint(dorsum, density * rng.uniform(0.6, 1), shown)
    if (shown := _within(front, 0.15, 0.4, 0.06)) and rng.random() < 0.6:
        # The frontal crest, and below it the crista galli, where the falx begins.
        top = -(head.half_length - rng.uniform(3, 6))
        crest = canvas.line(
            [(0.0, top), (rng.normal(0, 1), top + rng.uniform(5, 18))],
            (rng.uniform(3, 8), rng.uniform(0.8, 2.5)), inner=False,
        )  # fmt: skip
        canvas.paint(crest, np.exp(rng.uniform(np.log(150), np.log(1300))), shown)
    if (shown := _within(back, 0.1, 0.36, 0.05)) and rng.random() < 0.7:
        # The internal occipital crest and protuberance.
        behind = head.half_length - rng.uniform(3, 6)
        crest = canvas.line(
            [(rng.normal(0, 1.5), behind), (rng.normal(0, 2), behind - rng.uniform(5, 14))],
            (rng.uniform(6, 16), rng.uniform(1, 4)), inner=False,
        )  # fmt: skip
        canvas.paint(crest, np.exp(rng.uniform(np.log(250), np.log(1400))), shown)
    if (shown := _within(front, 0.2, 0.4)) and rng.random() < 0.7:
        for side in SIDES:
            sinus = canvas.ellipse(
                side * rng.uniform(4, 14), -(head.half_length - rng.uniform(3.5, 6)),
                rng.uniform(4, 14), rng.uniform(2, 4.5), side * 0.25, 0.2, rng=rng, inner=False,
            )  # fmt: skip
            wall = canvas.ellipse(0, -(head.half_length - 6), 22, 7, inner=False)
            canvas.paint(wall, 1100, 0.6 * shown)
            canvas.paint(sinus, SINUS_AIR, shown)
    if shown := _within(head.level, 0.1, 0.3, 0.05):
        # Temporal bone that the slice only grazes, the more of it on the lower side.
        x, y = rng.normal(50, 7) * k, rng.normal(2, 14) * k
        value = grazed_value(rng)
        wide, long = rng.uniform(3, 11), rng.uniform(3, 9)
        for side in SIDES:
            if rng.random() < 0.6 - side * head.roll * 5:
                bone = head.grazed(
                    side * x + rng.normal(0, 2), y + rng.normal(0, 2), wide, long,
                    rng.uniform(-1, 1), rng,
                )  # fmt: skip
                canvas.paint(bone, value * rng.uniform(0.6, 1), shown * rng.uniform(0.5, 1))


def draw_head(head: PhantomHead) -> None:
    """Draws a head without findings on its canvas.

    Args:
        head: with its canvas, levels and proportions; what is derived from them is filled in.
    """
    _outline(head)
    thickness = _skull_thickness(head)
    _cavity(head, thickness)
    _soft_tissue_and_bone(head, thickness)
    _cortex(head)
    _deep(head)
    _dura_and_vessels(head)
    _skull_base(head)
