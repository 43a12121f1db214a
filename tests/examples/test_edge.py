"""The edge example, run as on a device: in an environment with its three requirements alone."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.head_crop import find_head
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.pipeline.model_input import ModelInput, resize_to_square

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "edge"
SCRIPT = EXAMPLE / "predict.py"
SIZE = 16
MODEL_INPUT = ModelInput(SIZE)
METADATA = {
    "image_size": SIZE,
    "threshold": 0.5,
    "labels": ["normal", "hemorrhage"],
    "input_range": [0.0, 255.0],
    "backbone": "tiny",
    "crop_head": True,
    "upright": False,
    "window": None,
    "format_version": 3,
}

# What the interpreter says of arrays, told by a program that knows nothing of the example.
ORACLE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model, inputs, outputs = sys.argv[1:]
run = Interpreter(model_path=model).get_signature_runner("serving_default")
found = [run(image=image[None])["probability"][0, 0] for image in np.load(inputs)]
np.save(outputs, np.array(found))
"""


def load_example():
    spec = importlib.util.spec_from_file_location("edge_predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXAMPLE))  # as Python does for the script that it runs
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLE))
    return module


example = load_example()


def write_pictures(folder: Path) -> list[Path]:
    """Writes a picture of every mode, at several sizes, darker and brighter."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    folder.mkdir()
    paths = []

    def noise(height, width, *channels):
        pixels = random.integers(0, 256, (height, width, *channels), np.uint8)
        return (pixels * (0.2 + 0.8 * random.random())).astype(np.uint8)

    def save(name, image, **options):
        paths.append(folder / name)
        image.save(paths[-1], **options)

    save("1.png", Image.fromarray(noise(21, 33) > 80))
    save("L.png", Image.fromarray(noise(40, 25)))
    save("L-at-size.png", Image.fromarray(noise(SIZE, SIZE)))
    save("L-small.png", Image.fromarray(noise(5, 7)))
    save("L-one-pixel.png", Image.fromarray(noise(1, 1)))
    save("L-transparency.png", Image.fromarray(noise(30, 30) // 32 * 32), transparency=64)
    save("LA.png", Image.fromarray(noise(33, 40, 2), "LA"))
    save("I16.png", Image.fromarray(random.integers(0, 65536, (20, 30), np.uint16)))
    save("RGB.png", Image.fromarray(noise(31, 17, 3)))
    save("RGB-at-size.png", Image.fromarray(noise(SIZE, SIZE, 3)))
    save("RGB-transparency.png", Image.new("RGB", (9, 9), (9, 99, 200)), transparency=(9, 99, 200))
    save("RGBA.png", Image.fromarray(noise(64, 48, 4)))
    palette = Image.fromarray(noise(25, 31), "P")
    palette.putpalette(random.integers(0, 256, 768, np.uint8).tolist())
    save("P.png", palette)
    save("P-transparency.png", palette, transparency=random.bytes(256))
    save("L.jpg", Image.fromarray(noise(40, 40)))
    save("RGB.jpg", Image.fromarray(noise(40, 50, 3)))
    phantom = draw_phantom(0, 1, 1)
    save("phantom.png", Image.fromarray(np.pad(phantom, ((60, 10), (5, 90)))))
    save("phantom.jpg", Image.fromarray(np.pad(phantom, ((0, 0), (30, 0)))))
    save("CMYK.jpeg", Image.fromarray(noise(24, 24, 4), "CMYK"))
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.jpg", Image.fromarray(noise(20, 50, 3)), exif=exif)
    for channels in (2, 3, 4):
        samples = random.integers(0, 65536, (18, 29, channels), np.uint16)
        paths.append(folder / f"16-bit-{channels}.png")
        paths[-1].write_bytes(tf.io.encode_png(samples).numpy())
    return paths


def write_model(path: Path, dtype: str = "float32", batch: int | None = None, cam: bool = True):
    """Writes a small convolutional model whose cam's mean is the logit, without metadata."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self):
            random = np.random.default_rng(0)
            self.kernel = tf.Variable(random.normal(0, 0.006, (3, 3, 3, 8)).astype(np.float32))
            self.weights = tf.Variable(random.normal(0, 1, 8).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((batch, SIZE, SIZE, 3), dtype, "image")])
        def serving_default(self, image):
            image = tf.cast(image, tf.float32)
            features = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
            logits = tf.tensordot(features, self.weights, 1) - 1.5
            probability = tf.sigmoid(tf.reduce_mean(logits, [1, 2]))[:, tf.newaxis]
            return {"probability": probability, **({"cam": logits} if cam else {})}

    module = Tiny()
    function = module.serving_default.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    path.write_bytes(converter.convert())
    return module


