"""The context of a fit: slices, settings, devices and folders that all its parts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.settings import FitSettings


@dataclass(frozen=True)
class FitContext:
    """The context of a fit.

    Attributes:
        slices: All slices, for training and for testing.
        settings: The settings of the fit.
        model_input: How slices become model inputs.
        cluster: The workers that train together, or this process alone; and their devices.
        progress: Receives progress, notes and warnings.
        cache_folder: The folder of the feature cache; unused with `feature_cache=False`.
        subtypes: int8 `(n, 5)`, see `datasets.subtypes.subtype_labels`, if the model has an output
            for each subtype; None for any hemorrhage alone. Defaults to None.
        scan_model: Kind of the scan model to train, see `scan_folds.choose_scan_model`; None for
            none. Defaults to None.
        phantoms: Phantoms that heads are trained on besides the slices. Defaults to None.
        evaluated: Sets that are only evaluated, by name. Defaults to none.
    """

    slices: SliceIndex
    settings: FitSettings
    model_input: ModelInput
    cluster: SingleProcess
    progress: Progress
    cache_folder: Path
    subtypes: np.ndarray | None = None
    scan_model: str | None = None
    phantoms: SliceIndex | None = None
    evaluated: Mapping[str, SliceIndex] = field(default_factory=dict)

    @property
    def targets(self) -> np.ndarray:
        """int64 `(n, outputs)`: any hemorrhage, then each subtype; -1 where it is unknown."""
        labels = self.slices.labels[:, np.newaxis]
        if self.subtypes is None:
            return labels
        return np.concatenate([labels, self.subtypes.astype(np.int64)], axis=1)
