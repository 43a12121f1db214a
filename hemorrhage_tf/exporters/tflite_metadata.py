"""Metadata inside a TFLite file in the standard form, and the names of its operators.

The standard form has two parts, which tflite-support, Netron and Android Studio read: a flatbuffer
of `metadata_schema.fbs` in a buffer of the model, which describes the tensors and names files; and
these files, as a ZIP archive after the model. Conversion is the business of `tflite`; TensorFlow is
not imported here.

Reference:
    https://www.tensorflow.org/lite/models/convert/metadata
    https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.metadata import METADATA_FILE
from hemorrhage_tf.version import __version__

LABELS_FILE = "labels.txt"

_MODEL_IDENTIFIER = b"TFL3"
_METADATA_IDENTIFIER = b"M001"
_METADATA_NAME = b"TFLITE_METADATA"
# The first version of the schema has all fields that are written here.
_MIN_PARSER_VERSION = "1.0.0"
# `force_align` of a buffer's data in TFLite's schema: kernels may load whole SIMD registers.
_ALIGNMENT = 16


# Field numbers of metadata_schema.fbs. A union takes two fields; the first holds the type of the
# second.
class _Model:
    NAME, DESCRIPTION, VERSION, SUBGRAPHS = 0, 1, 2, 3
    LICENSE, FILES, MIN_PARSER_VERSION = 5, 6, 7


class _Subgraph:
    INPUTS, OUTPUTS = 2, 3


class _Tensor:
    NAME, DESCRIPTION, CONTENT, PROCESS_UNITS, STATS, FILES = 0, 1, 3, 4, 5, 6


class _Content:
    PROPERTIES_TYPE, PROPERTIES = 0, 1
    FEATURE, IMAGE = 1, 2


class _ImageProperties:
    COLOR_SPACE = 0
    RGB = 1


class _ProcessUnit:
    OPTIONS_TYPE, OPTIONS = 0, 1
    NORMALIZATION = 1


class _Normalization:
    MEAN, STD = 0, 1


class _Stats:
    MAX, MIN = 0, 1


class _File:
    NAME, DESCRIPTION, TYPE = 0, 1, 2
    DESCRIPTIONS = 1


_FEATURE: dict[int, Any] = {_Content.PROPERTIES_TYPE: _Content.FEATURE, _Content.PROPERTIES: {}}

_INPUTS: dict[str, dict[int, Any]] = {
    "image": {
        _Tensor.NAME: "image",
        _Tensor.DESCRIPTION: "Head-CT slice, RGB, raw pixels in [0, 255].",
        _Tensor.CONTENT: {
            _Content.PROPERTIES_TYPE: _Content.IMAGE,
            _Content.PROPERTIES: {_ImageProperties.COLOR_SPACE: _ImageProperties.RGB},
        },
        # The identity, because the model normalizes inside. TensorFlow's Task Library rejects a
        # float input without it.
        _Tensor.PROCESS_UNITS: [
            {
                _ProcessUnit.OPTIONS_TYPE: _ProcessUnit.NORMALIZATION,
                _ProcessUnit.OPTIONS: {_Normalization.MEAN: [0.0], _Normalization.STD: [1.0]},
            }
        ],
        _Tensor.STATS: {_Stats.MIN: [0.0], _Stats.MAX: [255.0]},
    }
}

_OUTPUTS: dict[str, dict[int, Any]] = {
    "probability": {
        _Tensor.NAME: "probability",
        _Tensor.DESCRIPTION: "Probability of intracranial hemorrhage, in [0, 1].",
        _Tensor.CONTENT: _FEATURE,
        _Tensor.STATS: {_Stats.MIN: [0.0], _Stats.MAX: [1.0]},
        _Tensor.FILES: [
            {
                _File.NAME: LABELS_FILE,
                _File.DESCRIPTION: "Labels for a probability near 0 and for one near 1.",
                # Neither type of label file fits two labels of one probability; both produce wrong
                # generated code. TENSOR_VALUE_LABELS uses a value as the index of a label: 0.97
                # would be truncated to 0, "normal". TENSOR_AXIS_LABELS needs a label for each
                # element of the axis, which has one. So the file is a description.
                _File.TYPE: _File.DESCRIPTIONS,
            }
        ],
    },
    "subtypes": {
        _Tensor.NAME: "subtypes",
        _Tensor.DESCRIPTION: "Probability of each subtype, at most that of hemorrhage, in [0, 1]; "
        f"their names and thresholds are in {METADATA_FILE}.",
        _Tensor.CONTENT: _FEATURE,
        _Tensor.STATS: {_Stats.MIN: [0.0], _Stats.MAX: [1.0]},
    },
    "features": {
        _Tensor.NAME: "features",
        _Tensor.DESCRIPTION: "Standardized features, the input of the signature serve_scan.",
        _Tensor.CONTENT: _FEATURE,
    },
    "cam": {
        _Tensor.NAME: "cam",
        _Tensor.DESCRIPTION: "Class activation map: evidence for hemorrhage, in logits.",
        _Tensor.CONTENT: _FEATURE,
    },
}


def add_metadata(
    model: bytes, *, values: dict[str, Any], labels: Sequence[str], description: str
) -> bytes:
    """Add labels and metadata to a TFLite model.

    Existing metadata is replaced. The same arguments result in the same bytes.

    Args:
        model: A model whose signature names the input `image` and the outputs `probability` and,
            optionally, `cam`.
        values: Content of `hemorrhage_tf.json`, from `ModelMetadata.to_dict()`.
        labels: Content of `labels.txt`, the names of 0 and 1.
        description: A sentence that describes the model.

    Returns:
        The model with metadata. Its outputs are unchanged.

    Raises:
        ModelError: Not a TFLite model, or one with other inputs and outputs.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    _check_identifier(model)
    tree = schema.ModelT.InitFromPackedBuf(model)
    _move_data_inside(tree, model)
    packed = _pack_metadata(
        {
            _Model.NAME: "hemorrhage_tf",
            _Model.DESCRIPTION: description,
            _Model.VERSION: __version__,
            _Model.LICENSE: "Apache-2.0",
            _Model.MIN_PARSER_VERSION: _MIN_PARSER_VERSION,
            _Model.SUBGRAPHS: [_describe_tensors(tree)],
            _Model.FILES: [
                {
                    _File.NAME: METADATA_FILE,
                    _File.DESCRIPTION: "Input size, threshold and provenance, as JSON.",
                    _File.TYPE: _File.DESCRIPTIONS,
                }
            ],
        }
    )
    buffer = schema.BufferT(data=np.frombuffer(packed, np.uint8))
    tree.metadata = tree.metadata or []
    for entry in tree.metadata:
        if entry.name == _METADATA_NAME:
            tree.buffers[entry.buffer] = buffer
            break
    else:
        tree.metadata.append(schema.MetadataT(name=_METADATA_NAME, buffer=len(tree.buffers)))
        tree.buffers.append(buffer)

    content = io.BytesIO(_pack_model(tree, len(model) + len(packed)))
    # In append mode the archive's offsets count from the start of the model. Nothing is compressed,
    # because the C++ and Java readers reject compressed members. A ZipInfo with a name alone has no
    # modification time, so that the same model results in the same bytes.
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for name, text in (
            (LABELS_FILE, "".join(f"{label}\n" for label in labels)),
            (METADATA_FILE, json.dumps(values, indent=2, sort_keys=True)),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def rename_signatures(model: bytes, names: Mapping[str, str]) -> bytes:
    """Rename signatures of a TFLite model.

    Args:
        model: A TFLite model without metadata.
        names: New names by present name; those that the model does not have are ignored.

    Raises:
        ModelError: Not a TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    _check_identifier(model)
    tree = schema.ModelT.InitFromPackedBuf(model)
    _move_data_inside(tree, model)
    for signature in tree.signatureDefs:
        name = signature.signatureKey.decode()
        signature.signatureKey = names.get(name, name)
    return bytes(_pack_model(tree, len(model)))


def operator_names(model: bytes) -> set[str]:
    """Return the names of the operators in a TFLite model.

    Args:
        model: A TFLite model.

    Returns:
        Names of builtin operators, such as `CONV_2D`, and of others as `custom:NAME`, such as
        `custom:FlexErf` for an operator that needs TensorFlow on the device.

    Raises:
        ModelError: Not a TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    _check_identifier(model)
    builtin = {
        code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
    }
    root = schema.Model.GetRootAs(model)
    names = set()
    for index in range(root.OperatorCodesLength()):
        operator = root.OperatorCodes(index)
        # Older files have only the deprecated field, which cannot hold codes above 127.
        code = max(operator.BuiltinCode(), operator.DeprecatedBuiltinCode())
        if code == schema.BuiltinOperator.CUSTOM:
            names.add(f"custom:{(operator.CustomCode() or b'').decode()}")
        else:
            names.add(builtin.get(code, f"builtin:{code}"))
    return names


def _check_identifier(model: bytes) -> None:
    identifier = bytes(model[4:8])
    if identifier != _MODEL_IDENTIFIER:
        raise ModelError(
            f"bytes 4 to 8 are {identifier!r}: a TFLite model has {_MODEL_IDENTIFIER!r} there. "
            "Pass a TFLite model."
        )


def _move_data_inside(tree: Any, model: bytes) -> None:
    """Move data that is stored after the flatbuffer into it, because packing would lose it.

    litert-quantizer writes weights there, at offsets from the start of the file.
    """
    import numpy as np

    content = np.frombuffer(model, np.uint8)
    for buffer in tree.buffers:
        # 1 is a placeholder of the converter, not an offset.
        if buffer.offset > 1:
            end = buffer.offset + buffer.size
            buffer.data = content[buffer.offset : end] if buffer.size else None
        buffer.offset = buffer.size = 0
    for subgraph in tree.subgraphs:
        for operator in subgraph.operators or []:
            start = operator.largeCustomOptionsOffset
            if start > 1:
                operator.customOptions = content[start : start + operator.largeCustomOptionsSize]
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0


def _describe_tensors(tree: Any) -> dict[int, Any]:
    """Describe inputs and outputs in the order of the model's tensors, not of the signature."""
    main = tree.subgraphs[0]
    signatures = [each for each in tree.signatureDefs or [] if each.subgraphIndex == 0]

    def describe(kind: str, tensors: Any, known: dict[str, dict[int, Any]]) -> list[dict[int, Any]]:
        named = {
            tensor.tensorIndex: tensor.name.decode()
            for signature in signatures
            for tensor in getattr(signature, kind) or []
        }
        names = [named.get(index, "") for index in tensors]
        if not set(names) <= set(known):
            raise ModelError(
                f"{kind} {', '.join(name or 'without a name' for name in names)}: the model's "
                f"signature must name them {', '.join(known)}. Pass a model that hemorrhage-tf "
                "converted."
            )
        return [known[name] for name in names]

    return {
        _Subgraph.INPUTS: describe("inputs", main.inputs, _INPUTS),
        _Subgraph.OUTPUTS: describe("outputs", main.outputs, _OUTPUTS),
    }


def _pack_metadata(values: dict[int, Any]) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(_pack(builder, values), _METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _pack(builder: Any, value: dict[int, Any] | list[Any] | str) -> int:
    """Pack a table (by field number), a vector of tables or of floats, or a string.

    A number in a table is an enum of one byte. Values that a table refers to must be packed first.
    """
    import numpy as np

    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list) and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if isinstance(value, list):
        members = [_pack(builder, each) for each in value]
        builder.StartVector(4, len(members), 4)
        for offset in reversed(members):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    numbers = {field: each for field, each in value.items() if isinstance(each, int)}
    offsets = {field: _pack(builder, each) for field, each in value.items() if field not in numbers}
    builder.StartObject(max(value, default=-1) + 1)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, number in numbers.items():
        builder.PrependUint8Slot(field, number, 0)
    return builder.EndObject()


class _AlignedBuffer:
    """A `BufferT` that packs its data aligned, which the generated Python code does not."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        return self._buffer.Pack(builder)


def _pack_model(tree: Any, size: int) -> bytearray:
    import flatbuffers

    # A builder that is too small doubles its buffer and copies all weights each time.
    builder = flatbuffers.Builder(size + 2 * _ALIGNMENT * len(tree.buffers) + 2**16)
    tree.buffers = [_AlignedBuffer(buffer) for buffer in tree.buffers]
    builder.Finish(tree.Pack(builder), _MODEL_IDENTIFIER)
    return builder.Output()
