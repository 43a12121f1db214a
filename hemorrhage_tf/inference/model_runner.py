"""The base class of every form of a model: it predicts model input. `model` predicts files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import ModelMetadata


class ModelRunner(ABC):
    """Runs a trained model of any form.

    Args:
        path: Where it was loaded from.
        metadata: Labels, input, thresholds and provenance.
    """

    is_embedded = False
    has_cam = False  # whether it provides class activation maps
    has_scan_model = False  # whether a scan model belongs to it
    uses_tta = False  # whether it averages over test-time augmentation

    def __init__(self, path: Path, metadata: ModelMetadata) -> None:
        self.path = path
        self.metadata = metadata

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predict model input.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage) in [0, 1].
        """
        return self.run_outputs(images)["probability"]

    def run_with_cam(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input, with class activation maps.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage); and float32 `(n, h, w)`, the maps: the mean of a map is
            the logit of its slice.

        Raises:
            ModelError: The model provides no class activation map.
        """
        outputs = self.run_outputs(images, cam=True)
        return outputs["probability"], outputs["cam"]

    def run_with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input, with the features for the scan model.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)`, P(hemorrhage); and float32 `(n, width)`, the standardized features, with
            test-time augmentation those of the four images side by side.

        Raises:
            ModelError: The model has no scan model.
        """
        outputs = self.run_outputs(images, features=True)
        return outputs["probability"], outputs["features"]

    def run_outputs(
        self, images: np.ndarray, *, features: bool = False, cam: bool = False
    ) -> dict[str, np.ndarray]:
        """Predict model input, with all that is needed of the model's outputs, in one pass.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].
            features: Whether the features for the scan model are needed. Defaults to False.
            cam: Whether class activation maps are needed. Defaults to False.

        Returns:
            `probability`, float32 `(n,)`; `subtypes`, float32 `(n, subtypes)`, if the model has
            any; `features` and `cam` as `run_with_features` and `run_with_cam` return them.

        Raises:
            ModelError: The model does not provide what is needed.
        """
        if features:
            self.require_scan_model()
        if cam:
            self.require_cam()
        return self._compute(images, features, cam)

    def run_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict a scan, and each of its slices given the whole scan.

        Args:
            features: float32 `(n, width)`, from `run_with_features`, of the slices of one scan from
                the neck to the vertex.
            geometry: float32 `(n, 3)`, see `models.scan_model.scan_geometry`.

        Returns:
            The probability of the scan, and of each slice.

        Raises:
            ModelError: The model has no scan model.
        """
        self.require_scan_model()
        return self._compute_scan(features, geometry)

    @abstractmethod
    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        """Return the outputs of `run_outputs`, and any others that cost nothing."""

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Return the output of `run_scan`; forms with `has_scan_model` define it."""
        raise NotImplementedError

    def require_cam(self) -> None:
        """Raise a ModelError unless the model provides class activation maps."""
        if not self.has_cam:
            raise ModelError(
                f"{self.path}: this model provides no class activation map. Export it with --cam, "
                "or pass the run folder."
            )

    def require_scan_model(self) -> None:
        """Raise a ModelError unless the model has a scan model."""
        if not self.has_scan_model:
            raise ModelError(
                f"{self.path}: this model has no scan model. Fit one on data with scans, and pass "
                "its run folder or an export of it."
            )

    def name_subtypes(self, outputs: dict[str, np.ndarray]) -> list[dict[str, float] | None]:
        """Return the probabilities of subtypes by name for each image; None without subtypes."""
        if "subtypes" not in outputs:
            return [None] * len(outputs["probability"])
        return [dict(zip(self.subtypes, row, strict=True)) for row in outputs["subtypes"].tolist()]

    @property
    def threshold(self) -> float:
        """The threshold for slices: a probability that reaches it counts as hemorrhage."""
        return self.metadata.threshold

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The names of the subtypes that the model predicts; empty if it predicts none."""
        return self.metadata.subtypes

    @property
    def scan_threshold(self) -> float:
        """The threshold for the probability of a scan."""
        chosen = self.metadata.scan_threshold
        return self.threshold if chosen is None else chosen

    @property
    def slice_in_scan_threshold(self) -> float:
        """The threshold for the probability of a slice in its scan, from the scan model."""
        chosen = self.metadata.slice_in_scan_threshold
        return self.threshold if chosen is None else chosen
