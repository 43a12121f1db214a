from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.exporters.tflite_metadata import add_metadata, operator_names
from hemorrhage_tf.models.metadata import FORMAT_VERSION, read_metadata_values
from hemorrhage_tf.version import __version__

VALUES = {"format_version": FORMAT_VERSION, "threshold": 0.25, "labels": ["normal", "hemorrhage"]}
LABELS = ("normal", "hemorrhage")
DESCRIPTION = "Finds it. Tüchtig."
FILES = ["labels.txt", "hemorrhage_tf.json"]
IMAGE = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)


def convert(
    folder, *names: str, image: str = "image", width: int = 8, custom: bool = False
) -> bytes:
    """Convert a small model with these outputs."""
    import tensorflow as tf

    module = tf.Module()
    kernel = np.random.default_rng(1).normal(0, 0.01, (3, 3, 3, width))
    module.kernel = tf.Variable(kernel, dtype=tf.float32)

    def forward(pixels):
        features = tf.nn.relu(tf.nn.conv2d(pixels, module.kernel, 1, "SAME"))
        cam = tf.reduce_mean(features, axis=-1)
        if custom:
            cam = tf.math.tan(cam)
        probability = tf.sigmoid(tf.reduce_mean(cam, axis=(1, 2)))[:, None]
        outputs = {"probability": probability, "cam": cam, "logit": probability - 1}
        return {name: outputs[name] for name in names}

    spec = tf.TensorSpec((1, 8, 8, 3), tf.float32, name=image)
    serve = tf.function(forward, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if custom:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    return bytes(converter.convert())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    return convert(tmp_path_factory.mktemp("model"), "probability", "cam")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> bytes:
    from litert_quantizer import Quantizer, recipe

    folder = tmp_path_factory.mktemp("quantized")
    path = folder / "model.tflite"
    # From 256 KiB on, the quantizer writes weights after the flatbuffer.
    path.write_bytes(convert(folder, "probability", "cam", width=10_000))
    quantizer = Quantizer(str(path))
    quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    return bytes(quantizer.quantize().quantized_model)


def add(model: bytes, values=VALUES) -> bytes:
    return add_metadata(model, values=values, labels=LABELS, description=DESCRIPTION)


@pytest.fixture(scope="module")
def finished(model) -> bytes:
    return add(model)


def run(model: bytes) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=model).get_signature_runner()(image=IMAGE)


class Table:
    """A table of a flatbuffer, read with `struct` alone; fields have the numbers of the schema."""

    def __init__(self, data: bytes, position: int | None = None) -> None:
        self.data = data
        self.position = self._unpack("<I", 0) if position is None else position

    def _unpack(self, form: str, position: int):
        return struct.unpack_from(form, self.data, position)[0]

    def _at(self, field: int) -> int | None:
        vtable = self.position - self._unpack("<i", self.position)
        place = 4 + 2 * field
        if place >= self._unpack("<H", vtable):
            return None
        offset = self._unpack("<H", vtable + place)
        return self.position + offset if offset else None

    def _follow(self, field: int) -> int:
        at = self._at(field)
        assert at is not None, f"field {field} is missing"
        return at + self._unpack("<I", at)

    def number(self, field: int, form: str = "<b"):
        at = self._at(field)
        return 0 if at is None else self._unpack(form, at)

    def has(self, field: int) -> bool:
        return self._at(field) is not None

    def table(self, field: int) -> Table:
        return Table(self.data, self._follow(field))

    def vector(self, field: int) -> tuple[int, int]:
        start = self._follow(field)
        return start + 4, self._unpack("<I", start)

    def content(self, field: int) -> bytes:
        start, length = self.vector(field)
        return self.data[start : start + length]

    def text(self, field: int) -> str:
        return self.content(field).decode()

    def floats(self, field: int) -> list[float]:
        start, length = self.vector(field)
        return list(struct.unpack_from(f"<{length}f", self.data, start))

    def tables(self, field: int) -> list[Table]:
        if not self.has(field):
            return []
        start, length = self.vector(field)
        places = range(start, start + 4 * length, 4)
        return [Table(self.data, place + self._unpack("<I", place)) for place in places]


