"""The edge example, in this process and, marked slow, in an environment like a device's."""

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
from hemorrhage_tf.inference.evidence import Decision
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
    "format_version": 5,
}


def load_example():
    spec = importlib.util.spec_from_file_location("edge_predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(EXAMPLE))  # like Python for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLE))
    return module


example = load_example()


def write_images(folder: Path) -> list[Path]:
    """Write an image of every mode, at several sizes, darker and brighter."""
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
    """Write a small convolutional model whose cam averages to the logit, without metadata."""
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
def images(tmp_path_factory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("edge") / "images")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """A model of every kind: dynamic batch; uint8 with batch 1; without cam."""
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
    """Run Python in an environment with only requirements.txt installed."""
    folder = tmp_path_factory.mktemp("edge-device")
    environment = folder / "environment"
    # Without the paths of this process.
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

    created = call([sys.executable, "-m", "venv", environment])
    if created.returncode:
        pytest.skip(f"no virtual environment can be created here: {created.stderr.strip()[-300:]}")
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15"]
    installed = call([*pip, "-r", EXAMPLE / "requirements.txt"])
    if installed.returncode:
        reason = (installed.stderr.strip().splitlines() or ["nothing"])[-1]
        pytest.skip(f"pip cannot install the edge requirements here (offline?): {reason}")
    return lambda *arguments: call([python, *arguments])


def probabilities(model: Path, inputs: np.ndarray) -> np.ndarray:
    """Run the interpreter directly, without the script."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(model)).get_signature_runner("serving_default")
    return np.array([runner(image=image[None])["probability"][0, 0] for image in inputs])


class TestReading:
    def test_pixels_are_those_of_the_library(self, images):
        for path in images:
            pixels = example.read_image(path)
            np.testing.assert_array_equal(pixels, read_slice(path), err_msg=path.name)
            assert pixels.dtype == np.uint8

    @pytest.mark.parametrize("size", [SIZE, 31, 224])
    def test_model_input_is_that_of_the_library(self, images, size):
        for path in images:
            image = example.to_model_input(example.read_image(path), size)
            assert image.dtype == np.float32
            np.testing.assert_array_equal(
                image, resize_to_square(read_slice(path), size), err_msg=path.name
            )

    def test_every_gray_level_and_alpha(self, tmp_path):
        grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
        Image.fromarray(grid, "LA").save(tmp_path / "a.png")
        pixels = example.read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(pixels, read_slice(tmp_path / "a.png"))
        np.testing.assert_allclose(pixels, grid[..., 0] * (grid[..., 1] / 255), atol=0.5)

    def test_rejects_the_files_that_the_library_rejects(self, images, tmp_path):
        content = next(path for path in images if path.name == "RGBA.png").read_bytes()
        bad = {
            "empty.png": b"",
            "text.png": b"not an image",
            "cut.png": content[:-500],
            "huge.png": content[:16] + b"\x00\x00\x27\x10" * 2 + content[24:],
        }
        for name, data in bad.items():
            path = tmp_path / name
            path.write_bytes(data)
            with pytest.raises(SliceError):
                read_slice(path)
            with pytest.raises(example.PredictionError) as caught:
                example.read_image(path)
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)


class TestOverlay:
    CAM = np.array([[-9, -9], [-9, 29]], np.float32)
    DECISION = Decision(probability=0.9, threshold=0.5)

    @pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
    def test_is_colored_only_where_the_evidence_is(self, shape):
        pixels = np.full(shape, 100, np.uint8)
        overlay = np.asarray(example.draw_overlay(pixels, self.CAM, None, self.DECISION))
        assert overlay.shape == (40, 60, 3)
        np.testing.assert_array_equal(overlay[0, 0], [100, 100, 100])
        assert overlay[-1, -1, 0] > overlay[-1, -1, 2] + 60

    def test_below_the_threshold_nothing_is_colored(self):
        pixels = np.full((40, 60), 100, np.uint8)
        overlay = example.draw_overlay(pixels, self.CAM, None, Decision(0.4, 0.5))
        assert (np.asarray(overlay) == 100).all()

    def test_leaves_its_input_unchanged(self):
        pixels = np.full((4, 4), 100, np.uint8)
        example.draw_overlay(pixels, self.CAM, None, self.DECISION)
        assert (pixels == 100).all()

    @pytest.mark.parametrize("crop_head", [True, False])
    def test_equals_the_librarys(self, crop_head):
        pixels = np.pad(draw_phantom(0, 1, 1), ((60, 10), (5, 90)))
        head = find_head(pixels) if crop_head else None
        overlay = example.draw_overlay(pixels, self.CAM, head, self.DECISION)
        model_input = ModelInput(SIZE, crop_head=crop_head)
        expected = draw_overlay(pixels, self.CAM, model_input, self.DECISION)
        np.testing.assert_array_equal(overlay, expected)


@pytest.mark.parametrize("room, name", [("imaging", "head_crop"), ("inference", "evidence")])
def test_files_that_are_the_librarys_own(room, name):
    library = EXAMPLE.parents[1] / "hemorrhage_tf" / room / f"{name}.py"
    assert (EXAMPLE / f"{name}.py").samefile(library)


def test_requirements_are_three():
    lines = (EXAMPLE / "requirements.txt").read_text().split()
    names = [re.match(r"[a-z-]+", line)[0] for line in lines]
    assert names == ["numpy", "pillow", "ai-edge-litert"]


@pytest.fixture
def run(capsys):
    """Run the script in this process; return its exit code, standard output and errors."""

    def run(*arguments) -> tuple[int, str, str]:
        code = example.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


class TestPrediction:
    @pytest.mark.parametrize("kind", ["float32", "uint8", "no_cam"])
    def test_probabilities_are_those_of_the_interpreter(self, run, models, images, kind):
        inputs = np.stack([MODEL_INPUT(read_slice(path)) for path in images])
        if kind == "uint8":
            inputs = np.rint(inputs).astype(np.uint8)
        expected = probabilities(models[kind], inputs)
        assert np.ptp(expected) > 0.2  # otherwise nothing would be compared

        code, stdout, stderr = run(models[kind], *images, "--json")
        assert code == 0, stderr
        rows = json.loads(stdout)
        assert [row["path"] for row in rows] == [str(path) for path in images]
        np.testing.assert_allclose(
            [row["probability"] for row in rows], expected, rtol=0, atol=1e-6
        )
        assert [row["hemorrhage"] for row in rows] == [int(value >= 0.5) for value in expected]
        assert {row["hemorrhage"] for row in rows} == {0, 1}

    def test_probabilities_are_those_of_tensorflow(self, images, tmp_path):
        module = write_model(tmp_path / "model.tflite")
        inputs = np.stack([MODEL_INPUT(read_slice(path)) for path in images])
        np.testing.assert_allclose(
            probabilities(tmp_path / "model.tflite", inputs),
            module.serving_default(inputs)["probability"][:, 0],
            rtol=0,
            atol=1e-5,
        )

    def test_reads_the_head_crop_by_its_new_and_its_old_key(self, models, images, tmp_path):
        old = dict(METADATA, format_version=3, canonical=METADATA["crop_head"])
        del old["crop_head"]
        path = tmp_path / "old.tflite"
        write_model(path)
        image = next(path for path in images if path.name == "phantom.png")
        expected = example.Predictor(models["float32"]).predict(image)
        assert example.Predictor(append_metadata(path, old)).predict(image) == expected
        without = tmp_path / "without.tflite"
        write_model(without)
        append_metadata(without, {**METADATA, "crop_head": False})
        assert example.Predictor(without).predict(image) != expected

    def test_predictor_is_a_class_for_other_programs(self, models, images):
        probability, is_hemorrhage = example.Predictor(models["float32"]).predict(images[0])
        assert 0 < probability < 1 and is_hemorrhage == (probability >= 0.5)

    def test_prints_a_line_for_each_image(self, run, models, images):
        code, stdout, stderr = run(models["float32"], *images[:3], "--threads", "2")
        assert code == 0, stderr
        for line, path in zip(stdout.splitlines(), images[:3], strict=True):
            assert re.fullmatch(
                rf"{re.escape(str(path))}\t[01]\.\d{{6}}\t(normal|hemorrhage)", line
            )

    def test_writes_overlays_under_different_names(self, run, models, images, tmp_path):
        same_name = tmp_path / images[0].name
        Image.new("L", (12, 8)).save(same_name)
        chosen = [images[0], same_name, images[4]]
        folder = tmp_path / "a" / "b"
        code, stdout, stderr = run(models["float32"], *chosen, "--json", "--cam", folder)
        assert code == 0, stderr
        overlays = [Path(row["cam"]) for row in json.loads(stdout)]
        assert sorted(overlays) == sorted(folder.iterdir())
        for image, overlay in zip(chosen, overlays, strict=True):
            with Image.open(overlay) as drawn, Image.open(image) as source:
                assert (drawn.size, drawn.mode) == (source.size, "RGB")

    def test_predicts_a_folder_as_a_scan(self, run, scan_run, tmp_path):
        import hemorrhage_tf as htf

        model = htf.export(scan_run, tmp_path / "scan.tflite", cam=True, quiet=True).path
        folder = tmp_path / "scan"
        folder.mkdir()
        names = ["1.png", "2.png", "10.png", "11.png"]  # as text, 10 would precede 2
        for index, name in enumerate(names):
            Image.fromarray(draw_phantom(0, index, index % 2)).save(folder / name)
        code, stdout, stderr = run(model, folder, "--json")
        assert code == 0, stderr
        result = json.loads(stdout)
        paths = [folder / name for name in names]
        assert [row["path"] for row in result["slices"]] == [str(path) for path in paths]

        library = htf.load(model)
        positions = np.full(len(paths), np.nan)
        expected = library.scan_probabilities(paths, [range(4)], positions)
        (scan,) = result["scans"]
        assert scan["scan"] == str(folder)
        assert scan["probability"] == pytest.approx(expected.scans[0], abs=1e-6)
        assert scan["hemorrhage"] == int(expected.scans[0] >= library.scan_threshold)
        for name, values in (
            ("probability", expected.slices),
            ("probability_in_scan", expected.in_scans),
        ):
            found = [row[name] for row in result["slices"]]
            np.testing.assert_allclose(found, values, atol=1e-6)
        order = np.argsort(-expected.in_scans)[:3]
        assert scan["top_slices"] == [str(paths[index]) for index in order]

        code, stdout, _ = run(model, folder)
        assert [line.split("\t")[0] for line in stdout.splitlines()] == [
            str(folder),
            *map(str, paths),
        ]

    def test_a_scan_without_a_scan_model_is_the_mean_of_its_highest(self, run, models, tmp_path):
        folder = tmp_path / "scan"
        folder.mkdir()
        for index in range(5):
            Image.fromarray(draw_phantom(0, index, index % 2)).save(folder / f"{index}.png")
        code, stdout, stderr = run(models["float32"], folder, "--json")
        assert code == 0, stderr
        result = json.loads(stdout)
        alone = sorted(row["probability"] for row in result["slices"])
        assert result["scans"][0]["probability"] == pytest.approx(np.mean(alone[-3:]), abs=1e-5)

    def test_reports_a_folder_without_images_and_predicts_the_rest(
        self, run, models, images, tmp_path
    ):
        code, stdout, stderr = run(models["float32"], tmp_path, images[0])
        assert code == 1
        assert stderr == f"Error: {tmp_path}: the folder contains no PNG or JPEG image\n"
        assert [line.split("\t")[0] for line in stdout.splitlines()] == [str(images[0])]

    def test_script_imports_neither_the_library_nor_tensorflow(self, models, images):
        code = (
            "import sys; from pathlib import Path\n"
            f"sys.path.insert(0, {str(EXAMPLE)!r})\n"
            "from predict import Predictor\n"
            f"Predictor({str(models['float32'])!r}).predict({str(images[0])!r})\n"
            "assert not {'tensorflow', 'keras', 'hemorrhage_tf'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
class TestOnTheDevice:
    """The script in an environment with only its three requirements."""

    @pytest.mark.parametrize("name", ["tensorflow", "keras", "hemorrhage_tf"])
    def test_package_is_not_installed(self, device, name):
        done = device("-c", f"import {name}")
        assert done.returncode == 1
        assert f"No module named '{name}'" in done.stderr

    def test_probabilities_are_those_of_this_process(self, device, run, models, images):
        done = device(SCRIPT, models["float32"], *images, "--json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)
        expected = json.loads(run(models["float32"], *images, "--json")[1])
        for row, other in zip(rows, expected, strict=True):
            assert row["path"] == other["path"]
            assert row["probability"] == pytest.approx(other["probability"], abs=2e-6)

    def test_errors_have_no_traceback(self, device, models, images, tmp_path):
        (tmp_path / "bad.png").write_text("not an image")
        done = device(SCRIPT, models["float32"], tmp_path / "bad.png", images[0], "--json")
        assert done.returncode == 1
        assert [row["path"] for row in json.loads(done.stdout)] == [str(images[0])]
        assert "Traceback" not in done.stderr


class TestErrors:
    """Errors are one line on standard error."""

    @pytest.fixture
    def error(self, run):
        def error(*arguments) -> str:
            code, stdout, stderr = run(*arguments)
            assert (code, stdout) == (1, "")
            assert re.search(r"^Error: .+\n\Z", stderr, re.M)
            return stderr

        return error

    def test_rejects_a_missing_model(self, error, tmp_path):
        assert "gone.tflite: No such file" in error(tmp_path / "gone.tflite", "a.png")

    @pytest.mark.parametrize("content", [b"", b"not a model"])
    def test_rejects_a_file_that_is_no_model(self, error, tmp_path, content):
        (tmp_path / "m.tflite").write_bytes(content)
        assert "m.tflite: not a .tflite file" in error(tmp_path / "m.tflite", "a.png")

    def test_rejects_a_keras_file(self, error, tmp_path):
        append_metadata(tmp_path / "model.keras", METADATA)
        assert "not a .tflite file" in error(tmp_path / "model.keras", "a.png")

    def test_rejects_a_model_without_metadata(self, error, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        assert "has no metadata" in error(path, "a.png")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "cat\ndog\n")
        assert "has no metadata" in error(path, "a.png")

    def test_rejects_a_truncated_file(self, error, models, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(models["float32"].read_bytes()[:-50])
        assert "truncated" in error(path, "a.png")

    def test_rejects_a_flipped_byte_in_the_metadata(self, error, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3")
        content = append_metadata(path, METADATA).read_bytes()
        path.write_bytes(content.replace(b'"threshold": 0.5', b'"threshold": 0.7'))
        assert "metadata is damaged (Bad CRC-32" in error(path, "a.png")

    @pytest.mark.parametrize(
        ("metadata", "message"),
        [
            ("{", "metadata is damaged"),
            ("[]", "metadata is damaged"),
            ({}, "metadata is damaged"),
            ({**METADATA, "labels": None}, "metadata is damaged"),
            ({**METADATA, "threshold": "high"}, "metadata is damaged"),
            ({**METADATA, "format_version": 6}, "newer hemorrhage-tf. Update"),
            (
                {**METADATA, "window": ["brain", "subdural", "bone"]},
                "3 windows, which PNG",
            ),
            ({**METADATA, "input_range": [0, 1]}, r"input range is \[0, 1\]"),
        ],
    )
    def test_rejects_unsuitable_metadata(self, error, tmp_path, metadata, message):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3")
        assert re.search(message, error(append_metadata(path, metadata), "a.png"))

    @pytest.mark.parametrize("threads", ["0", "-1", "many"])
    def test_rejects_a_wrong_number_of_threads(self, threads, capsys):
        with pytest.raises(SystemExit, match="2"):
            example.main(["m.tflite", "a.png", "--threads", threads])
        assert "--threads" in capsys.readouterr().err

    def test_rejects_a_damaged_model_with_intact_metadata(self, error, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        message = error(append_metadata(path, METADATA), "a.png")
        assert re.search(r"m\.tflite: cannot be loaded \(.+\)\n", message)

    def test_rejects_another_size_than_declared(self, error, tmp_path):
        path = tmp_path / "m.tflite"
        write_model(path)
        message = error(append_metadata(path, {**METADATA, "image_size": 32}), "a.png")
        assert "(1, 16, 16, 3): it must be float32 or uint8 (1, 32, 32, 3)" in message

    def test_rejects_cam_for_a_model_without_it(self, error, models, images, tmp_path):
        message = error(models["no_cam"], images[0], "--cam", tmp_path / "overlays")
        assert "no_cam.tflite: has no cam. Leave out --cam" in message
        assert not (tmp_path / "overlays").exists()

    def test_rejects_a_file_as_the_folder_of_overlays(self, error, models, images, tmp_path):
        (tmp_path / "file").write_text("")
        message = error(models["float32"], images[0], "--cam", tmp_path / "file")
        assert re.search(r"^Error: .*file: File exists$", message, re.M)

    def test_reports_unreadable_images_and_predicts_the_rest(self, run, models, images, tmp_path):
        (tmp_path / "bad.png").write_text("not an image")
        chosen = [tmp_path / "bad.png", images[0], tmp_path / "gone.png"]
        code, stdout, stderr = run(models["float32"], *chosen, "--json")
        assert code == 1
        assert [row["path"] for row in json.loads(stdout)] == [str(images[0])]
        assert [line for line in stderr.splitlines() if line.startswith("Error: ")] == [
            f"Error: {tmp_path / 'bad.png'}: not a PNG or JPEG image",
            f"Error: {tmp_path / 'gone.png'}: no such file",
        ]
