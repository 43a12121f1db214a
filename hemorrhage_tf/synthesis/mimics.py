"""Mimics: bright or dark findings that are not a hemorrhage.

They are drawn with the same probabilities for both labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import CSF, SIDES, PhantomHead, partial_volume_density
from hemorrhage_tf.synthesis.trauma import (
    draw_air,
    draw_fracture,
    draw_scalp_swelling,
    draw_surgery,
)

# HU that partial-volume bone must add to brain to make it as bright as blood.
_BRIGHT_BONE = 27.0

# Shapes bright enough to resemble blood; a phantom records where they are.
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
                    (x + rng.normal(0, 1), y + rng.normal(0, 2.5)),
                    (size, size * rng.uniform(0.7, 2)),
                    -np.sign(x) * 0.3,
                    Roughness(0.25, rng),
                )
                head.canvas.paint(shape, density)
                masks.append(shape)
    return True


def _calcified_pineal(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if head.pineal is None:
        return False
    radii = rng.uniform(1.2, 4.0), rng.uniform(1.2, 3.5)
    shape = head.canvas.ellipse(head.pineal, radii, 0, Roughness(0.2, rng))
    head.canvas.paint(shape, np.exp(rng.uniform(np.log(70), np.log(500))))
    masks.append(shape)
    return True


def _dense_falx(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    if head.level < 0.42:
        return False
    canvas = head.canvas
    if rng.random() < 0.5:  # calcified or ossified plaques
        for _ in range(int(rng.integers(1, 4))):
            y = rng.choice((-1, 1)) * rng.uniform(0.4, 0.9) * head.half_length
            shape = canvas.ellipse(
                (rng.normal(0, 0.7), y),
                (rng.uniform(0.8, 2.5), rng.uniform(2, 12)),
                0,
                Roughness(0.15, rng),
            )
            canvas.paint(shape, rng.uniform(80, 600))
            masks.append(shape)
    else:  # a dense falx, as in older people
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
    width, length = rng.uniform(1, 5), rng.uniform(2, 9)
    x, y = rng.normal(20, 3) * k, rng.normal(-7, 4) * k
    for side in SIDES:
        shape = head.canvas.ellipse(
            (side * x + rng.normal(0, 1), y + rng.normal(0, 1)),
            (width * rng.uniform(0.8, 1.2), length * rng.uniform(0.7, 1.2)),
            -side * 0.3,
            Roughness(0.3, rng),
            rng.uniform(1, 4),
        )
        head.canvas.paint(shape, density, rng.uniform(0.6, 1))
        masks.append(shape)
    return True


def _scattered_calcification(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    for _ in range(int(rng.integers(1, 4))):
        place = head.random_place(rng, 3, 60)
        if place is None:
            return False
        shape = head.canvas.ellipse(place, rng.uniform(0.8, 2.8, 2), 0, Roughness(0.2, rng))
        head.canvas.paint(shape, np.exp(rng.uniform(np.log(90), np.log(700))))
        masks.append(shape)
    return True


def _infarct(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw an infarct: a dark territory or lacune; an old one is filled with fluid."""
    canvas = head.canvas
    place = head.random_place(rng, 4, 60)
    if place is None:
        return False
    old = rng.random() < 0.5
    value = rng.uniform(6, 16) if old else rng.uniform(17, 26)
    lacunar = rng.random() < 0.3
    radius = rng.uniform(2, 5) if lacunar else np.exp(rng.uniform(np.log(6), np.log(32)))
    shape = canvas.ellipse(
        place,
        (radius, radius * rng.uniform(0.5, 1)),
        rng.uniform(0, 3),
        Roughness(0.3, rng),
        rng.uniform(1, 6),
    )
    shape.alpha[...] *= head.brain[shape.window]
    part = canvas.hounsfield[shape.window]
    canvas.paint(shape, np.minimum(part, value), rng.uniform(0.6, 1.0))
    return True


