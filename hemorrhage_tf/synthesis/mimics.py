"""Mimics: what is bright or dark in a head CT and is no hemorrhage, with and without one beside it.

They are drawn by the same chances whatever the label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hemorrhage_tf.synthesis.anatomy import CSF, PhantomHead, grazed_value
from hemorrhage_tf.synthesis.canvas import Shape, step

# HU that grazed bone has to add for brain to look as bright as blood.
_BONE_SEEN = 27.0

# Which of them are bright enough to be taken for blood. Their masks are part of a phantom.
_Masks = list[Shape]


def _calcified_plexus(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if not head.plexus:
        return False
    density = np.exp(rng.uniform(np.log(70), np.log(500)))
    size = rng.uniform(1.2, 4.0)
    for x, y in head.plexus:
        if rng.random() < 0.85:
            for _ in range(int(rng.integers(1, 4))):
                shape = head.canvas.ellipse(
                    x + rng.normal(0, 1), y + rng.normal(0, 2.5), size, size * rng.uniform(0.7, 2),
                    -np.sign(x) * 0.3, 0.25, rng=rng,
                )  # fmt: skip
                head.canvas.paint(shape, density)
                masks.append(shape)
    return True


def _calcified_pineal(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if head.pineal is None:
        return False
    x, y = head.pineal
    shape = head.canvas.ellipse(x, y, rng.uniform(1.2, 4.0), rng.uniform(1.2, 3.5), 0, 0.2, rng=rng)
    head.canvas.paint(shape, np.exp(rng.uniform(np.log(70), np.log(500))))
    masks.append(shape)
    return True


def _dense_falx(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if head.level < 0.42:
        return False
    canvas = head.canvas
    if rng.random() < 0.5:  # calcified or ossified plaques
        for _ in range(int(rng.integers(1, 4))):
            end = rng.choice((-1, 1)) * rng.uniform(0.4, 0.9) * head.half_length
            shape = canvas.ellipse(
                rng.normal(0, 0.7), end, rng.uniform(0.8, 2.5), rng.uniform(2, 12), 0, 0.15, rng=rng
            )
            canvas.paint(shape, rng.uniform(80, 600))
            masks.append(shape)
    else:  # all of it dense, as in older people
        low, high = (-0.92, -0.4) if rng.random() < 0.4 else (-0.92, 0.9)
        if head.level < 0.6 and high > 0:
            low, high = 0.42, 0.92
        points = [(0.0, low * head.half_length), (0.0, high * head.half_length)]
        shape = canvas.line(points, rng.uniform(1.2, 3.2))
        canvas.paint(shape, rng.uniform(52, 85))
        masks.append(shape)
    return True


def _calcified_ganglia(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if not 0.34 < head.level < 0.54:
        return False
    k, density = head.scale, rng.uniform(55, 160)
    wide, long = rng.uniform(1, 5), rng.uniform(2, 9)
    x, y = rng.normal(20, 3) * k, rng.normal(-7, 4) * k
    for side in (-1, 1):
        shape = head.canvas.ellipse(
            side * x + rng.normal(0, 1), y + rng.normal(0, 1), wide * rng.uniform(0.8, 1.2),
            long * rng.uniform(0.7, 1.2), -side * 0.3, 0.3, rng.uniform(1, 4), rng,
        )  # fmt: skip
        head.canvas.paint(shape, density, rng.uniform(0.6, 1))
        masks.append(shape)
    return True


def _scattered_calcification(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    for _ in range(int(rng.integers(1, 4))):
        place = head.random_place(rng, 3, 60)
        if place is None:
            return False
        shape = head.canvas.ellipse(*place, *rng.uniform(0.8, 2.8, 2), 0, 0.2, rng=rng)
        head.canvas.paint(shape, np.exp(rng.uniform(np.log(90), np.log(700))))
        masks.append(shape)
    return True


def _infarct(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """An infarct: dark, as a wedge to the surface or a spot; an old one is filled with fluid."""
    canvas = head.canvas
    place = head.random_place(rng, 4, 60)
    if place is None:
        return False
    old = rng.random() < 0.5
    value = rng.uniform(6, 16) if old else rng.uniform(17, 26)
    spots = rng.random() < 0.3
    radius = rng.uniform(2, 5) if spots else np.exp(rng.uniform(np.log(6), np.log(32)))
    shape = canvas.ellipse(
        *place, radius, radius * rng.uniform(0.5, 1), rng.uniform(0, 3), 0.3,
        rng.uniform(1, 6), rng,
    )  # fmt: skip
    shape.alpha[...] *= head.brain[shape.window]
    part = canvas.hounsfield[shape.window]
    canvas.paint(shape, np.minimum(part, value), rng.uniform(0.6, 1.0))
    return True


def _old_white_matter(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Leukoaraiosis: dark caps and patches around the ventricles."""
    canvas = head.canvas
    for side in (-1, 1):
        for y in (-32, 32):
            shape = canvas.ellipse(
                side * rng.normal(20, 4) * head.scale, y * head.scale, rng.uniform(5, 12),
                rng.uniform(6, 16), side * 0.4, 0.3, 5.0, rng,
            )  # fmt: skip
            shape.alpha[...] *= step(head.inside[shape.window] - 9, 4.0)
            part = canvas.hounsfield[shape.window]
            canvas.paint(shape, np.minimum(part, rng.uniform(18, 25)), 0.8)
    return True