def append_metadata(path: Path, metadata: dict | str) -> Path:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("hemorrhage_tf.json", text)
        archive.writestr("labels.txt", "normal\nhemorrhage\n")
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("edge") / "pictures")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """A model of every kind: dynamic batch, uint8 with batch 1, without cam."""
    folder = tmp_path_factory.mktemp("edge-models")
    kinds = {
        "float32": {},
        "uint8": {"dtype": "uint8", "batch": 1},
        "no_cam": {"batch": 1, "cam": False},
    }
    paths = {}
    for name, options in kinds.items():
        paths[name] = folder / f"{name}.tflite"
        write_model(paths[name], **options)
        append_metadata(paths[name], METADATA)
    return paths


@pytest.fixture(scope="session")
def device(tmp_path_factory):
    """Runs Python as on a device: where only requirements.txt is installed."""
    folder = tmp_path_factory.mktemp("edge-device")
    environment = folder / "environment"
    # A device has none of the paths that this process was given.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def call(command):
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd=folder,
            env=variables,
            timeout=240,
        )

    made = call([sys.executable, "-m", "venv", environment])
    if made.returncode:
        pytest.skip(f"no virtual environment can be made here: {made.stderr.strip()[-300:]}")
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15"]
    installed = call([*pip, "-r", EXAMPLE / "requirements.txt"])
    if installed.returncode:
        said = (installed.stderr.strip().splitlines() or ["nothing"])[-1]
        pytest.skip(f"pip cannot install the edge requirements here (offline?): {said}")
    return lambda *arguments: call([python, *arguments])


def probabilities(device, model, inputs, folder) -> np.ndarray:
    np.save(folder / "inputs.npy", inputs)
    told = device("-c", ORACLE, model, folder / "inputs.npy", folder / "outputs.npy")
    assert told.returncode == 0, told.stderr
    return np.load(folder / "outputs.npy")


