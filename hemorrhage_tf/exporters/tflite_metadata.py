"""Metadata inside a TFLite file, in the standard form, and what else its bytes tell.

The standard form has two parts, which tflite-support, Netron and Android Studio read: a flatbuffer
of `metadata_schema.fbs` in a buffer of the model, which describes the tensors and names files; and
these files, as a ZIP archive behind the model. No conversion here, and no TensorFlow.

Reference:
    https://www.tensorflow.org/lite/models/convert/metadata
    https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.metadata import METADATA_FILE
from hemorrhage_tf.version import __version__

LABELS_FILE = "labels.txt"

_MODEL_IDENTIFIER = b"TFL3"
_METADATA_IDENTIFIER = b"M001"
_METADATA_NAME = b"TFLITE_METADATA"
# The first version of the schema has every field that is written here.
_MIN_PARSER_VERSION = "1.0.0"
# `force_align` of a buffer's data in TFLite's schema: kernels may load whole SIMD registers.
_ALIGNMENT = 16


# Numbers of the fields in metadata_schema.fbs, which are their places in the file. A field of a
# union takes two, the first of which says which member follows.
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


_FEATURE = {_Content.PROPERTIES_TYPE: _Content.FEATURE, _Content.PROPERTIES: {}}

_INPUTS = {
    "image": {
        _Tensor.NAME: "image",
        _Tensor.DESCRIPTION: "Head-CT slice, RGB, with pixels as they are, in [0, 255].",
        _Tensor.CONTENT: {
            _Content.PROPERTIES_TYPE: _Content.IMAGE,
            _Content.PROPERTIES: {_ImageProperties.COLOR_SPACE: _ImageProperties.RGB},
        },
        # Said even though it changes nothing, since the model normalizes inside: TensorFlow's Task
        # Library refuses a float input without it.
        _Tensor.PROCESS_UNITS: [
            {
                _ProcessUnit.OPTIONS_TYPE: _ProcessUnit.NORMALIZATION,
                _ProcessUnit.OPTIONS: {_Normalization.MEAN: [0.0], _Normalization.STD: [1.0]},
            }
        ],
        _Tensor.STATS: {_Stats.MIN: [0.0], _Stats.MAX: [255.0]},
    }
}

_OUTPUTS = {
    "probability": {
        _Tensor.NAME: "probability",
        _Tensor.DESCRIPTION: "Probability of intracranial hemorrhage, in [0, 1].",
        _Tensor.CONTENT: _FEATURE,
        _Tensor.STATS: {_Stats.MIN: [0.0], _Stats.MAX: [1.0]},
        _Tensor.FILES: [
            {
                _File.NAME: LABELS_FILE,
                _File.DESCRIPTION: "What a probability near 0, and one near 1, stands for.",
                # Neither type of label file fits two labels of one probability, and both make
                # generated code wrong. TENSOR_VALUE_LABELS takes a value for the index of a label:
                # 0.97 would be cut to 0 and shown as "normal". TENSOR_AXIS_LABELS wants a label
                # for each element of the axis, which has one. So, a file for people.
                _File.TYPE: _File.DESCRIPTIONS,
            }
        ],
    },
    "cam": {
        _Tensor.NAME: "cam",
        _Tensor.DESCRIPTION: "Class activation map: what speaks for hemorrhage where, in logits.",
        _Tensor.CONTENT: _FEATURE,
    },
}


def add_metadata(
    model: bytes, *, values: dict[str, Any], labels: Sequence[str], description: str
) -> bytes:
    """Puts labels and metadata into a TFLite model.

    Metadata that the model already carries is replaced. Same arguments, same bytes.

    Args:
        model: with an input `image` and outputs `probability` and, if there is one, `cam`, named
            by its signature.
        values: for `hemorrhage_tf.json`, as `ModelMetadata.to_dict()` gives them.
        labels: for `labels.txt`, the names of 0 and 1.
        description: of the model, a sentence for people.

    Returns:
        The model with metadata. It computes what it did before.

    Raises:
        ModelError: not a TFLite model, or one with other inputs and outputs.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    _check_identifier(model)
    tree = schema.ModelT.InitFromPackedBuf(model)
    _fetch_what_lies_behind(tree, model)
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
    # Opened to append, the archive counts its offsets from the start of the model. Nothing is
    # compressed, since the C++ and Java readers refuse what is. A ZipInfo made from a name alone
    # carries no time of day, so that the same model gives the same bytes.
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for name, text in (
            (LABELS_FILE, "".join(f"{label}\n" for label in labels)),
            (METADATA_FILE, json.dumps(values, indent=2, sort_keys=True)),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def operator_names(model: bytes) -> set[str]:
    """Lists the operators that a TFLite model needs.

    Args:
        model: a TFLite model.

    Returns:
        Names of builtin operators, say `CONV_2D`, and of others as `custom:NAME`, say
        `custom:FlexErf` for one that would need TensorFlow on the device.

    Raises:
        ModelError: not a TFLite model.
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
        # Codes above 127 do not fit the first field, which older files have alone.
        code = max(operator.BuiltinCode(), operator.DeprecatedBuiltinCode())
        if code == schema.BuiltinOperator.CUSTOM:
            names.add(f"custom:{(operator.CustomCode() or b'').decode()}")
        else:
            names.add(builtin.get(code, f"builtin:{code}"))
    return names


def _check_identifier(model: bytes) -> None:
    found = bytes(model[4:8])
    if found != _MODEL_IDENTIFIER:
        raise ModelError(
            f"not a TFLite model: bytes 4 to 8 must be {_MODEL_IDENTIFIER!r}. Received: {found!r}"
        )


def _fetch_what_lies_behind(tree, model: bytes) -> None:
    """Brings inside what lies behind the flatbuffer, where packing would lose it.

    litert-quantizer writes weights there, at offsets from the start of the file.
    """
    import numpy as np

    content = np.frombuffer(model, np.uint8)
    for buffer in tree.buffers:
        # 1 is a placeholder of the converter, and no offset.
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


def _describe_tensors(tree) -> dict[int, Any]:
    """Describes inputs and outputs in the order of the model's tensors, not of the signature."""
    main = tree.subgraphs[0]
    signatures = [each for each in tree.signatureDefs or [] if each.subgraphIndex == 0]

    def describe(kind: str, tensors, known: dict[str, dict]) -> list[dict]:
        names = {
            tensor.tensorIndex: tensor.name.decode()
            for signature in signatures
            for tensor in getattr(signature, kind) or []
        }
        found = [names.get(index) for index in tensors]
        if not set(found) <= set(known):
            raise ModelError(
                f"the {kind} must be named {' and '.join(known)} by the model's signature. "
                f"Received: {', '.join(name or 'one without a name' for name in found)}"
            )
        return [known[name] for name in found]

    return {
        _Subgraph.INPUTS: describe("inputs", main.inputs, _INPUTS),
        _Subgraph.OUTPUTS: describe("outputs", main.outputs, _OUTPUTS),
    }


def _pack_metadata(values: dict[int, Any]) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(_pack(builder, values), _METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _pack(builder, value: dict[int, Any] | list | str) -> int:
    """Packs a table (by field number), a vector of tables or of floats, or a string.

    A number in a table is an enum, of one byte. What a table refers to is packed before it, as a
    flatbuffer wants.
    """
    import numpy as np

    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list) and isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, np.float32))
    if isinstance(value, list):
        offsets = [_pack(builder, each) for each in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
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
    """A `BufferT` that packs its data aligned; the generated Python code leaves that out."""

    def __init__(self, buffer) -> None:
        self._buffer = buffer

    def Pack(self, builder) -> int:
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        return self._buffer.Pack(builder)


def _pack_model(tree, size: int) -> bytearray:
    import flatbuffers

    # A builder that is too small doubles, and copies all weights each time.
    builder = flatbuffers.Builder(size + 2 * _ALIGNMENT * len(tree.buffers) + 2**16)
    tree.buffers = [_AlignedBuffer(buffer) for buffer in tree.buffers]
    builder.Finish(tree.Pack(builder), _MODEL_IDENTIFIER)
    return builder.Output()
