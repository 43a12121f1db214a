"""Draw phantom studies: the series that a scanner makes of one head.

The thin slices are drawn, and everything else is computed from them: thick slices, a bone kernel,
an angiography and localizers. They serve to test archives and the choice of a series. Only the
slices with a soft kernel are drawn as realistically as the other phantoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION, Phantom
from hemorrhage_tf.synthesis.draw_scan import draw_phantom_scan
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.scanner import HIGHEST_HU, LOWEST_HU

THIN = 1.25  # mm
PER_THICK = 4  # thin slices in a thick one

_STUDY_STREAM = 70  # apart from the streams of `draw`
# The bone kernel: gain of the edges, width of the blur that they are told by, and added noise.
_EDGE_GAIN, _EDGE_BLUR, _EDGE_NOISE = 1.2, 0.7, 30.0  # -, mm, HU
_CONTRAST, _PERFUSED = 320.0, 4.0  # HU that contrast agent adds in vessels and in tissue
_SOFT = -100.0, 200.0  # HU of the tissue that vessels run through
_HALF_WIDTH = 75.0  # mm, of the head that the places of the vessels are given for


@dataclass(frozen=True, slots=True)
class PhantomSeries:
    """One series of a study.

    Attributes:
        number: The Series Number.
        description: The Series Description.
        kernel: The Convolution Kernel; "" for a localizer.
        thickness: Slice thickness, in mm.
        images: float32 `(n, height, width)`, whole HU; axial ones from the neck to the vertex.
        agent: The contrast agent; "" for none. Defaults to "".
        is_localizer: Whether the images are a lateral and a frontal projection. Defaults to False.
    """

    number: int
    description: str
    kernel: str
    thickness: float
    images: np.ndarray
    agent: str = ""
    is_localizer: bool = False


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """The series of one head.

    Attributes:
        series: All series.
        thick: The phantoms of the plain series of thick slices, with their masks.
        pixel: Side of a pixel, in mm.
        lowest: Position of the lowest thin slice, in mm above the skull base.
    """

    series: tuple[PhantomSeries, ...]
    thick: tuple[Phantom, ...]
    pixel: float
    lowest: float


def draw_study(seed: int, index: int, *, size: int) -> PhantomStudy:
    """Draw a study: localizers, thick and thin soft slices, a bone kernel and an angiography.

    Args:
        seed: Random seed of the set, 0 or more.
        index: Index of the study in the set, 0 or more; odd ones have a hemorrhage.
        size: Side of a slice in pixels, 64 to 512.

    Raises:
        OptionError: An argument is not accepted.
    """
    thin = draw_phantom_scan(seed, index, size=size, thickness=THIN)
    thin = thin[: len(thin) // PER_THICK * PER_THICK]
    pixel = thin[0].pixel
    volume = np.stack([one.hounsfield for one in thin])
    thick = tuple(
        _average(thin[first : first + PER_THICK]) for first in range(0, len(thin), PER_THICK)
    )
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, _STUDY_STREAM])
    vessels = np.stack([_enhance(one) for one in thin])
    series = (
        PhantomSeries(1, "Localizer", "", THIN, _project(volume, pixel), is_localizer=True),
        PhantomSeries(
            2,
            "Head 5.0 soft",
            "H31s",
            THIN * PER_THICK,
            np.stack([one.hounsfield for one in thick]),
        ),
        PhantomSeries(3, "Head 1.25 soft", "H31s", THIN, volume),
        PhantomSeries(4, "Head 1.25 bone", "H60s", THIN, _sharpen(volume, pixel, rng)),
        PhantomSeries(5, "Head CTA 1.25", "H31s", THIN, vessels, agent="Iopamidol"),
    )
    return PhantomStudy(series, thick, pixel, thin[0].position)


def _average(part: Sequence[Phantom]) -> Phantom:
    """Return the thick slice that some thin ones make up."""
    blood = np.bitwise_or.reduce([one.blood for one in part])
    middle = part[len(part) // 2]
    return replace(
        middle,
        hounsfield=np.rint(np.mean([one.hounsfield for one in part], axis=0)).astype(np.float32),
        blood=blood,
        bright=np.logical_or.reduce([one.bright for one in part]) & (blood == 0),
        label=int(blood.any()),
        subtypes=tuple(
            name for bit, name in enumerate(SUBTYPES) if (blood & np.uint8(1 << bit)).any()
        ),
        mimics=tuple(dict.fromkeys(name for one in part for name in one.mimics)),
        thickness=THIN * len(part),
        position=float(np.mean([one.position for one in part])),
        level=float(np.mean([one.level for one in part])),
        brain_area=float(np.mean([one.brain_area for one in part])),
    )


def _sharpen(volume: np.ndarray, pixel: float, rng: np.random.Generator) -> np.ndarray:
    """Return the slices as a bone kernel shows them: sharper and noisier."""
    sharp = np.empty_like(volume)
    for index, image in enumerate(volume):
        edges = image - ndimage.gaussian_filter(image, _EDGE_BLUR / pixel)
        noise = rng.standard_normal(image.shape, np.float32) * np.float32(_EDGE_NOISE)
        sharp[index] = image + np.float32(_EDGE_GAIN) * edges + noise
    return _stored(sharp)


def _project(volume: np.ndarray, pixel: float) -> np.ndarray:
    """Return the lateral and the frontal projection, the vertex on top."""
    density = np.maximum(volume / 1000 + 1, 0)
    size = volume.shape[-1]
    views = []
    for axis in (2, 1):
        shadow = density.mean(axis=axis)[::-1]
        rows = max(1, round(len(volume) * THIN / pixel))
        shadow = ndimage.zoom(shadow, (rows / len(volume), 1), order=1)[:size]
        view = np.zeros((size, size), np.float32)
        view[: len(shadow)] = shadow
        views.append(view)
    stack = np.stack(views)
    return _stored((stack / max(float(stack.max()), 1e-6)) * 2000 - 1000)


def _enhance(phantom: Phantom) -> np.ndarray:
    """Return a slice with contrast agent in the large vessels and a little in the tissue."""
    image = phantom.hounsfield
    head = ndimage.binary_fill_holes(image > -300)
    rows, columns = np.nonzero(head)
    if not len(rows):
        return image
    scale = max(float(np.ptp(columns)) * phantom.pixel / 2, 1.0) / _HALF_WIDTH
    y, x = np.indices(image.shape, np.float32)
    x = (x - np.float32(columns.mean())) * np.float32(phantom.pixel / scale)
    y = (y - np.float32(rows.mean())) * np.float32(phantom.pixel / scale)
    share = np.zeros(image.shape, np.float32)
    for across, down, half_length, radius in _vessels_at(phantom.position):
        outside = np.maximum(np.abs(x - across) - half_length, 0)
        distance = np.hypot(outside, y - down)
        # The border of a vessel is one pixel wide.
        share = np.maximum(share, np.clip((radius - distance) * scale / phantom.pixel + 0.5, 0, 1))
    soft = (image > _SOFT[0]) & (image < _SOFT[1])
    return _stored(image + soft * (np.float32(_CONTRAST) * share + np.float32(_PERFUSED)))


def _vessels_at(position: float) -> list[tuple[float, float, float, float]]:
    """Return the vessels at a height in mm above the skull base.

    Returns:
        For each the place to the left of and behind the middle of the head, half the length across,
        and the radius, in mm.
    """
    vessels = []
    if position < 0:  # carotid arteries and jugular veins of the neck
        vessels += [(side * 28.0, place, 0.0, 3.0) for side in (-1, 1) for place in (-5.0, 8.0)]
    if 0 <= position <= 35:  # carotid arteries at the skull base
        vessels += [(side * 14.0, -8.0, 0.0, 2.5) for side in (-1, 1)]
    if -10 <= position <= 32:  # basilar artery
        vessels.append((0.0, 18.0, 0.0, 2.0))
    if 32 <= position <= 42:  # middle cerebral arteries
        vessels += [(side * 27.0, -10.0, 17.0, 1.8) for side in (-1, 1)]
    if 35 <= position <= 110:  # anterior cerebral arteries
        vessels.append((0.0, -25.0, 1.5, 1.5))
    if 20 <= position <= 140:  # superior sagittal sinus
        vessels.append((0.0, 76.0, 2.0, 3.5))
    return vessels


def _stored(hounsfield: np.ndarray) -> np.ndarray:
    """Return whole HU within the range that a scanner stores, float32."""
    return np.rint(hounsfield).clip(LOWEST_HU, HIGHEST_HU).astype(np.float32)
