"""Choose the backbone layers that fine-tuning trains."""

from __future__ import annotations

from collections.abc import Sequence

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbone_options import values_of_each
from hemorrhage_tf.training.features.extraction import (
    FeatureSource,
)


def layers_from(backbone, name: str) -> list:
    """Lists the layers that fine-tuning from a layer unfreezes.

    Args:
        backbone: a Keras model.
        name: the first layer to unfreeze.

    Returns:
        That layer and all after it, batch normalization left out.

    Raises:
        OptionError: no such layer, or nothing in it can be trained.
    """
    import keras

    names = [layer.name for layer in backbone.layers]
    if name not in names:
        raise OptionError(
            f"--fine-tune-from {name}: the backbone has no such layer. "
            f"Its last ones: {', '.join(names[-6:])}"
        )
    tuned = [
        layer
        for layer in backbone.layers[names.index(name) :]
        if not isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not any(layer.weights for layer in tuned):
        raise OptionError(
            f"--fine-tune-from {name}: no layer from there on has weights to train. "
            "Name an earlier layer."
        )
    return tuned


def tuned_layers(sources: Sequence[FeatureSource], fine_tune_from: str) -> list[list]:
    """Lists for each backbone the layers that fine-tuning unfreezes; none for one left frozen.

    Args:
        sources: the backbones.
        fine_tune_from: what `--fine-tune-from` says: a layer, or `NAME=LAYER` pairs.

    Raises:
        OptionError: no such layer or backbone, or nothing to train.
    """
    specs = [source.spec for source in sources]
    first = values_of_each("--fine-tune-from", fine_tune_from, specs)
    return [
        layers_from(source.backbone, first[source.spec.name]) if source.spec.name in first else []
        for source in sources
    ]
