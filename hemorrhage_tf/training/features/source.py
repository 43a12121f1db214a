"""A backbone as a source of features, and the fingerprint of what decides their values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from hemorrhage_tf.core.native_output import is_tensorflow_imported
from hemorrhage_tf.models.backbone_options import BackboneOptions
from hemorrhage_tf.models.backbones import (
    BackboneFacts,
    BackboneSpec,
    build_backbone,
    fingerprint,
    weights_hash,
)
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import Branch, build_feature_model
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.features.cache import FORMAT


@dataclass(frozen=True)
class FeatureSource:
    """A frozen backbone and the settings that decide its features.

    Attributes:
        spec: The backbone's registry entry.
        facts: What its features depend on.
        build: Returns the float32 Keras model that the classifier is built around, the same one
            each time.
        feature_layer: The layer at which it was cut, or None.
        model_input: How slices become model input. If its size differs from the backbone's input
            size, images are resized, as in the classifier.
        policy: The Keras dtype policy for the computation, such as "mixed_bfloat16".
    """

    spec: BackboneSpec
    facts: BackboneFacts
    build: Callable[[], Any] = field(compare=False)
    feature_layer: str | None
    model_input: ModelInput
    policy: str

    @property
    def backbone(self) -> Any:
        """The float32 Keras model; it is built on first use."""
        return self.build()

    @property
    def weights_hash(self) -> str:
        """The hash of the backbone's weights."""
        return self.facts.weights_hash

    @property
    def branch(self) -> Branch:
        """The backbone as a branch of a classifier."""
        return Branch(self.spec, self.backbone)

    @property
    def width(self) -> int:
        """Number of features of a view, average and max pooled: twice the channels."""
        return 2 * self.facts.channels

    @property
    def about(self) -> dict[str, object]:
        """Values that `hemorrhage-tf cache info` shows for these features."""
        return {
            "backbone": self.spec.name,
            "feature_layer": self.feature_layer,
            "image_size": self.model_input.image_size,
            "policy": self.policy,
            "width": self.width,
        }

    @property
    def fingerprint(self) -> str:
        """The hash of everything but the pixels of a view that decides its features."""
        parts: dict[str, Any] = {
            "format": FORMAT,
            "backbone": self.spec.name,
            "normalization": self.spec.normalization,
            "weights": self.weights_hash,
            "feature_layer": self.feature_layer,
            "policy": self.policy,
            "model_input": self.model_input.key,
            "tensorflow": _tensorflow_version(),
        }
        # Without a resize, a backbone alone and the same backbone in a pair share their features.
        side = self.facts.image_size
        if side != self.model_input.image_size:
            parts["resized_to"] = side
        return fingerprint(parts)

    def forward(self, strategy: Any) -> Callable[[Any], np.ndarray]:
        """Build the function that computes features.

        Args:
            strategy: The `tf.distribute.Strategy` of this worker's own devices.

        Returns:
            A function from a distributed batch of images, float32 `(batch, size, size, 3)` in
            [0, 255], to features, float32 `(batch, width)`.
        """
        import tensorflow as tf

        with strategy.scope():
            folded = fold_batch_normalization(self.backbone, self.policy)
            model = build_feature_model(
                folded, self.spec.normalization, self.model_input.image_size
            )

        @tf.function(reduce_retracing=True, autograph=False)
        def replica_features(images: Any) -> Any:
            return strategy.run(lambda batch: model(batch, training=False), args=(images,))

        def features(images: Any) -> np.ndarray:
            results = strategy.experimental_local_results(replica_features(images))
            return np.concatenate([result.numpy() for result in results])

        return features


def backbone_facts(backbone: Any) -> BackboneFacts:
    """Return the facts of a backbone from `build_backbone`."""
    return BackboneFacts(
        weights_hash=weights_hash(backbone),
        image_size=int(backbone.input_shape[1]),
        channels=int(backbone.output_shape[-1]),
    )


def build_from_options(options: BackboneOptions, seed: int) -> Any:
    """Build the Keras model of a backbone, see `build_backbone`."""
    return build_backbone(
        options.spec.name, options.weights, options.image_size, options.feature_layer, seed
    )


def _tensorflow_version() -> str:
    """Return the version of TensorFlow, without importing it."""
    if not is_tensorflow_imported():
        return version("tensorflow")
    return sys.modules["tensorflow"].__version__
