"""Blood in a slice: where it was drawn, and its Hounsfield units by its age."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.canvas import Shape, step
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.hemorrhage_plans import Plan


@dataclass(frozen=True, slots=True)
class Bleeding:
    """A hemorrhage that was drawn.

    Attributes:
        window: Rows and columns that contain all that it changed.
        mask: bool, of the window's shape: where there is blood.
    """

    window: tuple[slice, slice]
    mask: np.ndarray


def blood_density(
    head: PhantomHead,
    plan: Plan,
    shape: Shape,
    rng: np.random.Generator,
    core: np.ndarray | None = None,
) -> np.ndarray:
    """Return the HU of uneven blood.

    Args:
        head: The head that it is in.
        plan: Its age and densities.
        shape: Where it is.
        rng: Random generator of what is not planned.
        core: float32, of the shape's window: 1 where old blood lies inside its membrane, 0 in the
            membrane; None without one. Defaults to None.

    Returns:
        float32, of the shape's window.
    """
    canvas, size = head.canvas, shape.alpha.shape
    coarse, fine = (canvas.texture(scale, size, rng) for scale in (12.0, 5.0))
    value = np.float32(plan.density) + np.float32(rng.uniform(0.4, 3.5)) * coarse
    lacking = np.float32(plan.density - plan.liquid)
    amount, edge = rng.uniform(0.2, 0.8), rng.uniform(0.5, 1.5)
    if plan.age == "hyperacute":  # the swirl of blood that has not clotted
        value -= lacking * step(coarse + 0.4 * fine - np.float32(amount), edge)
    elif plan.age == "mixed":  # old blood with fresh blood in it
        value -= lacking * step(coarse + np.float32(0.6 - amount), edge)
    elif plan.age == "old" and core is not None:
        value -= lacking * core
    elif plan.age == "old":
        value -= lacking
    elif plan.age == "layered":
        value -= lacking * _above_the_cells(head, plan, shape)
    return value


def _above_the_cells(head: PhantomHead, plan: Plan, shape: Shape) -> np.ndarray:
    """Return where plasma lies in front of settled cells, for a patient on the back."""
    y = head.canvas.y[shape.window]
    covered = y[shape.alpha > 0.5]
    if not len(covered):
        return np.zeros_like(shape.alpha)
    front, back = float(covered.min()), float(covered.max())
    return step(np.float32(front + plan.settled * (back - front)) - y, 2.0)
