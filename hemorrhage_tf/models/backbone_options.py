"""The backbone options of a model, for one backbone or for several with concatenated features.

Parses the values of `--backbone`, `--weights`, `--feature-layer` and `--image-size` for each
backbone. Imports no TensorFlow. The registry of backbones is in `backbones`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbones import (
    BACKBONES,
    BackboneSpec,
    check_weights_file,
    resolve_weights,
)


@dataclass(frozen=True)
class BackboneOptions:
    """The options of one backbone of a model.

    Attributes:
        spec: Its registry entry.
        weights: "imagenet", "embedded", "none" or the path of a weights file.
        feature_layer: Name of the last layer to keep, or None for all layers.
        image_size: Side of its input, in pixels. The input of the whole model may be larger.
    """

    spec: BackboneSpec
    weights: str
    feature_layer: str | None
    image_size: int


def parse_backbone_options(
    backbone: str,
    weights: str | None = None,
    feature_layer: str | None = None,
    image_size: int | None = None,
) -> tuple[BackboneOptions, ...]:
    """Parse the backbone options of a model.

    For several backbones, weights and feature layers are `NAME=VALUE` pairs separated by commas. A
    file or layer without a name belongs to the one backbone that is not embedded. The word "none"
    applies to all backbones, "imagenet" and "embedded" to those that have such weights. A backbone
    without a value gets its default.

    Args:
        backbone: Names from the registry, joined by `+`.
        weights: The value of `--weights`, or None for each backbone's default.
        feature_layer: The value of `--feature-layer`, or None for whole backbones.
        image_size: Side of every backbone's input, in pixels; None for each backbone's own,
            because pretrained features are best at the size they were trained with.

    Returns:
        The options of each backbone, in the order of their features.

    Raises:
        OptionError: An unknown or repeated name, or a value that fits no backbone or could belong
            to several.
        WeightsError: The weights file does not exist.
    """
    specs = backbone_specs(backbone)
    weights_by_name = {} if weights is None else _weights_by_backbone(weights, specs)
    layers_by_name = {}
    if feature_layer is not None:
        layers_by_name = values_by_backbone("--feature-layer", feature_layer, specs)
    return tuple(
        BackboneOptions(
            spec,
            resolve_weights(spec.name, weights_by_name.get(spec.name)),
            layers_by_name.get(spec.name),
            spec.image_size if image_size is None else image_size,
        )
        for spec in specs
    )


def backbone_specs(backbone: str) -> tuple[BackboneSpec, ...]:
    """Return the registry entries of backbones that are joined by `+`.

    Raises:
        OptionError: An unknown or repeated name; the message lists the accepted names.
    """
    names = [name.strip() for name in backbone.split("+")]
    accepted = f"Pass one of {', '.join(BACKBONES)}, or several of them joined by +."
    unknown = [name for name in names if name not in BACKBONES]
    if unknown:
        which = f" named {', '.join(map(repr, unknown))}" if len(names) > 1 else ""
        raise OptionError(f"--backbone {backbone}: no such backbone{which}. {accepted}")
    repeated = [name for name in BACKBONES if names.count(name) > 1]
    if repeated:
        raise OptionError(
            f"--backbone {backbone}: {', '.join(repeated)} is repeated, which adds no features. "
            f"{accepted}"
        )
    return tuple(BACKBONES[name] for name in names)


def values_by_backbone(option: str, value: str, specs: Sequence[BackboneSpec]) -> dict[str, str]:
    """Parse the value of an option: `NAME=VALUE` pairs separated by commas, or one bare value.

    Args:
        option: Its name, for error messages.
        value: The received value.
        specs: The model's backbones.

    Returns:
        Values by backbone name. A bare value belongs to the only backbone, or to the only one that
        is not embedded, because embedded ones are used as they are.

    Raises:
        OptionError: A name that is not one of the backbones or is repeated, a name without a
            value, or a bare value that could belong to several backbones.
    """
    pairs = _parse_pairs(option, value, specs)
    if pairs is not None:
        return pairs
    candidates = [spec.name for spec in specs if not spec.embedded or len(specs) == 1]
    if len(candidates) == 1:
        return {candidates[0]: value}
    candidates = candidates or [spec.name for spec in specs]
    raise OptionError(
        f"{option} {value}: could belong to {' or '.join(candidates)}. Pass NAME=VALUE, such as "
        f"{option} {candidates[0]}={value}, and separate pairs with commas."
    )


def _parse_pairs(option: str, value: str, specs: Sequence[BackboneSpec]) -> dict[str, str] | None:
    """Parse `NAME=VALUE` pairs; return None for a bare value, such as a file named `a=1.h5`."""
    if not re.match(r"\w+=", value) or Path(value).is_file():
        return None
    names = [spec.name for spec in specs]
    pairs: dict[str, str] = {}
    # Split only before the name of a backbone: paths such as `l2=1,seed=0/x.h5` hold commas too.
    for pair in re.split(rf",\s*(?=(?:{'|'.join(BACKBONES)})=)", value):
        name, _, part = pair.partition("=")
        if name not in names:
            mistake = f"{name} is not a backbone of this model"
        elif name in pairs:
            mistake = f"{name} is repeated"
        elif not part:
            mistake = f"{name} has no value"
        else:
            pairs[name] = part
            continue
        raise OptionError(
            f"{option} {value}: {mistake}. Pass NAME=VALUE pairs separated by commas, with the "
            f"names {', '.join(names)}."
        )
    return pairs


def _weights_by_backbone(value: str, specs: Sequence[BackboneSpec]) -> dict[str, str]:
    pairs = _parse_pairs("--weights", value, specs)
    if pairs is not None:
        return pairs
    if value in ("imagenet", "embedded", "none"):
        having = [spec.name for spec in specs if value in spec.weights_kinds]
        # If no backbone has such weights, `resolve_weights` raises with the accepted values.
        return dict.fromkeys(having or [specs[0].name], value)
    check_weights_file(value, specs)  # first, so that a misspelled word is reported as such
    return values_by_backbone("--weights", value, specs)


def join_backbone_values(values: Mapping[str, str | None]) -> str | None:
    """Join one value for each backbone into the form that the options accept.

    Args:
        values: By backbone name, for all backbones of a model.

    Returns:
        The value if there is one backbone, else `NAME=VALUE` pairs separated by commas for the
        values that are not None; None if all are.
    """
    if len(values) == 1:
        return next(iter(values.values()))
    pairs = [f"{name}={value}" for name, value in values.items() if value is not None]
    return ",".join(pairs) or None


def split_backbone_values(joined: str | None, backbone: str) -> dict[str, str | None]:
    """Invert `join_backbone_values`.

    Args:
        joined: Its result.
        backbone: The names, joined by `+`.

    Returns:
        A value or None for each backbone.
    """
    names = backbone.split("+")
    if len(names) == 1:
        return {backbone: joined}
    pairs = {} if joined is None else _parse_pairs("", joined, backbone_specs(backbone)) or {}
    return {name: pairs.get(name) for name in names}


def describe_backbones(backbone: str, feature_layer: str | None) -> dict[str, str]:
    """Describe each backbone and its last layer, such as `resnet152 to conv4_block36_out`.

    Args:
        backbone: The names, joined by `+`.
        feature_layer: A result of `join_backbone_values`.
    """
    layers = split_backbone_values(feature_layer, backbone)
    return {name: f"{name} to {layer}" if layer else name for name, layer in layers.items()}
