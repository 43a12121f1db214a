"""Which backbones a model is made of: one, or several whose features stand side by side.

What `--backbone`, `--weights`, `--feature-layer` and `--image-size` say is taken apart here for
each backbone. Imports no TensorFlow.
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
    """A backbone as a model uses it.

    Attributes:
        spec: its registry entry.
        weights: "imagenet", "embedded", "none" or a weights file's path.
        feature_layer: the last layer to keep, or None for all.
        image_size: side of the picture that it sees, in pixels; the model's own input may be
            larger.
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
    """Says what each backbone of a model is given.

    Of several backbones, weights and layers are given as `NAME=VALUE` pairs with commas. Without a
    name, a file or a layer is of the one backbone that is not embedded; "none" is for all of them,
    and "imagenet" and "embedded" are for those that have such weights. What is not given is the
    backbone's default.

    Args:
        backbone: names of the registry, joined by `+`.
        weights: what `--weights` says, or None for each backbone's default.
        feature_layer: what `--feature-layer` says, or None for whole backbones.
        image_size: side of the picture that all of them see, in pixels; None for each one's own,
            since features of pretrained weights are best at the size of the training.

    Returns:
        One for each backbone, in the order of their features.

    Raises:
        OptionError: an unknown or repeated name, or a value that fits none or does not say which.
        WeightsError: no such weights file.
    """
    specs = backbone_specs(backbone)
    given = {} if weights is None else _weights_of_each(weights, specs)
    layers = {}
    if feature_layer is not None:
        layers = values_of_each("--feature-layer", feature_layer, specs)
    return tuple(
        BackboneOptions(
            spec,
            resolve_weights(spec.name, given.get(spec.name)),
            layers.get(spec.name),
            spec.image_size if image_size is None else image_size,
        )
        for spec in specs
    )


def backbone_specs(backbone: str) -> tuple[BackboneSpec, ...]:
    """SliceReadings up the backbones that are joined by `+`.

    Raises:
        OptionError: an unknown or repeated name; the message lists the accepted.
    """
    names = [name.strip() for name in backbone.split("+")]
    accepted = f"Accepted: {', '.join(BACKBONES)}, and several of them joined by +"
    unknown = [name for name in names if name not in BACKBONES]
    if unknown:
        which = f" as {', '.join(map(repr, unknown))}" if len(names) > 1 else ""
        raise OptionError(f"--backbone {backbone}: no such backbone{which}. {accepted}")
    repeated = [name for name in BACKBONES if names.count(name) > 1]
    if repeated:
        raise OptionError(
            f"--backbone {backbone}: {', '.join(repeated)} is there more than once, which adds "
            f"nothing. {accepted}"
        )
    return tuple(BACKBONES[name] for name in names)


def values_of_each(option: str, value: str, specs: Sequence[BackboneSpec]) -> dict[str, str]:
    """Takes an option's value apart: `NAME=VALUE` pairs with commas, or one bare value.

    Args:
        option: its name, for the messages.
        value: what was received.
        specs: the model's backbones.

    Returns:
        Values by name of the backbone. A bare one is of the only backbone, or of the only one that
        is not embedded: the others come as they are.

    Raises:
        OptionError: a name that is not among the backbones or is repeated, a name without a value,
            or a bare value that may be of several backbones.
    """
    pairs = _pairs(option, value, specs)
    if pairs is not None:
        return pairs
    loaded = [spec.name for spec in specs if not spec.embedded or len(specs) == 1]
    if len(loaded) == 1:
        return {loaded[0]: value}
    names = [spec.name for spec in specs]
    raise OptionError(
        f"{option} {value}: does not say which backbone it is of, {' or '.join(loaded or names)}. "
        f"Give it as NAME=VALUE, such as {option} {(loaded or names)[0]}={value}; pairs are joined "
        "by commas"
    )


def _pairs(option: str, value: str, specs: Sequence[BackboneSpec]) -> dict[str, str] | None:
    """Takes `NAME=VALUE` pairs apart; None for a bare value, such as a file called `a=1.h5`."""
    if not re.match(r"\w+=", value) or Path(value).is_file():
        return None
    names = [spec.name for spec in specs]
    found: dict[str, str] = {}
    # Only before the name of a backbone, since paths such as `l2=1,seed=0/x.h5` hold commas too.
    for pair in re.split(rf",\s*(?=(?:{'|'.join(BACKBONES)})=)", value):
        name, _, given = pair.partition("=")
        wrong = {
            f"{name} is none of this model's backbones": name not in names,
            f"{name} is given twice": name in found,
            f"nothing is given for {name}": not given,
        }
        for reason in (reason for reason, holds in wrong.items() if holds):
            raise OptionError(
                f"{option} {value}: {reason}. Accepted: NAME=VALUE, joined by commas, with the "
                f"names {', '.join(names)}"
            )
        found[name] = given
    return found


def _weights_of_each(value: str, specs: Sequence[BackboneSpec]) -> dict[str, str]:
    pairs = _pairs("--weights", value, specs)
    if pairs is not None:
        return pairs
    if value in ("imagenet", "embedded", "none"):
        able = [spec.name for spec in specs if value in spec.weights_kinds]
        # Where none is able, `resolve_weights` says what is accepted instead.
        return dict.fromkeys(able or [specs[0].name], value)
    check_weights_file(value, specs)  # a misspelled word is not asked whose file it is
    return values_of_each("--weights", value, specs)


def join_values(values: Mapping[str, str | None]) -> str | None:
    """Writes one value a backbone as the options take them.

    Args:
        values: by name of the backbone, for all of a model's.

    Returns:
        The value where there is one backbone, else `NAME=VALUE` pairs with commas of those that
        are not None; None where all are.
    """
    if len(values) == 1:
        return next(iter(values.values()))
    pairs = [f"{name}={value}" for name, value in values.items() if value is not None]
    return ",".join(pairs) or None


def split_values(joined: str | None, backbone: str) -> dict[str, str | None]:
    """Takes apart what `join_values` wrote.

    Args:
        joined: what it wrote.
        backbone: the names, joined by `+`.

    Returns:
        A value or None for each backbone.
    """
    names = backbone.split("+")
    if len(names) == 1:
        return {backbone: joined}
    found = {} if joined is None else _pairs("", joined, backbone_specs(backbone)) or {}
    return {name: found.get(name) for name in names}


def cut_backbones(backbone: str, feature_layer: str | None) -> dict[str, str]:
    """Says of each backbone where it is cut, such as `resnet152 to conv4_block36_out`.

    Args:
        backbone: the names, joined by `+`.
        feature_layer: as `join_values` wrote it.
    """
    layers = split_values(feature_layer, backbone)
    return {name: f"{name} to {layer}" if layer else name for name, layer in layers.items()}
