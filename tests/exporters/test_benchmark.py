from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, ModelError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.exporters.benchmark import (
    PHANTOM_COUNT,
    PHANTOM_SEED,
    PHANTOM_SIZE,
    Measurement,
    benchmark,
)
from hemorrhage_tf.models.run_files import MODEL_FILE
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.draw import draw_phantom as draw_slice

QUIET = Progress(quiet=True)
# This process holds it while the workers run, besides the libraries that they hold too.
BALLAST_MIB = 1024
FEW = {"threads": 2, "batch_size": 4, "rounds": 2, "progress": QUIET}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two small runs with different seeds, and a copy of the first one's model."""
    folder = tmp_path_factory.mktemp("runs")
    slices = folder / "slices"
    for index in range(16):
        class_folder = slices / ("hemorrhage" if index % 2 else "normal")
        class_folder.mkdir(parents=True, exist_ok=True)
        _save(draw_phantom(1, index, index % 2), class_folder / f"{index}.png")
    for name, seed in (("first", 0), ("second", 1)):
        htf.fit(
            slices,
            out=folder / name,
            cache=folder / "cache",
            backbone="tiny",
            image_size=32,
            epochs=1,
            seed=seed,
            quiet=True,
        )
    shutil.copy(folder / "first" / MODEL_FILE, folder / "copy.keras")
    return folder


@pytest.fixture(scope="module")
def images(folder):
    return sorted((folder / "slices").rglob("*.png"))[:6]


@pytest.fixture(scope="module")
def measured(folder):
    """Both forms of one model, and another model, on the phantoms."""
    models = [folder / "first", folder / "copy.keras", folder / "second"]
    ballast = np.ones(BALLAST_MIB * 2**20, np.uint8)
    found = benchmark(models, batch_size=32, rounds=3, progress=QUIET)
    del ballast
    return found


def _save(pixels, path):
    from PIL import Image

    Image.fromarray(pixels).save(path)


