"""Backbones: the registry of names, how each is built and normalized, and where weights come from.

Listing and checking names imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import OptionError, WeightsError
from hemorrhage_tf.models import phantomnet
from hemorrhage_tf.models.pretrained_files import embedded_file

# Keras downloads without a time limit; a network that swallows packets would hang `fit` for ever.
DOWNLOAD_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class BackboneSpec:
    """What the registry knows of a backbone.

    Attributes:
        name: what the user types.
        builder: `module:function` that makes the Keras model, imported when first used.
        normalization: how [0, 255] RGB becomes the backbone's input: "caffe" (BGR, ImageNet mean
            subtracted), "torch" (ImageNet mean and standard deviation), "symmetric" ([-1, 1]), or
            "inside" (the backbone does it).
        image_size: default side of the input, in pixels.
        embedded: needs no weights file and no download.
        weights_file: name of the file in the package that holds its weights, or None.
        bfloat16_is_faster: whether bfloat16 beats float32 on a CPU with AVX-512 BF16 or AMX.
        builder_arguments: passed on to the builder.
    """

    name: str
    builder: str
    normalization: str
    image_size: int = 224
    embedded: bool = False
    weights_file: str | None = None
    bfloat16_is_faster: bool = False
    builder_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def weights_kinds(self) -> tuple[str, ...]:
        """The words that `--weights` takes for it besides a file; the first is the default."""
        if self.weights_file is not None:
            return ("embedded", "none")
        return ("none",) if self.embedded else ("imagenet", "none")


# bfloat16_is_faster was measured on two Zen 5 cores, batches of 32 at 224 x 224 (milliseconds a
# slice, float32 and bfloat16): see benchmarks/precision.py.
_SPECS = (
    BackboneSpec("resnet152", "keras.applications:ResNet152", "caffe", bfloat16_is_faster=True),
    BackboneSpec("resnet50", "keras.applications:ResNet50", "caffe", bfloat16_is_faster=True),
    BackboneSpec("mobilenet_v2", "keras.applications:MobileNetV2", "symmetric"),
    BackboneSpec("densenet169", "keras.applications:DenseNet169", "torch"),
    BackboneSpec(
        "efficientnet_v2_b0",
        "keras.applications:EfficientNetV2B0",
        "inside",
        builder_arguments={"include_preprocessing": True},
    ),
    BackboneSpec(
        "phantomnet",
        "hemorrhage_tf.models.phantomnet:PhantomNet",
        "symmetric",
        image_size=phantomnet.IMAGE_SIZE,
        embedded=True,
        weights_file="phantomnet.weights.h5",
    ),
    BackboneSpec(
        "tiny", "hemorrhage_tf.models.tiny:Tiny", "symmetric", image_size=64, embedded=True
    ),
)
BACKBONES: dict[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}
EMBEDDED_BACKBONE = "phantomnet"


def backbone_spec(name: str) -> BackboneSpec:
    """SliceReadings a backbone up by name; raises OptionError with the accepted names."""
    if name not in BACKBONES:
        raise OptionError(f"--backbone {name}: no such backbone. Accepted: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def resolve_weights(name: str, weights: str | None) -> str:
    """Fills in the default of `--weights` and checks that it suits the backbone.

    Args:
        name: a backbone of the registry.
        weights: "imagenet", "embedded", "none", a file's path, or None for the default: "imagenet"
            for a backbone that Keras has such weights of, "embedded" for one whose weights lie in
            the package, and "none" for one that has neither.

    Returns:
        "imagenet", "embedded", "none" or the path.
    """
    spec = backbone_spec(name)
    if weights is None:
        return spec.weights_kinds[0]
    if weights in spec.weights_kinds:
        return weights
    if weights in ("imagenet", "embedded"):
        kind = {"imagenet": "ImageNet", "embedded": "embedded"}[weights]
        raise OptionError(
            f"--weights {weights}: there are no {kind} weights of {name}. "
            f"Accepted with it: {', '.join(spec.weights_kinds)}, or a weights file"
        )
    check_weights_file(weights, [spec])
    return weights


def check_weights_file(weights: str, specs: Sequence[BackboneSpec]) -> None:
    """Raises WeightsError where there is no such file, with what the backbones take besides."""
    if not Path(weights).is_file():
        kinds = dict.fromkeys(kind for spec in specs for kind in spec.weights_kinds)
        raise WeightsError(
            f"--weights {weights}: no such file. "
            f"Accepted: {', '.join(kinds)}, or a Keras weights file"
        )


def build_backbone(
    name: str,
    weights: str,
    image_size: int,
    feature_layer: str | None = None,
    seed: int = 0,
):
    """Builds a backbone without its top, cut at a layer where asked, frozen.

    Args:
        name: a backbone of the registry.
        weights: "imagenet" (Keras' own store and cache), "embedded" (a file in the package), "none"
            (random, from the seed) or a Keras weights file: `*.weights.h5` of the backbone as cut,
            or the legacy `*.h5` of the whole backbone without top that Keras itself downloads.
        image_size: side of the input, in pixels.
        feature_layer: the last layer to keep, or None for all. Default None.
        seed: of the random weights. Default 0.

    Returns:
        A `keras.Model` from normalized `(batch, size, size, 3)` to a feature map
        `(batch, height, width, channels)`.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
        ModelError: the file in the package is missing or damaged.
        OptionError: no such backbone or layer, or a size that it cannot take.
    """
    import keras

    spec = backbone_spec(name)
    module, function = spec.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    arguments = {
        "include_top": False,
        "input_shape": (image_size, image_size, 3),
        **spec.builder_arguments,
    }
    keras.utils.set_random_seed(seed)
    try:
        if weights == "imagenet":
            whole = _with_imagenet(spec, lambda: builder(weights="imagenet", **arguments))
        else:
            whole = builder(weights=None, **arguments)
    except ValueError as error:
        raise OptionError(
            f"--image-size {image_size}: {name} cannot be built for it ({_first_line(error)})"
        ) from None
    backbone = _cut(whole, name, feature_layer)
    if weights == "embedded":
        weights = str(embedded_file(spec.weights_file))
    if weights not in ("imagenet", "none"):
        _load(whole, backbone, weights, name, feature_layer)
    backbone.trainable = False
    for layer in backbone.layers:
        # Frozen means that training is not seen inside. Keras passes the outer model's `training`
        # on to such layers, so their own dropout (EfficientNet's drop connect) is turned off.
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return backbone


def _is_legacy(weights: str) -> bool:
    """Says whether a path is a Keras 2 weights file, which always holds the whole backbone."""
    lower = weights.lower()
    return lower.endswith((".h5", ".hdf5")) and not lower.endswith(".weights.h5")


def _cut(whole, name: str, feature_layer: str | None):
    import keras

    if feature_layer is None:
        output = whole.output
    else:
        names = [layer.name for layer in whole.layers]
        if feature_layer not in names:
            near = difflib.get_close_matches(feature_layer, names, 3, 0.4) or names[-3:]
            raise OptionError(
                f"--feature-layer {feature_layer}: {name} has no such layer. "
                f"Near it: {', '.join(near)}"
            )
        output = whole.get_layer(feature_layer).output
    if len(output.shape) != 4:
        raise OptionError(
            f"--feature-layer {feature_layer}: its output has the shape {tuple(output.shape)}; "
            "accepted is a feature map (batch, height, width, channels)"
        )
    if feature_layer is None:
        return whole
    return keras.Model(whole.input, output, name=whole.name)


def _load(whole, backbone, weights: str, name: str, feature_layer: str | None) -> None:
    """Loads a file into the backbone as cut, or into all of it where the file holds all."""
    import h5py

    until = f"cut at {feature_layer}" if feature_layer else "whole"
    try:
        if _is_legacy(weights):
            model = whole
        else:
            # Keras loads a file with too few layers without an error, and leaves the others random.
            with h5py.File(weights) as file:
                held = _count_variables(file)
            model = next((m for m in (backbone, whole) if len(m.weights) == held), None)
            if model is None:
                raise ValueError(f"it holds {held} variables, not {len(backbone.weights)}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights)
    # h5py and Keras raise what they like for a file that lies about itself.
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
        UserWarning,
    ) as error:
        raise WeightsError(
            f"--weights {weights}: the file does not fit {name}, {until}, which has "
            f"{len(backbone.layers)} layers and {backbone.count_params():,} parameters "
            f"({_first_line(error)}). Give the weights of the backbone as cut, or the "
            "--feature-layer that the file was saved with."
        ) from None


def _count_variables(file) -> int:
    """Counts the variables of a `.weights.h5` file: the data sets in groups called vars."""
    count = 0

    def visit(path: str, item) -> None:
        nonlocal count
        count += hasattr(item, "shape") and path.split("/")[-2:-1] == ["vars"]

    file.visititems(visit)
    return count


def _with_imagenet(spec: BackboneSpec, build: Callable[[], Any]):
    """Calls Keras' own loader, with its progress on standard error and its errors explained."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return build()
    except Exception as error:
        # Keras raises a bare Exception when a download fails, ValueError when a hash is wrong and
        # OSError when a cached file is damaged.
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        raise WeightsError(
            f"the ImageNet weights of {spec.name} cannot be had ({_first_line(error)}).\n"
            "Three ways on:\n"
            f"  a file: --weights FILE, Keras weights of {spec.name} without its top\n"
            f"  the cache folder: copy the file that Keras names above to {cache}, or remove a\n"
            "    damaged one there\n"
            f"  the embedded backbone, which needs no download: --backbone {EMBEDDED_BACKBONE}"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def normalize(images, normalization: str, prefix: str = ""):
    """Adds the backbone's own normalization to a functional model, from built-in layers only.

    Args:
        images: Keras tensor `(batch, size, size, 3)`, RGB in [0, 255].
        normalization: see `BackboneSpec`.
        prefix: what the layer's name, `normalization`, begins with. Default nothing.

    Returns:
        Keras tensor of the same shape.
    """
    import keras

    name = f"{prefix}normalization"
    if normalization == "inside":
        return images
    if normalization == "symmetric":
        return keras.layers.Rescaling(1 / 127.5, -1.0, name=name)(images)
    if normalization == "torch":
        deviation = (0.229, 0.224, 0.225)
        mean = (0.485, 0.456, 0.406)
        return keras.layers.Rescaling(
            [1 / (255 * d) for d in deviation],
            [-m / d for m, d in zip(mean, deviation, strict=True)],
            name=name,
        )(images)
    if normalization == "caffe":
        flipped = keras.ops.flip(images, axis=-1)
        return keras.layers.Rescaling(1.0, [-103.939, -116.779, -123.68], name=name)(flipped)
    raise ValueError(f"unknown normalization {normalization!r}")


def weights_hash(backbone) -> str:
    """Hashes a backbone's weights: 32 hexadecimal digits (BLAKE2b over the bytes, in order)."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in backbone.weights:
        array = weight.numpy()
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def join_hashes(hashes: Mapping[str, str]) -> str:
    """Makes one hash of those of a model's backbones, by name; of one backbone it is its own."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return fingerprint(dict(hashes))


def fingerprint(parts: dict[str, Any]) -> str:
    """Hashes a description: 32 hexadecimal digits (BLAKE2b over sorted JSON)."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