def metadata_of(model: bytes) -> Table:
    """Follow model.metadata (field 6) to model.buffers (4), like tflite-support."""
    root = Table(model)
    entries = [entry for entry in root.tables(6) if entry.text(0) == "TFLITE_METADATA"]
    assert len(entries) == 1
    content = root.tables(4)[entries[0].number(1, "<I")].content(0)
    assert content[4:8] == b"M001"
    return Table(content)


class TestAddMetadata:
    def test_changes_no_output(self, model, finished):
        before, after = run(model), run(finished)
        assert before.keys() == after.keys() == {"probability", "cam"}
        for name, expected in before.items():
            assert np.ptp(expected) or name == "probability"
            np.testing.assert_array_equal(after[name], expected)

    def test_preserves_weights_after_the_flatbuffer(self, quantized):
        # Otherwise the quantizer has changed and this tests nothing.
        offsets = [buffer.number(1, "<Q") for buffer in Table(quantized).tables(4)]
        assert max(offsets) > 1
        before, after = run(quantized), run(add(quantized))
        for name, expected in before.items():
            np.testing.assert_array_equal(after[name], expected)

    def test_describes_the_model(self, finished):
        described = metadata_of(finished)
        assert finished[4:8] == b"TFL3"
        assert described.text(0) == "hemorrhage_tf"
        assert described.text(1) == DESCRIPTION
        assert described.text(2) == __version__
        assert described.text(5) == "Apache-2.0"
        assert described.text(7) == "1.0.0"
        assert [(each.text(0), each.number(2)) for each in described.tables(6)] == [(FILES[1], 1)]

    def test_describes_the_image(self, finished):
        (subgraph,) = metadata_of(finished).tables(3)
        (image,) = subgraph.tables(2)
        assert image.text(0) == "image"
        assert "[0, 255]" in image.text(1)
        content = image.table(3)
        assert content.number(0) == 2, "ImageProperties"
        assert content.table(1).number(0) == 1, "RGB"
        (unit,) = image.tables(4)
        assert unit.number(0) == 1, "NormalizationOptions"
        assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])
        assert (image.table(5).floats(1), image.table(5).floats(0)) == ([0.0], [255.0])

    def test_describes_the_outputs_in_the_order_of_the_tensors(self, finished):
        signature = {
            output.number(1, "<I"): output.text(0)
            for output in Table(finished).tables(7)[0].tables(1)
        }
        start, count = Table(finished).tables(2)[0].vector(2)
        tensors = struct.unpack_from(f"<{count}i", finished, start)
        outputs = metadata_of(finished).tables(3)[0].tables(3)
        assert [output.text(0) for output in outputs] == [signature[index] for index in tensors]
        assert all(output.table(3).number(0) == 1 for output in outputs), "FeatureProperties"

        by_name = {output.text(0): output for output in outputs}
        stats = by_name["probability"].table(5)
        assert (stats.floats(1), stats.floats(0)) == ([0.0], [1.0])
        (labels,) = by_name["probability"].tables(6)
        assert (labels.text(0), labels.number(2)) == ("labels.txt", 1)
        assert not by_name["cam"].has(5) and not by_name["cam"].has(6)

    def test_reads_the_order_from_the_model(self, finished):
        # The converter sorts by name; other tools may not, so reverse the order.
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        tree = schema.ModelT.InitFromPackedBuf(finished)
        tree.subgraphs[0].outputs = tree.subgraphs[0].outputs[::-1]
        builder = flatbuffers.Builder()
        builder.Finish(tree.Pack(builder), b"TFL3")

        def names(content):
            return [each.text(0) for each in metadata_of(content).tables(3)[0].tables(3)]

        assert names(add(bytes(builder.Output()))) == names(finished)[::-1]

    def test_without_a_class_activation_map(self, tmp_path):
        described = metadata_of(add(convert(tmp_path, "probability"))).tables(3)[0].tables(3)
        assert [each.text(0) for each in described] == ["probability"]

    def test_packs_files_that_all_readers_accept(self, finished, tmp_path):
        path = tmp_path / "model.tflite"
        path.write_bytes(finished)
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == FILES
            assert archive.read(FILES[0]) == b"normal\nhemorrhage\n"
            text = archive.read(FILES[1]).decode()
            assert text == json.dumps(VALUES, indent=2, sort_keys=True)
            for member in archive.infolist():
                # Offsets from the start of the file; Python alone would accept others.
                assert finished[member.header_offset :][:4] == b"PK\3\4"
                assert member.compress_type == zipfile.ZIP_STORED

    def test_names_every_packed_file(self, finished):
        metadata = metadata_of(finished)
        outputs = metadata.tables(3)[0].tables(3)
        named = [each.text(0) for output in outputs for each in output.tables(6)]
        named += [each.text(0) for each in metadata.tables(6)]
        assert sorted(named) == sorted(FILES)

    @pytest.mark.parametrize("name", ["model", "quantized"])
    def test_aligns_the_weights(self, name, request):
        finished = add(request.getfixturevalue(name))
        buffers = [buffer for buffer in Table(finished).tables(4) if buffer.has(0)]
        assert len(buffers) > 3
        assert {buffer.vector(0)[0] % 16 for buffer in buffers} == {0}

    def test_replaces_existing_metadata(self, finished):
        assert add(finished) == finished
        changed = add(finished, {**VALUES, "threshold": 0.5})
        assert len(Table(changed).tables(4)) == len(Table(finished).tables(4))
        with zipfile.ZipFile(io.BytesIO(changed)) as archive:
            assert archive.namelist() == FILES
            assert json.loads(archive.read(FILES[1]))["threshold"] == 0.5
        metadata_of(changed)

    def test_preserves_other_metadata(self, model, finished):
        others = {entry.text(0) for entry in Table(model).tables(6)}
        assert others
        assert {entry.text(0) for entry in Table(finished).tables(6)} == others | {
            "TFLITE_METADATA"
        }

    def test_changes_no_argument(self, model):
        before = bytes(bytearray(model))
        add(model)
        assert model == before

    @pytest.mark.parametrize("content", [b"", b"no model", b"\x1c\0\0\0TFL2" + bytes(32)])
    def test_rejects_other_files(self, content):
        with pytest.raises(ModelError, match="bytes 4 to 8 .* Pass a TFLite model"):
            add(content)

    def test_rejects_other_outputs(self, tmp_path):
        named = "must name them probability, subtypes, features, cam"
        with pytest.raises(ModelError, match=f"outputs logit: .*{named}"):
            add(convert(tmp_path, "logit"))

    def test_rejects_other_inputs(self, tmp_path):
        with pytest.raises(ModelError, match="inputs pixels: .*must name them image"):
            add(convert(tmp_path, "probability", image="pixels"))

    def test_rejects_a_model_without_a_signature(self, model):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        tree = schema.ModelT.InitFromPackedBuf(model)
        tree.signatureDefs = None
        builder = flatbuffers.Builder()
        builder.Finish(tree.Pack(builder), b"TFL3")
        with pytest.raises(ModelError, match="inputs without a name"):
            add(bytes(builder.Output()))


