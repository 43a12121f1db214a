"""Backbones: the registry, how each backbone is built and normalized, and its weights.

Listing and checking names imports no TensorFlow. Parsing the options of several backbones is the
business of `backbone_options`.
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

# Keras downloads without a time limit, so `fit` would hang on a network that drops packets.
DOWNLOAD_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class BackboneSpec:
    """A registry entry of a backbone.

    Attributes:
        name: The value of `--backbone`.
        builder: `module:function` that builds the Keras model; imported on first use.
        normalization: How RGB in [0, 255] becomes the backbone's input: "caffe" (BGR, ImageNet
            mean subtracted), "torch" (ImageNet mean and standard deviation), "symmetric"
            ([-1, 1]), or "inside" (the backbone normalizes).
        image_size: Side of the input, in pixels. Defaults to 224.
        embedded: Whether it needs no weights file and no download. Defaults to False.
        weights_file: Name of the file in the package with its weights, or None. Defaults to None.
        bfloat16_is_faster: Whether bfloat16 is faster than float32 on a CPU with AVX-512 BF16 or
            AMX, see docs/decisions.md. Defaults to False.
        builder_arguments: Further arguments of the builder. Defaults to none.
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
        """The words that `--weights` accepts besides a file; the first is the default."""
        if self.weights_file is not None:
            return ("embedded", "none")
        return ("none",) if self.embedded else ("imagenet", "none")


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
    """Return the registry entry of a backbone.

    Raises:
        OptionError: An unknown name; the message lists the accepted names.
    """
    if name not in BACKBONES:
        raise OptionError(
            f"--backbone {name}: no such backbone. Pass one of {', '.join(BACKBONES)}."
        )
    return BACKBONES[name]


def resolve_weights(name: str, weights: str | None) -> str:
    """Fill in the default of `--weights` and check that the value suits the backbone.

    Args:
        name: A backbone of the registry.
        weights: "imagenet", "embedded", "none", the path of a file, or None for the default:
            "imagenet" if Keras has such weights for the backbone, "embedded" if the package has
            its weights, else "none".

    Returns:
        "imagenet", "embedded", "none" or the path.

    Raises:
        OptionError: An unknown backbone, or a kind of weights that it does not have.
        WeightsError: The file does not exist.
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
            f"Pass {', '.join(spec.weights_kinds)}, or a Keras weights file."
        )
    check_weights_file(weights, [spec])
    return weights


def check_weights_file(weights: str, specs: Sequence[BackboneSpec]) -> None:
    """Check that a weights file exists.

    Raises:
        WeightsError: It does not; the message lists the words that the backbones accept.
    """
    if not Path(weights).is_file():
        kinds = dict.fromkeys(kind for spec in specs for kind in spec.weights_kinds)
        raise WeightsError(
            f"--weights {weights}: no such file. Pass {', '.join(kinds)}, or a Keras weights file."
        )


def build_backbone(
    name: str,
    weights: str,
    image_size: int,
    feature_layer: str | None = None,
    seed: int = 0,
) -> Any:
    """Build a frozen backbone without its top, up to a feature layer.

    Args:
        name: A backbone of the registry.
        weights: "imagenet" (Keras' own store and cache), "embedded" (a file in the package), "none"
            (random) or a Keras weights file: `*.weights.h5` of the backbone up to its feature
            layer, or of the whole backbone; or the legacy `*.h5` of the whole backbone without top
            that Keras itself downloads.
        image_size: Side of the input, in pixels.
        feature_layer: Name of the last layer to keep, or None for all layers. Defaults to None.
        seed: Random seed of the weights. Defaults to 0.

    Returns:
        A `keras.Model` from normalized float32 `(batch, size, size, 3)` to a feature map
        `(batch, height, width, channels)`.

    Raises:
        WeightsError: The weights are not available, or do not fit.
        ModelError: The file in the package is missing or damaged.
        OptionError: An unknown backbone or layer, or a size that the backbone does not accept.
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
            whole = _with_imagenet_weights(spec, lambda: builder(weights="imagenet", **arguments))
        else:
            whole = builder(weights=None, **arguments)
    except ValueError as error:
        raise OptionError(
            f"--image-size {image_size}: {name} does not accept it ({_first_line(error)}). "
            "Pass another size."
        ) from None
    backbone = _up_to_layer(whole, name, feature_layer)
    if weights == "embedded" and spec.weights_file is not None:
        weights = str(embedded_file(spec.weights_file))
    if weights not in ("imagenet", "none"):
        _load_weights(whole, backbone, weights, name, feature_layer)
    backbone.trainable = False
    for layer in backbone.layers:
        # Keras passes the outer model's `training` flag to the layers of a frozen model, so its
        # own dropout (EfficientNet's drop connect) would stay active.
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return backbone


def _is_legacy(weights: str) -> bool:
    """Return whether a path is a Keras 2 weights file, which always holds the whole backbone."""
    lower = weights.lower()
    return lower.endswith((".h5", ".hdf5")) and not lower.endswith(".weights.h5")


def _up_to_layer(whole: Any, name: str, feature_layer: str | None) -> Any:
    """Return the part of a backbone up to a layer."""
    import keras

    if feature_layer is None:
        output = whole.output
    else:
        names = [layer.name for layer in whole.layers]
        if feature_layer not in names:
            near = difflib.get_close_matches(feature_layer, names, 3, 0.4) or names[-3:]
            raise OptionError(
                f"--feature-layer {feature_layer}: {name} has no such layer. "
                f"Pass the name of a layer, such as {', '.join(near)}."
            )
        output = whole.get_layer(feature_layer).output
    if len(output.shape) != 4:
        raise OptionError(
            f"--feature-layer {feature_layer}: its output has the shape {tuple(output.shape)}. "
            "Pass a layer with a feature map (batch, height, width, channels)."
        )
    if feature_layer is None:
        return whole
    return keras.Model(whole.input, output, name=whole.name)


def _load_weights(
    whole: Any, backbone: Any, weights: str, name: str, feature_layer: str | None
) -> None:
    """Load a file of the backbone up to its feature layer, or of the whole backbone."""
    import h5py

    part = f"{name} up to {feature_layer}" if feature_layer else f"the whole {name}"
    try:
        if _is_legacy(weights):
            model = whole
        else:
            # Keras loads a file with too few layers without an error and leaves the rest random.
            with h5py.File(weights) as file:
                count = _count_variables(file)
            model = next((m for m in (backbone, whole) if len(m.weights) == count), None)
            if model is None:
                raise ValueError(f"it holds {count} variables, not {len(backbone.weights)}")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights)
    # h5py and Keras raise all of these for damaged files.
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        UserWarning,
    ) as error:
        raise WeightsError(
            f"--weights {weights}: the file does not fit {part}, which has "
            f"{len(backbone.layers)} layers and {backbone.count_params():,} parameters "
            f"({_first_line(error)}). Pass the weights of {part}, or the --feature-layer that the "
            "file was saved with."
        ) from None