def _damaged(source, target):
    """Copies a .keras file, its weights cut short: only the worker can find that out."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as part:
        for name in whole.namelist():
            content = whole.read(name)
            part.writestr(name, content[:100] if name.endswith(".h5") else content)
    return target


class TestMeasurement:
    def test_run_folder_and_its_keras_file_agree_exactly(self, measured):
        run, copy, _ = measured
        for each in (run, copy):
            assert (each.largest_difference, each.mean_difference, each.changed) == (0, 0, 0)
        assert run.slices == copy.slices == PHANTOM_COUNT

    def test_names_and_formats_are_as_given(self, measured, folder):
        assert [each.path for each in measured] == [
            str(folder / name) for name in ("first", "copy.keras", "second")
        ]
        assert [each.format for each in measured] == ["run folder", "keras", "run folder"]

    def test_size_is_that_of_the_model_file(self, measured, folder):
        run, copy, _ = measured
        assert run.size_bytes == os.path.getsize(folder / "first" / MODEL_FILE)
        assert copy.size_bytes == os.path.getsize(folder / "copy.keras")

    def test_costs_are_positive(self, measured):
        for each in measured:
            assert each.load_seconds > 0
            assert 0 < each.latency_ms_median <= each.latency_ms_p95
            assert each.throughput > 0
            assert each.peak_mib > 50  # Python with TensorFlow alone holds more

    def test_peak_memory_is_not_inherited_from_this_process(self, measured):
        resource = pytest.importorskip("resource")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert all(each.peak_mib < own - BALLAST_MIB / 2 for each in measured)

    def test_another_model_differs_by_what_the_library_itself_predicts(self, measured, folder):
        phantoms = np.stack(
            [
                ModelInput(32)(draw_slice(PHANTOM_SEED, index, size=PHANTOM_SIZE).hounsfield)
                for index in range(PHANTOM_COUNT)
            ]
        )
        first, second = (htf.load(folder / name) for name in ("first", "second"))
        expected, found = first.run(phantoms), second.run(phantoms)
        difference = np.abs(expected.astype(float) - found.astype(float))
        decisions = (expected >= first.threshold) != (found >= second.threshold)
        other = measured[2]
        assert other.largest_difference == pytest.approx(difference.max(), abs=1e-5)
        assert other.mean_difference == pytest.approx(difference.mean(), abs=1e-5)
        assert 0 < other.mean_difference < other.largest_difference
        assert other.changed == decisions.sum()

    def test_survives_json(self, measured):
        for each in measured:
            values = json.loads(json.dumps(each.to_dict(), allow_nan=False))
            assert list(values) == [field.name for field in fields(Measurement)]
            assert Measurement(**values) == each

    def test_is_frozen(self, measured):
        with pytest.raises(FrozenInstanceError):
            measured[0].path = "other"


def test_own_images_are_predicted_once_each_whatever_the_batches(folder, images):
    # 6 slices in batches of 4: the last batch is filled up, and what fills it does not count.
    first, other = benchmark([folder / "first", folder / "second"], images=images, **FEW)
    assert first.slices == other.slices == 6
    expected = [
        [finding.probability for finding in htf.predict(folder / name, images, quiet=True)]
        for name in ("first", "second")
    ]
    difference = np.abs(np.subtract(*expected))
    assert other.largest_difference == pytest.approx(difference.max(), abs=1e-5)
    assert other.mean_difference == pytest.approx(difference.mean(), abs=1e-5)


def test_neither_the_working_folder_nor_few_images_lead_the_worker_astray(
    folder, images, tmp_path, monkeypatch
):
    (tmp_path / "keras.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    # Fewer images than a batch holds: they are repeated, and still counted once.
    (found,) = benchmark([str(folder / "first")], images=images[:1], **FEW)
    assert found.slices == 1
    assert found.throughput > 0


@pytest.mark.parametrize(
    ("name", "files", "form"),
    [
        ("folder", ["saved_model.pb", "variables/variables.index"], "saved_model"),
        ("model.tflite", [""], "tflite"),
    ],
)
def test_every_file_of_a_model_counts(name, files, form, tmp_path, monkeypatch):
    for file in files:
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    answer = dict.fromkeys(
        ("load_seconds", "latency_ms_median", "latency_ms_p95", "throughput", "peak_mib"), 1.0
    )
    answer |= {"probabilities": [0.25, 0.75], "threshold": 0.5}
    done = subprocess.CompletedProcess([], 0, json.dumps(answer), "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    (found,) = benchmark([tmp_path / name], progress=QUIET)
    assert (found.format, found.size_bytes) == (form, 1000 * len(files))


class TestErrors:
    def test_no_model(self):
        with pytest.raises(OptionError, match="MODEL: none was given"):
            benchmark([], progress=QUIET)

    @pytest.mark.parametrize(
        ("name", "option"),
        [("threads", "--threads"), ("batch_size", "--batch-size"), ("rounds", "--rounds")],
    )
    @pytest.mark.parametrize("value", [0, -1])
    def test_count_below_one(self, name, option, value, tmp_path):
        with pytest.raises(OptionError, match=f"{option} {value}: must be 1 or more"):
            benchmark([tmp_path], **{name: value}, progress=QUIET)

    @pytest.mark.parametrize("name", ["missing", "empty_folder", "model.onnx"])
    def test_what_is_no_model_is_told_with_what_is_accepted(self, name, tmp_path):
        (tmp_path / "empty_folder").mkdir()
        (tmp_path / "model.onnx").write_text("x")
        with pytest.raises(ModelError, match=f"{name}: no.* Accepted: a run folder"):
            benchmark([tmp_path / name], progress=QUIET)

    def test_mistake_in_the_last_model_is_told_before_the_first_is_measured(
        self, folder, monkeypatch
    ):
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("was measured"))
        with pytest.raises(ModelError, match="missing: no model there"):
            benchmark([folder / "first", folder / "missing"], progress=QUIET)

    def test_no_images(self, folder):
        with pytest.raises(DataError, match="no images"):
            benchmark([folder / "first"], images=[], progress=QUIET)

    def test_unreadable_images_are_told_as_such(self, folder, images, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"x")
        with pytest.raises(DataError, match="bad.png: not in a supported format"):
            benchmark([folder / "first"], images=[images[0], bad], progress=QUIET)

    def test_error_of_the_worker_names_the_model_once(self, folder, images, tmp_path):
        damaged = _damaged(folder / "copy.keras", tmp_path / "damaged.keras")
        with pytest.raises(ModelError, match="damaged") as caught:
            benchmark([damaged], images=images, **FEW)
        assert str(caught.value).startswith(f"{damaged}: ")
        assert str(caught.value).count(str(damaged)) == 1

    @pytest.mark.parametrize(
        ("returncode", "stderr", "told"),
        [
            (1, "Traceback\nRuntimeError: no such op\n\n", "RuntimeError: no such op"),
            (3, "", "exit code 3"),
            (-9, "earlier words\n", "SIGKILL, which is how a system without memory"),
            (-11, "", "SIGSEGV"),
        ],
    )
    def test_other_failures_are_told_by_their_last_words(
        self, returncode, stderr, told, folder, monkeypatch
    ):
        done = subprocess.CompletedProcess([], returncode, "", stderr)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
        with pytest.raises(ModelError, match="first: cannot be measured") as caught:
            benchmark([folder / "first"], progress=QUIET)
        assert told in str(caught.value)
