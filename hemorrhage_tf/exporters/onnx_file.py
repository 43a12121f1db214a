"""ONNX: conversion of a model by tf2onnx, and static int8 by ONNX Runtime.

A model with a scan model becomes two files, because an ONNX file holds one graph.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.exporters.converter_output import silence_converter
from hemorrhage_tf.exporters.saved_model import image_function, scan_function, served_module
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.models.metadata import METADATA_FILE, ModelMetadata

# ONNX Runtime 1.14 and later read it.
OPSET = 18
_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")

# As in a TFLite file, only the backbone is quantized; of PhantomNet not the first layers and the
# decoder. See docs/decisions.md.
_OPERATORS = ("Conv", "Add", "MaxPool", "AveragePool")
_FLOAT_LAYERS = r"phantomnet(_\d+)?/(stem|stage1|top\d|evidence)"


def require_onnx() -> None:
    """Check that the packages for ONNX are installed.

    Raises:
        OptionError: One is missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise OptionError(
            f"an .onnx target needs {', '.join(missing)}. Install it with "
            "pip install 'hemorrhage_tf[onnx]'."
        )


def convert_classifier(
    classifier: Any,
    image_size: int,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray] = (),
    scan_model: Any = None,
) -> Any:
    """Convert a classifier to an ONNX model.

    Args:
        classifier: The Keras model, from pixels to probability.
        image_size: Side of its input, in pixels.
        settings: The settings of the export; `quantize` "none" or "int8".
        calibration: float32 `(size, size, 3)` images in [0, 255] to calibrate int8 on.
        scan_model: The Keras model from `build_scan_model`; None if there is none. With one, the
            model also outputs `features`. Defaults to None.

    Returns:
        An `onnx.ModelProto` from `image`, `(batch, size, size, 3)`, to `probability` `(batch, 1)`,
        and `subtypes`, `features` and `cam` where there are any.

    Raises:
        OptionError: Int8 without images to calibrate on.
    """
    import tensorflow as tf

    settings.require_calibration(calibration)
    module = served_module(classifier, scan_model)
    spec = tf.TensorSpec((None, image_size, image_size, 3), settings.input_type, name="image")
    serve = image_function(module, spec, settings.cam)
    with silence_converter():
        model = _convert(serve, [spec], ("batch",))
        if settings.quantize == "int8":
            backbones = [layer.name for layer in classifier.layers if hasattr(layer, "layers")]
            model = _quantize(model, backbones, settings.input_type, calibration)
    return model


def convert_scan_model(classifier: Any, scan_model: Any) -> Any:
    """Convert a scan model to an ONNX model of its own.

    Args:
        classifier: The Keras model that its features come from.
        scan_model: The Keras model from `build_scan_model`.

    Returns:
        An `onnx.ModelProto` with the inputs `features`, `geometry` and `mask` and the outputs
        `probability` and `slice_probability` of `build_scan_model`.
    """
    import tensorflow as tf

    function = scan_function(served_module(classifier, scan_model), scan_model)
    specs = [
        tf.TensorSpec((None, *scan_model.input[name].shape[1:]), tf.float32, name=name)
        for name in ("features", "geometry", "mask")
    ]
    with silence_converter():
        return _convert(function, specs, ("batch", "slices"))


def write_onnx(path: Path, model: Any, metadata: ModelMetadata, description: str) -> None:
    """Write an ONNX model with its metadata, after `onnx.checker` has passed it.

    Args:
        path: The target.
        model: An `onnx.ModelProto`; its previous metadata is replaced.
        metadata: Stored as JSON in the property `hemorrhage_tf.json`.
        description: A sentence that describes the model.
    """
    import onnx

    model.doc_string = description
    model.producer_name = "hemorrhage_tf"
    text = json.dumps(metadata.to_dict(), indent=2, sort_keys=True)
    onnx.helper.set_model_props(model, {METADATA_FILE: text})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _convert(function: Any, specs: Sequence[Any], dimensions: Sequence[str]) -> Any:
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(function, specs, opset=OPSET)
    _store_captured(model, function.get_concrete_function())
    for value in [*model.graph.input, *model.graph.output]:
        for dim, name in zip(value.type.tensor_type.shape.dim, dimensions, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = name
    return model


def _store_captured(model: Any, function: Any) -> None:
    """Store tensors that the function captured, which tf2onnx turns into inputs, as weights."""
    from onnx import numpy_helper

    captured = {inside.name: outside for outside, inside in function.graph.captures}
    used = {name for node in model.graph.node for name in node.input}
    for entry in [one for one in model.graph.input if one.name in captured]:
        model.graph.input.remove(entry)
        if entry.name in used:
            values = captured[entry.name].numpy()
            model.graph.initializer.append(numpy_helper.from_array(values, entry.name))


def _quantize(
    model: Any, backbones: Sequence[str], input_type: str, calibration: Sequence[np.ndarray]
) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": cast_images(image[np.newaxis], input_type)}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            nodes_to_quantize=_nodes_to_quantize(model, backbones),
            op_types_to_quantize=list(_OPERATORS),
        )
        return onnx.load(path)


def _nodes_to_quantize(model: Any, backbones: Sequence[str]) -> list[str]:
    """Return the names of the nodes of the backbones that int8 does not change much."""
    names = "|".join(re.escape(name) for name in backbones)
    inside, left_out = re.compile(rf"(^|/)({names})(_\d+)?/"), re.compile(_FLOAT_LAYERS)
    consumers: dict[str, Any] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, node)

    def layer(node: Any) -> str:
        # Folding and transposing drop the layer from a node's name: the next node has it.
        while "/" not in node.name and node.output[0] in consumers:
            node = consumers[node.output[0]]
        return node.name

    return [
        node.name
        for node in model.graph.node
        if node.op_type in _OPERATORS
        and inside.search(layer(node))
        and not left_out.search(layer(node))
    ]