def _leukoaraiosis(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw leukoaraiosis: dark caps and patches around the ventricles."""
    canvas = head.canvas
    for side in SIDES:
        for y in (-32, 32):
            shape = canvas.ellipse(
                (side * rng.normal(20, 4) * head.scale, y * head.scale),
                (rng.uniform(5, 12), rng.uniform(6, 16)),
                side * 0.4,
                Roughness(0.3, rng),
                5.0,
            )
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
    edematous = canvas.ellipse(
        place, (radius + edema, radius * slim + edema), angle, Roughness(0.3, rng), 4.0
    )
    edematous.alpha[...] *= room[edematous.window]
    part = canvas.hounsfield[edematous.window]
    canvas.paint(edematous, np.minimum(part, rng.uniform(19, 25)), 0.85)
    outline = Roughness(rng.uniform(0.03, 0.2), rng)
    mass = canvas.ellipse(place, (radius, radius * slim), angle, outline, rng.uniform(1.5, 4))
    mass.alpha[...] *= room[mass.window]
    if attached:  # a meningioma: homogeneous, a little denser than brain, sometimes calcified
        value = rng.uniform(38, 49)
        if rng.random() < 0.15:
            value = rng.uniform(90, 400)
    else:  # a glioma or a metastasis: heterogeneous, often dark inside
        value = rng.uniform(28, 44)
    texture = rng.uniform(0, 5) * canvas.texture(5.0, mass.alpha.shape, rng)
    canvas.paint(mass, value + texture)
    masks.append(mass)
    if not attached and radius > 8 and rng.random() < 0.5:
        radii = radius * 0.6, radius * slim * 0.5
        core = canvas.ellipse(place, radii, angle, Roughness(0.25, rng), 3.0)
        canvas.paint(core, rng.uniform(8, 22))
    return True


def _cyst(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    place = head.random_place(rng, 2, 20)
    if place is None:
        return False
    radius = rng.uniform(5, 22)
    shape = head.canvas.ellipse(
        place, (radius, radius * rng.uniform(0.6, 1)), rng.uniform(0, 3), Roughness(0.08, rng)
    )
    shape.alpha[...] *= head.brain[shape.window]
    head.canvas.paint(shape, CSF + rng.uniform(-4, 6))
    return True


def _hygroma(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw fluid under the dura, on one side or both."""
    if head.level < 0.3:
        return False
    canvas = head.canvas
    for side in SIDES:
        if rng.random() < 0.65:
            front = np.float32(rng.uniform(0.2, 0.8))
            thick = rng.uniform(2.5, 10) * np.clip(
                1 - ((head.sine + front) / rng.uniform(0.8, 1.2)) ** 2, 0, 1
            )
            alpha = step(thick - head.inside, 1.5) * head.brain * step(side * canvas.x - 2, 3)
            alpha = alpha * step(thick - 0.8, 0.8)
            canvas.paint(canvas.everywhere(alpha), rng.uniform(4, 12))
    return True


def _dense_vessel(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw a dense artery or vein: hemoconcentration, a clot, or a wide basilar artery."""
    canvas, k = head.canvas, head.scale
    density = rng.uniform(54, 82)
    if head.front < 0.4:
        side = int(rng.choice((-1, 1)))
        if rng.random() < 0.5:
            points = [(side * 8 * k, -13 * k), (side * 21 * k, -17 * k), (side * 33 * k, -12 * k)]
            shape = canvas.line(points, rng.uniform(1.5, 3.2))
        else:
            radius = rng.uniform(2, 4.5)
            center = rng.normal(0, 2), rng.normal(-3, 3) * k
            shape = canvas.ellipse(center, (radius, radius))
    else:
        size = rng.uniform(3.5, 8)
        center = 0, 0.985 * (head.half_length - 7)
        sinus = canvas.ellipse(center, (size, size * 0.8), 0, Roughness(0.2, rng), inner=False)
        shape = head.clip_to_brain(sinus)
    canvas.paint(shape, density)
    masks.append(shape)
    return True


def _calcified_arteries(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw plaques of the carotid siphons, the vertebral arteries and the basilar artery."""
    if not 0.1 < head.front < 0.36:
        return False
    canvas, k = head.canvas, head.scale
    places = [(side * rng.normal(10, 1.5), rng.normal(-11, 3)) for side in SIDES]
    if rng.random() < 0.4:
        places = [(side * rng.uniform(0, 9), rng.normal(3, 5)) for side in SIDES]
    drawn = False
    for x, y in places:
        if rng.random() < 0.75:
            radii = rng.uniform(0.8, 3, 2)
            shape = canvas.ellipse((x * k, y * k), radii, rng.uniform(0, 3), Roughness(0.25, rng))
            canvas.paint(shape, np.exp(rng.uniform(np.log(90), np.log(700))))
            masks.append(shape)
            drawn = True
    return drawn


def _dense_sinuses(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw dense transverse sinuses or tentorium, which resemble a subdural hematoma there."""
    if not 0.12 < head.back < 0.38:
        return False
    canvas, k = head.canvas, head.scale
    density = rng.uniform(56, 80)
    for side in SIDES if rng.random() < 0.8 else (int(rng.choice(SIDES)),):
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


def _partial_volume_bone(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> bool:
    """Draw bone that fills a part of a thick slice: at the vertex, and on the fossae's floor."""
    canvas = head.canvas
    if 0.36 < head.level < 0.75:
        return False
    at_base = head.level < 0.5
    # A wedge along the inside of the skull: most bone at the skull, none at its end.
    width = rng.uniform(2, 12) * (0.8 + 0.15 * canvas.texture(26.0, head.inside.shape, rng))
    if not at_base:  # in half of them more on one side, as in a slice that is not level
        direction, leaning = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.1) * rng.integers(0, 2)
        across = head.direction_cosine(direction)
        width = width * np.clip(1 + np.float32(leaning) * across, 0, None)
    else:  # on a part of the floor of a fossa
        angle, half = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.2)
        away = head.angle_from(angle) / np.float32(half)
        width = width * np.clip(1 - away * away, 0, 1)
    share = np.clip(1 - head.inside / np.maximum(width, np.float32(0.3)), 0, 1)
    share = share ** rng.uniform(0.5, 2.2) * head.brain * np.clip(width, 0, 1)
    density = partial_volume_density(rng)
    canvas.paint(canvas.everywhere(share), density)
    masks.append(_bright_part(canvas.everywhere(share), density))
    if at_base:
        _draw_bone_islands(head, rng, masks)
    return True


def _draw_bone_islands(head: PhantomHead, rng: np.random.Generator, masks: _Masks) -> None:
    """Draw bone that rises from below as islands in the slice, mostly one on either side."""
    for _ in range(int(rng.integers(0, 3))):
        place = head.random_place(rng, 0.5, 12)
        if place is None:
            break
        length, slim = rng.uniform(3, 14), rng.uniform(0.4, 1)
        density = partial_volume_density(rng)
        for side in SIDES if rng.random() < 0.6 else (1,):
            size = rng.uniform(0.75, 1.2)
            island = head.partial_volume_bone(
                (side * place[0], place[1]),
                (length * size, length * slim * size),
                side * rng.uniform(0, 3),
                rng,
            )
            head.canvas.paint(island, density * rng.uniform(0.7, 1))
            masks.append(_bright_part(island, density))


def _bright_part(bone: Shape, density: float) -> Shape:
    """Return where bone of a density in HU makes brain as bright as blood."""
    share = min(0.6, _BRIGHT_BONE / density)
    return Shape(bone.window, (bone.alpha > share).astype(np.float32))


# Probability of each, and how it is drawn. The names are written into manifests.
_MIMICS: dict[str, tuple[float, Callable[[PhantomHead, np.random.Generator, _Masks], bool]]] = {
    "calcified choroid plexus": (0.5, _calcified_plexus),
    "calcified pineal": (0.55, _calcified_pineal),
    "dense or calcified falx": (0.3, _dense_falx),
    "calcified basal ganglia": (0.2, _calcified_ganglia),
    "scattered calcification": (0.07, _scattered_calcification),
    "infarct": (0.2, _infarct),
    "leukoaraiosis": (0.08, _leukoaraiosis),
    "tumor": (0.09, _tumor),
    "cyst": (0.05, _cyst),
    "hygroma": (0.06, _hygroma),
    "dense artery or vein": (0.15, _dense_vessel),
    "calcified arteries": (0.35, _calcified_arteries),
    "dense sinus": (0.25, _dense_sinuses),
    "grazed bone": (0.45, _partial_volume_bone),
    "surgery": (0.07, draw_surgery),
    "scalp swelling": (0.28, draw_scalp_swelling),
    "air": (0.06, draw_air),
    "fracture": (0.15, draw_fracture),
}
MIMICS = tuple(_MIMICS)


def draw_mimics(head: PhantomHead, rng: np.random.Generator) -> tuple[tuple[str, ...], np.ndarray]:
    """Draw some of the mimics into a head.

    Args:
        head: The head, drawn.
        rng: Random generator of the choice and of each mimic.

    Returns:
        Names of the mimics, and bool `(size, size)`: where one is bright enough to resemble blood.
    """
    masks: _Masks = []
    drawn = []
    bright = np.zeros(head.inside.shape, bool)
    chances, seeds = rng.random(len(_MIMICS)), rng.integers(2**31, size=len(_MIMICS))
    for (name, (share, draw)), chance, seed in zip(_MIMICS.items(), chances, seeds, strict=True):
        # Each has its own generator, so that omitting one changes no other.
        if chance < share and draw(head, np.random.default_rng(seed), masks):
            drawn.append(name)
    for shape in masks:
        bright[shape.window] |= shape.alpha > 0.5
    return tuple(drawn), bright
