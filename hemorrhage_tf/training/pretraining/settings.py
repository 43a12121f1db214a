"""The settings of pretraining: everything that determines the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION


@dataclass(frozen=True)
class PretrainingSettings:
    """Everything that determines the weights. The defaults are for two cores.

    Attributes:
        count: Number of training phantoms.
        epochs: Number of passes over them, each with other augmentations.
        hard_from: First pass, counted from 0, in which half of the samples come from the quarter
            of each kind with the largest losses; see `training.order_of_pass`.
        window_pairs: Number of phantoms in a step that are seen a second time, through another
            window; the difference between the two logits is a part of the loss.
        head_scans: Number of phantom scans on whose slices the head is solved and its operating
            point is chosen; half of them have a hemorrhage.
        test_count: Number of phantoms to measure on.
        batch_size: Number of phantoms in a step.
        learning_rate: Highest learning rate of AdamW, after the warm-up.
        weight_decay: Weight decay of AdamW.
        warmup: Number of steps over which the learning rate rises.
        l2: Strength of the head's penalty, see `head_solver.solve_head`.
        specificity: Specificity on the slices of scans without a hemorrhage for which the threshold
            of slices is chosen.
        seed: Random seed of the phantoms, the initial weights and the augmentation.
        start: Hash of the weights file that the backbone starts from; None for random weights.
    """

    count: int = 70_000
    epochs: int = 5
    hard_from: int = 2
    window_pairs: int = 4
    head_scans: int = 600
    test_count: int = 4_000
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    warmup: int = 300
    l2: float = 1 / 32
    specificity: float = 0.96
    seed: int = 0
    start: str | None = None

    @property
    def steps_of_epoch(self) -> int:
        """Number of whole batches in a pass."""
        return self.count // self.batch_size

    @property
    def steps(self) -> int:
        """Number of steps in all passes."""
        return self.steps_of_epoch * self.epochs

    def of_training(self) -> dict[str, Any]:
        """Return the settings that the weights of the backbone depend on."""
        later = {"head_scans", "test_count", "l2", "specificity"}
        return {name: value for name, value in self.to_dict().items() if name not in later}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are recorded, with the version of the phantoms."""
        return {**asdict(self), "generator": GENERATOR_VERSION}