def _tumor(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    canvas = head.canvas
    attached = rng.random() < 0.45
    place = head.random_place(rng, 3, 9) if attached else head.random_place(rng, 8, 60)
    if place is None:
        return False
    radius = np.exp(rng.uniform(np.log(4), np.log(20)))
    slim, angle = rng.uniform(0.75, 1), rng.uniform(0, 3)
    edema = rng.uniform(0, 12)
    room = step(head.inside - 0.5, canvas.blur)
    around = canvas.ellipse(*place, radius + edema, radius * slim + edema, angle, 0.3, 4.0, rng)
    around.alpha[...] *= room[around.window]
    part = canvas.hounsfield[around.window]
    canvas.paint(around, np.minimum(part, rng.uniform(19, 25)), 0.85)
    mass = canvas.ellipse(
        *place, radius, radius * slim, angle, rng.uniform(0.03, 0.2), rng.uniform(1.5, 4), rng
    )
    mass.alpha[...] *= room[mass.window]
    if attached:  # a meningioma: a little denser than brain, even, at times calcified
        value = rng.uniform(38, 49)
        if rng.random() < 0.15:
            value = rng.uniform(90, 400)
    else:  # a glioma or a metastasis: uneven, often dark inside
        value = rng.uniform(28, 44)
    texture = rng.uniform(0, 5) * canvas.wobble(5.0, mass.alpha.shape, rng)
    canvas.paint(mass, value + texture)
    masks.append(mass)
    if not attached and radius > 8 and rng.random() < 0.5:
        core = canvas.ellipse(*place, radius * 0.6, radius * slim * 0.5, angle, 0.25, 3.0, rng)
        canvas.paint(core, rng.uniform(8, 22))
    return True


def _cyst(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    place = head.random_place(rng, 2, 20)
    if place is None:
        return False
    radius = rng.uniform(5, 22)
    shape = head.canvas.ellipse(
        *place, radius, radius * rng.uniform(0.6, 1), rng.uniform(0, 3), 0.08, rng=rng
    )
    shape.alpha[...] *= head.brain[shape.window]
    head.canvas.paint(shape, CSF + rng.uniform(-4, 6))
    return True


def _hygroma(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Fluid under the dura, of one side or both."""
    if head.level < 0.3:
        return False
    canvas = head.canvas
    for side in (-1, 1):
        if rng.random() < 0.65:
            front = np.float32(rng.uniform(0.2, 0.8))
            thick = rng.uniform(2.5, 10) * np.clip(
                1 - ((head.sine + front) / rng.uniform(0.8, 1.2)) ** 2, 0, 1
            )
            alpha = step(thick - head.inside, 1.5) * head.brain * step(side * canvas.x - 2, 3)
            alpha = alpha * step(thick - 0.8, 0.8)
            canvas.paint(canvas.everywhere(alpha), rng.uniform(5, 15))
    return True


def _dense_vessel(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """A dense artery or vein: hemoconcentration, a clot, or a wide basilar artery."""
    canvas, k = head.canvas, head.scale
    density = rng.uniform(54, 82)
    if head.front < 0.4:
        side = int(rng.choice((-1, 1)))
        if rng.random() < 0.5:
            points = [(side * 8 * k, -13 * k), (side * 21 * k, -17 * k), (side * 33 * k, -12 * k)]
            shape = canvas.line(points, rng.uniform(1.5, 3.2))
        else:
            radius = rng.uniform(2, 4.5)
            shape = canvas.ellipse(rng.normal(0, 2), rng.normal(-3, 3) * k, radius, radius)
    else:
        size = rng.uniform(3.5, 8)
        place = 0.985 * (head.half_length - 7)
        shape = canvas.ellipse(0, place, size, size * 0.8, 0, 0.2, rng=rng, inner=False)
        shape.alpha[...] *= head.brain[shape.window]
    canvas.paint(shape, density)
    masks.append(shape)
    return True


def _calcified_arteries(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Plaques of the carotid siphons, the vertebral arteries and the basilar artery."""
    if not 0.1 < head.front < 0.36:
        return False
    canvas, k = head.canvas, head.scale
    places = [(side * rng.normal(10, 1.5), rng.normal(-11, 3)) for side in (-1, 1)]
    if rng.random() < 0.4:
        places = [(side * rng.uniform(0, 9), rng.normal(3, 5)) for side in (-1, 1)]
    drawn = False
    for x, y in places:
        if rng.random() < 0.75:
            shape = canvas.ellipse(
                x * k, y * k, *rng.uniform(0.8, 3, 2), rng.uniform(0, 3), 0.25, rng=rng
            )
            canvas.paint(shape, np.exp(rng.uniform(np.log(90), np.log(700))))
            masks.append(shape)
            drawn = True
    return drawn


def _dense_sinuses(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Dense transverse sinuses or tentorium, which at the base look like blood on it."""
    if not 0.12 < head.back < 0.38:
        return False
    canvas, k = head.canvas, head.scale
    density = rng.uniform(56, 80)
    for side in (-1, 1) if rng.random() < 0.8 else (int(rng.choice((-1, 1))),):
        points = [
            (side * 2.0, 58 * k),
            (side * 24 * k, rng.normal(50, 3) * k),
            (side * rng.normal(44, 3) * k, rng.normal(34, 4) * k),
        ]
        shape = canvas.line(points, (rng.uniform(2, 5), rng.uniform(3, 7)))
        shape.alpha[...] *= head.brain[shape.window]
        canvas.paint(shape, density)
        masks.append(shape)
    return True


def _grazed_bone(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Bone that covers a part of a thick slice: at the vertex, and on the floor of the fossae."""
    canvas = head.canvas
    if 0.36 < head.level < 0.75:
        return False
    at_base = head.level < 0.5
    # A wedge along the inside of the skull: the most bone where it touches that, none at its end.
    wide = rng.uniform(2, 12) * (0.8 + 0.15 * canvas.wobble(26.0, head.inside.shape, rng))
    if not at_base:  # in half of them the more of it on one side, as where the slice lies askew
        toward, leaning = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.1) * rng.integers(0, 2)
        across = head.cosine * np.float32(np.cos(toward)) + head.sine * np.float32(np.sin(toward))
        wide = wide * np.clip(1 + np.float32(leaning) * across, 0, None)
    else:  # on the floor of a fossa, here and there
        angle, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.2)
        toward = head.cosine * np.float32(np.cos(angle)) + head.sine * np.float32(np.sin(angle))
        away = np.arccos(np.clip(toward, -1, 1)) / np.float32(half)
        wide = wide * np.clip(1 - away * away, 0, 1)
    share = np.clip(1 - head.inside / np.maximum(wide, np.float32(0.3)), 0, 1)
    share = share ** rng.uniform(0.5, 2.2) * head.brain * np.clip(wide, 0, 1)
    value = grazed_value(rng)
    canvas.paint(canvas.everywhere(share), value)
    masks.append(_seen_part(canvas.everywhere(share), value))
    # What comes up from below is an island in the slice, and mostly there is one on either side.
    for _ in range(int(rng.integers(0, 3)) if at_base else 0):
        place = head.random_place(rng, 0.5, 12)
        if place is None:
            break
        long, slim, value = rng.uniform(3, 14), rng.uniform(0.4, 1), grazed_value(rng)
        for side in (-1, 1) if rng.random() < 0.6 else (1,):
            grown = rng.uniform(0.75, 1.2)
            island = head.grazed(
                side * place[0], place[1], long * grown, long * slim * grown,
                side * rng.uniform(0, 3), rng,
            )  # fmt: skip
            canvas.paint(island, value * rng.uniform(0.7, 1))
            masks.append(_seen_part(island, value))
    return True


def _seen_part(bone: Shape, value: float) -> Shape:
    """Gives where bone of that many HU makes brain look as bright as blood."""
    share = min(0.6, _BONE_SEEN / value)
    return Shape(bone.window, (bone.alpha > share).astype(np.float32))


def _surgery(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """A craniotomy, a burr hole, a shunt or a clip."""
    canvas = head.canvas
    kind = rng.random()
    if kind < 0.4 and head.level > 0.25:  # a shunt or drain, seen along or across
        place = head.random_place(rng, 12, 60)
        if place is None:
            return False
        x, y = place
        if rng.random() < 0.5:
            shape = canvas.ellipse(x, y, 1.4, 1.4)
        else:
            shape = canvas.line([(x, y), (x + rng.normal(0, 14), y + rng.normal(0, 14))], 2.2)
        canvas.paint(shape, rng.uniform(150, 600))
        masks.append(shape)
    else:  # a gap in the skull, or a thin flap
        angle, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.7)
        toward = head.cosine * np.float32(np.cos(angle)) + head.sine * np.float32(np.sin(angle))
        away = np.arccos(np.clip(toward, -1, 1))
        depth = np.minimum(head.depth + 2, -head.inside)
        gap = step(depth, 1.0)
        if half < 0.25:
            gap *= step((half - away) * head.half_width, 1.0)
            canvas.paint(canvas.everywhere(gap), rng.uniform(10, 45))
        else:
            edge = step(1.5 - np.abs(away - half) * head.half_width, 1.0)
            canvas.paint(canvas.everywhere(gap * edge), rng.uniform(10, 60))
    return True


def _scalp_swelling(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """A hematoma of the scalp, outside of the skull."""
    canvas = head.canvas
    angle, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.8)
    toward = head.cosine * np.float32(np.cos(angle)) + head.sine * np.float32(np.sin(angle))
    away = np.arccos(np.clip(toward, -1, 1)) / half
    thick = rng.uniform(5, 16) * np.clip(1 - away**2, 0, 1)
    alpha = step(np.minimum(-head.depth - 0.5, thick + head.depth), 1.0) * step(thick - 1, 1)
    canvas.paint(canvas.everywhere(alpha), rng.uniform(35, 72))
    return True


def _air(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Air inside the skull."""
    for _ in range(int(rng.integers(1, 5))):
        place = head.random_place(rng, 0.5, 8)
        if place is None:
            return False
        shape = head.canvas.ellipse(*place, *rng.uniform(0.8, 4, 2), 0, 0.2, rng=rng)
        head.canvas.paint(shape, rng.uniform(-900, -200))
    return True


# How often each is drawn.
_MIMICS: dict[str, tuple[float, Callable[[PhantomHead, np.random.Generator, _Masks], bool]]] = {
    "calcified choroid plexus": (0.5, _calcified_plexus),
    "calcified pineal": (0.55, _calcified_pineal),
    "dense or calcified falx": (0.3, _dense_falx),
    "calcified basal ganglia": (0.2, _calcified_ganglia),
    "scattered calcification": (0.07, _scattered_calcification),
    "infarct": (0.2, _infarct),
    "leukoaraiosis": (0.08, _old_white_matter),
    "tumor": (0.09, _tumor),
    "cyst": (0.05, _cyst),
    "hygroma": (0.06, _hygroma),
    "dense artery or vein": (0.15, _dense_vessel),
    "calcified arteries": (0.35, _calcified_arteries),
    "dense sinus": (0.25, _dense_sinuses),
    "grazed bone": (0.45, _grazed_bone),
    "surgery": (0.05, _surgery),
    "scalp swelling": (0.12, _scalp_swelling),
    "air": (0.03, _air),
}
MIMICS = tuple(_MIMICS)


def draw_mimics(head: PhantomHead, rng: np.random.Generator) -> tuple[tuple[str, ...], np.ndarray]:
    """Draws some of the mimics into a head.

    Args:
        head: drawn already.
        rng: where the choice and the rest come from.

    Returns:
        Names of what was drawn, and bool `(size, size)`: where it is bright.
    """
    masks: _Masks = []
    drawn = []
    bright = np.zeros(head.inside.shape, bool)
    # Each has a generator of its own, so that one that is not drawn changes no other.
    for (name, (share, draw)), seed in zip(
        _MIMICS.items(), rng.integers(2**31, size=len(_MIMICS)), strict=True
    ):
        own = np.random.default_rng(seed)
        if own.random() < share and draw(head, own, masks):
            drawn.append(name)
    for shape in masks:
        bright[shape.window] |= shape.alpha > 0.5
    return tuple(drawn), bright