class TestReading:
    def test_pixels_are_those_of_the_library(self, pictures):
        for path in pictures:
            pixels = example.read_picture(path)
            np.testing.assert_array_equal(pixels, read_slice(path), err_msg=path.name)
            assert pixels.dtype == np.uint8

    @pytest.mark.parametrize("size", [SIZE, 31, 224])
    def test_model_input_is_that_of_the_library(self, pictures, size):
        for path in pictures:
            image = example.to_model_input(example.read_picture(path), size)
            assert image.dtype == np.float32
            np.testing.assert_array_equal(
                image, resize_to_square(read_slice(path), size), err_msg=path.name
            )

    def test_every_gray_and_alpha(self, tmp_path):
        grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
        Image.fromarray(grid, "LA").save(tmp_path / "a.png")
        pixels = example.read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(pixels, read_slice(tmp_path / "a.png"))
        np.testing.assert_allclose(pixels, grid[..., 0] * (grid[..., 1] / 255), atol=0.5)

    def test_refuses_what_the_library_refuses(self, pictures, tmp_path):
        content = next(path for path in pictures if path.name == "RGBA.png").read_bytes()
        bad = {
            "empty.png": b"",
            "text.png": b"no picture",
            "cut.png": content[:-500],
            "huge.png": content[:16] + b"\x00\x00\x27\x10" * 2 + content[24:],
        }
        for name, data in bad.items():
            path = tmp_path / name
            path.write_bytes(data)
            with pytest.raises(SliceError):
                read_slice(path)
            with pytest.raises(example.PredictionError) as caught:
                example.read_picture(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


class TestOverlay:
    CAM = np.array([[-9, -9], [-9, 9]], np.float32)

    @pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
    def test_is_red_only_where_the_logit_is_positive(self, shape):
        pixels = np.full(shape, 100, np.uint8)
        overlay = np.asarray(example.draw_overlay(pixels, self.CAM, None))
        assert overlay.shape == (40, 60, 3)
        np.testing.assert_array_equal(overlay[0, 0], [100, 100, 100])
        np.testing.assert_allclose(overlay[-1, -1], [193, 40, 40], atol=1)

    def test_leaves_its_input_as_it_was(self):
        pixels = np.full((4, 4), 100, np.uint8)
        example.draw_overlay(pixels, self.CAM, None)
        assert (pixels == 100).all()

    def test_is_the_library_s_own_where_a_head_was_cut_out(self):
        pixels = np.pad(draw_phantom(0, 1, 1), ((60, 10), (5, 90)))
        made = example.draw_overlay(pixels, self.CAM, find_head(pixels))
        np.testing.assert_array_equal(made, draw_overlay(pixels, self.CAM, MODEL_INPUT))


def test_canonical_is_the_library_s_own_file():
    library = EXAMPLE.parents[1] / "hemorrhage_tf" / "imaging" / "head_crop.py"
    assert (EXAMPLE / "head_crop.py").samefile(library)


def test_requirements_are_three():
    lines = (EXAMPLE / "requirements.txt").read_text().split()
    names = [re.match(r"[a-z-]+", line)[0] for line in lines]
    assert names == ["numpy", "pillow", "ai-edge-litert"]


class TestOnTheDevice:
    @pytest.mark.parametrize("name", ["tensorflow", "keras", "hemorrhage_tf"])
    def test_has_no_such_package(self, device, name):
        told = device("-c", f"import {name}")
        assert told.returncode == 1
        assert f"No module named '{name}'" in told.stderr

    @pytest.mark.parametrize("kind", ["float32", "uint8", "no_cam"])
    def test_same_numbers_as_the_library(self, device, models, pictures, tmp_path, kind):
        inputs = np.stack([MODEL_INPUT(read_slice(path)) for path in pictures])
        if kind == "uint8":
            inputs = np.rint(inputs).astype(np.uint8)
        expected = probabilities(device, models[kind], inputs, tmp_path)
        assert np.ptp(expected) > 0.2  # else nothing would be compared

        told = device(SCRIPT, models[kind], *pictures, "--json")
        assert told.returncode == 0, told.stderr
        rows = json.loads(told.stdout)
        assert [row["path"] for row in rows] == [str(path) for path in pictures]
        np.testing.assert_allclose(
            [row["probability"] for row in rows], expected, rtol=0, atol=1e-6
        )
        assert [row["hemorrhage"] for row in rows] == [int(value >= 0.5) for value in expected]
        assert {row["hemorrhage"] for row in rows} == {0, 1}

    def test_same_numbers_as_tensorflow(self, device, pictures, tmp_path):
        module = write_model(tmp_path / "model.tflite")
        inputs = np.stack([MODEL_INPUT(read_slice(path)) for path in pictures])
        np.testing.assert_allclose(
            probabilities(device, tmp_path / "model.tflite", inputs, tmp_path),
            module.serving_default(inputs)["probability"][:, 0],
            rtol=0,
            atol=1e-5,
        )

    def test_as_a_module(self, device, models, pictures):
        program = (
            f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); from predict import Predictor; "
            f"print(Predictor({str(models['float32'])!r}).predict({str(pictures[0])!r}))"
        )
        told = device("-c", program)
        assert re.fullmatch(r"\(0\.\d+, (True|False)\)\n", told.stdout), told.stderr

    def test_lines(self, device, models, pictures):
        told = device(SCRIPT, models["float32"], *pictures[:3], "--threads", "2")
        assert told.returncode == 0, told.stderr
        for line, path in zip(told.stdout.splitlines(), pictures[:3], strict=True):
            assert re.fullmatch(
                rf"{re.escape(str(path))}\t[01]\.\d{{6}}\t(normal|hemorrhage)", line
            )

    def test_overlays(self, device, models, pictures, tmp_path):
        twin = tmp_path / pictures[0].name
        Image.new("L", (12, 8)).save(twin)
        images = [pictures[0], twin, pictures[4]]
        told = device(SCRIPT, models["float32"], *images, "--json", "--cam", tmp_path / "a" / "b")
        assert told.returncode == 0, told.stderr
        overlays = [Path(row["cam"]) for row in json.loads(told.stdout)]
        assert sorted(overlays) == sorted((tmp_path / "a" / "b").iterdir())
        for image, overlay in zip(images, overlays, strict=True):
            with Image.open(overlay) as drawn, Image.open(image) as source:
                assert (drawn.size, drawn.mode) == (source.size, "RGB")


