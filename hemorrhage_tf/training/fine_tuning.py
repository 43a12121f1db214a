"""The backbone layers that fine-tuning trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbone_options import values_by_backbone
from hemorrhage_tf.training.features.source import FeatureSource


def layers_from(backbone: Any, name: str) -> list[Any]:
    """List the layers that fine-tuning from a layer unfreezes.

    Args:
        backbone: A Keras model.
        name: The first layer to unfreeze.

    Returns:
        That layer and all after it, without batch normalization.

    Raises:
        OptionError: No such layer, or no layer from there on has weights.
    """
    import keras

    names = [layer.name for layer in backbone.layers]
    if name not in names:
        raise OptionError(
            f"--fine-tune-from {name}: the backbone has no such layer. Name one of its layers, "
            f"which end with {', '.join(names[-6:])}."
        )
    unfrozen = [
        layer
        for layer in backbone.layers[names.index(name) :]
        if not isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not any(layer.weights for layer in unfrozen):
        raise OptionError(
            f"--fine-tune-from {name}: no layer from there on has weights to train. "
            "Name an earlier layer."
        )
    return unfrozen


def fine_tuned_layers(sources: Sequence[FeatureSource], fine_tune_from: str) -> list[list[Any]]:
    """List for each backbone the layers that fine-tuning unfreezes.

    Args:
        sources: The backbones.
        fine_tune_from: The value of `--fine-tune-from`: a layer, or `NAME=LAYER` pairs.

    Returns:
        One list per backbone; empty for a backbone that stays frozen.

    Raises:
        OptionError: No such layer or backbone, or nothing to train.
    """
    first = values_by_backbone(
        "--fine-tune-from", fine_tune_from, [source.spec for source in sources]
    )
    return [
        layers_from(source.backbone, first[source.spec.name]) if source.spec.name in first else []
        for source in sources
    ]