def _count_variables(file: Any) -> int:
    """Count the variables of a `.weights.h5` file: the data sets in groups named "vars"."""
    count = 0

    def visit(path: str, item: Any) -> None:
        nonlocal count
        count += hasattr(item, "shape") and path.split("/")[-2:-1] == ["vars"]

    file.visititems(visit)
    return count


def _with_imagenet_weights(spec: BackboneSpec, build: Callable[[], Any]) -> Any:
    """Call Keras' own loader, with its progress on standard error and its errors explained."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return build()
    except Exception as error:
        # Keras raises a bare Exception if a download fails, ValueError if a hash is wrong and
        # OSError if a cached file is damaged.
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        raise WeightsError(
            f"the ImageNet weights of {spec.name} are not available ({_first_line(error)}).\n"
            "Do one of these:\n"
            f"  pass --weights FILE, Keras weights of {spec.name} without its top\n"
            f"  copy the file that Keras names above to {cache}, or remove a damaged one there\n"
            f"  pass --backbone {EMBEDDED_BACKBONE}, which needs no download"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def normalize(images: Any, normalization: str, prefix: str = "") -> Any:
    """Add the backbone's own normalization to a functional model, from built-in layers only.

    Args:
        images: Keras tensor `(batch, size, size, 3)`, RGB in [0, 255].
        normalization: "caffe", "torch", "symmetric" or "inside", see `BackboneSpec`.
        prefix: Prefix of the layer's name, `normalization`. Defaults to empty.

    Returns:
        Keras tensor of the same shape.

    Raises:
        ValueError: An unknown normalization.
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


@dataclass(frozen=True)
class BackboneFacts:
    """What a fit needs to know of a backbone to read its cached features.

    Attributes:
        weights_hash: The hash of its weights, see `weights_hash`.
        image_size: Side of its input, in pixels.
        channels: Channels of its feature map.
    """

    weights_hash: str
    image_size: int
    channels: int


def weights_hash(backbone: Any) -> str:
    """Hash a backbone's weights: 32 hexadecimal digits (BLAKE2b over the bytes, in order)."""
    digest = hashlib.blake2b(digest_size=16)
    for weight in backbone.weights:
        array = weight.numpy()
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def join_hashes(hashes: Mapping[str, str]) -> str:
    """Combine the hashes of a model's backbones, by name; return a single hash unchanged."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return fingerprint(dict(hashes))


def fingerprint(parts: dict[str, Any]) -> str:
    """Hash a description: 32 hexadecimal digits (BLAKE2b over sorted JSON)."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