class TestErrors:
    """Most run in this process: what is wrong with a file is told before the interpreter loads."""

    @pytest.fixture
    def told(self, capsys):
        def told(*arguments) -> str:
            assert example.main([str(argument) for argument in arguments]) == 1
            output = capsys.readouterr()
            assert output.out == ""
            assert re.fullmatch(r"Error: .+\n", output.err)
            return output.err

        return told

    def test_no_such_model(self, told, tmp_path):
        assert "gone.tflite: No such file" in told(tmp_path / "gone.tflite", "a.png")

    @pytest.mark.parametrize("content", [b"", b"no model at all"])
    def test_no_tflite(self, told, tmp_path, content):
        (tmp_path / "m.tflite").write_bytes(content)
        assert "m.tflite: not a .tflite file" in told(tmp_path / "m.tflite", "a.png")

    def test_keras_file(self, told, tmp_path):
        append_metadata(tmp_path / "model.keras", METADATA)
        assert "not a .tflite file" in told(tmp_path / "model.keras", "a.png")

    def test_no_metadata(self, told, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        assert "carries no metadata" in told(path, "a.png")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "cat\ndog\n")
        assert "carries no metadata" in told(path, "a.png")

    def test_cut_short(self, told, models, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(models["float32"].read_bytes()[:-50])
        assert "cut short" in told(path, "a.png")

    def test_flipped_byte_in_the_metadata(self, told, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3")
        content = append_metadata(path, METADATA).read_bytes()
        path.write_bytes(content.replace(b'"threshold": 0.5', b'"threshold": 0.7'))
        assert "metadata is damaged (Bad CRC-32" in told(path, "a.png")

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ("{", "metadata is damaged"),
            ("[]", "metadata is damaged"),
            ({}, "metadata is damaged"),
            ({**METADATA, "labels": None}, "metadata is damaged"),
            ({**METADATA, "threshold": "high"}, "metadata is damaged"),
            ({**METADATA, "format_version": 4}, "newer hemorrhage-tf"),
            ({**METADATA, "window": ["brain", "subdural", "bone"]}, "3 windows, which no picture"),
            ({**METADATA, "input_range": [0, 1]}, r"takes values in \[0, 1\]"),
        ],
    )
    def test_metadata(self, told, tmp_path, metadata, message):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3")
        assert re.search(message, told(append_metadata(path, metadata), "a.png"))

    @pytest.mark.parametrize("threads", ["0", "-1", "many"])
    def test_threads(self, threads, capsys):
        with pytest.raises(SystemExit, match="2"):
            example.main(["m.tflite", "a.png", "--threads", threads])
        assert "--threads" in capsys.readouterr().err

    def test_interpreter_refuses(self, device, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        told = device(SCRIPT, append_metadata(path, METADATA), "a.png")
        assert told.returncode == 1
        assert re.fullmatch(r"Error: .*m\.tflite: cannot be loaded \(.+\)\n", told.stderr)

    def test_other_size_than_declared(self, device, tmp_path):
        path = tmp_path / "m.tflite"
        write_model(path)
        told = device(SCRIPT, append_metadata(path, {**METADATA, "image_size": 32}), "a.png")
        assert told.returncode == 1
        assert "(1, 16, 16, 3), where float32 or uint8 (1, 32, 32, 3)" in told.stderr

    def test_no_cam(self, device, models, pictures, tmp_path):
        told = device(SCRIPT, models["no_cam"], pictures[0], "--cam", tmp_path / "overlays")
        assert told.returncode == 1
        assert told.stdout == ""
        assert re.search(r"^Error: .*no_cam\.tflite: has no cam", told.stderr, re.M)
        assert not (tmp_path / "overlays").exists()

    def test_cam_folder_is_a_file(self, device, models, pictures, tmp_path):
        (tmp_path / "file").write_text("")
        told = device(SCRIPT, models["float32"], pictures[0], "--cam", tmp_path / "file")
        assert told.returncode == 1
        assert re.search(r"^Error: .*file: File exists$", told.stderr, re.M)

    def test_bad_pictures_are_told_and_the_others_predicted(
        self, device, models, pictures, tmp_path
    ):
        (tmp_path / "bad.png").write_text("no picture")
        told = device(
            *(SCRIPT, models["float32"], tmp_path / "bad.png", pictures[0], tmp_path / "gone.png"),
            "--json",
        )
        assert told.returncode == 1
        assert [row["path"] for row in json.loads(told.stdout)] == [str(pictures[0])]
        errors = [line for line in told.stderr.splitlines() if line.startswith("Error: ")]
        assert errors == [
            f"Error: {tmp_path / 'bad.png'}: not a PNG or JPEG image",
            f"Error: {tmp_path / 'gone.png'}: no such file",
        ]
        assert "Traceback" not in told.stderr