class TestReadMetadataValues:
    @pytest.fixture
    def path(self, tmp_path, finished):
        path = tmp_path / "model.tflite"
        path.write_bytes(finished)
        return path

    def pack(self, path, model: bytes, text: str | bytes, name: str = FILES[1]):
        content = io.BytesIO(model)
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr(name, text)
        path.write_bytes(content.getvalue())

    def test_returns_the_added_values(self, path):
        assert read_metadata_values(path) == VALUES

    def test_imports_no_tensorflow(self, path):
        code = (
            "import sys; from pathlib import Path\n"
            "from hemorrhage_tf.models.metadata import read_metadata_values\n"
            "read_metadata_values(Path(sys.argv[1]))\n"
            "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'scipy', 'pydicom', 'nibabel'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_rejects_a_missing_file(self, tmp_path):
        path = tmp_path / "model.tflite"
        with pytest.raises(ModelError, match="not a complete .tflite file.*No such file"):
            read_metadata_values(path)

    @pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4 a .keras file", b"text" * 9])
    def test_rejects_another_file(self, path, content):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a complete .tflite file"):
            read_metadata_values(path)

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
    def test_rejects_a_truncated_file(self, path, finished, share):
        path.write_bytes(finished[: int(share * len(finished))])
        with pytest.raises(ModelError, match="not a complete .tflite file.*Copy it again"):
            read_metadata_values(path)

    def test_rejects_a_file_without_its_last_byte(self, path, finished):
        path.write_bytes(finished[:-1])
        with pytest.raises(ModelError, match="not a complete .tflite file"):
            read_metadata_values(path)

    def test_rejects_a_model_without_metadata(self, path, model):
        path.write_bytes(model)
        with pytest.raises(ModelError, match="not written by hemorrhage-tf.*no hemorrhage_tf.json"):
            read_metadata_values(path)

    def test_rejects_metadata_of_another_program(self, path, model):
        self.pack(path, model, "cat\ndog\n", "labels.txt")
        with pytest.raises(ModelError, match="not written by hemorrhage-tf.*no hemorrhage_tf.json"):
            read_metadata_values(path)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", "{}", '{"format_version": "x"}', b"\xff\xfe{", "[" * 9999],
    )
    def test_rejects_damaged_json(self, path, model, text):
        self.pack(path, model, text)
        with pytest.raises(ModelError, match=re.escape(f"{path}: its metadata is damaged")):
            read_metadata_values(path)

    def test_rejects_a_changed_digit(self, path, finished):
        path.write_bytes(finished.replace(b'"threshold": 0.25', b'"threshold": 0.75'))
        with pytest.raises(ModelError, match="not a complete .tflite file.*CRC"):
            read_metadata_values(path)

    def test_any_damage_to_the_archive_is_reported(self, path, finished):
        with zipfile.ZipFile(path) as archive:
            start = archive.infolist()[0].header_offset
        generator = np.random.default_rng(0)
        for place in generator.permutation(np.arange(start, len(finished)))[:150]:
            content = bytearray(finished)
            content[place] ^= int(generator.integers(1, 256))
            path.write_bytes(content)
            try:
                assert read_metadata_values(path) == VALUES
            except ModelError as error:
                assert str(path) in str(error)

    def test_rejects_a_newer_version(self, path, model):
        values = {**VALUES, "format_version": FORMAT_VERSION + 1}
        path.write_bytes(add(model, values))
        message = rf"newer.*version {FORMAT_VERSION + 1}; .* up to {FORMAT_VERSION}\).*Upgrade"
        with pytest.raises(ModelError, match=message):
            read_metadata_values(path)


class TestOperatorNames:
    def test_returns_builtin_operators(self, model, finished):
        assert operator_names(model) >= {"CONV_2D", "LOGISTIC"}
        assert all(name.isupper() for name in operator_names(model))
        assert operator_names(finished) == operator_names(model)

    def test_marks_custom_operators(self, tmp_path):
        names = operator_names(convert(tmp_path, "probability", "cam", custom=True))
        assert "custom:FlexTan" in names
        assert "CONV_2D" in names and "CUSTOM" not in names

    def test_a_newer_operator_has_a_number(self, model):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        tree = schema.ModelT.InitFromPackedBuf(model)
        tree.operatorCodes[0].builtinCode = 30000
        builder = flatbuffers.Builder()
        builder.Finish(tree.Pack(builder), b"TFL3")
        assert "builtin:30000" in operator_names(bytes(builder.Output()))

    def test_rejects_other_files(self):
        with pytest.raises(ModelError, match="Pass a TFLite model"):
            operator_names(b"PK\3\4 a .keras file")
