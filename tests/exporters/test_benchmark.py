from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, ModelError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.exporters.benchmark import Measurement, benchmark
from hemorrhage_tf.exporters.benchmark_worker import PHANTOM_COUNT, PHANTOM_SEED, PHANTOM_SIZE
from hemorrhage_tf.models.run_files import MODEL_FILE
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.draw import draw_phantom

QUIET = Progress(quiet=True)
# Held by this process while the workers run, in addition to the libraries that they hold too.
BALLAST_MIB = 1024
FEW = {"threads": 2, "batch_size": 4, "rounds": 2, "progress": QUIET}


@pytest.fixture(scope="module")
def images(kaggle_once):
    return sorted(kaggle_once.rglob("*.png"))[:6]


@pytest.fixture(scope="module")
def measured(exports_once):
    """Two TFLite files measured on phantoms: their processes import no TensorFlow."""
    models = [exports_once / "a.tflite", exports_once / "b.tflite"]
    return benchmark(models, batch_size=32, rounds=3, progress=QUIET)


@pytest.fixture
def answer_of_worker(monkeypatch):
    """Replace the worker's process by its answer."""

    def replace(stdout: str = "", returncode: int = 0, stderr: str = "") -> None:
        done = subprocess.CompletedProcess([], returncode, stdout, stderr)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    return replace


@pytest.mark.slow
class TestMeasurement:
    def test_names_and_formats(self, measured, exports_once):
        assert [each.path for each in measured] == [
            str(exports_once / "a.tflite"),
            str(exports_once / "b.tflite"),
        ]
        assert [each.format for each in measured] == ["tflite", "tflite"]
        assert measured[0].size_bytes == os.path.getsize(exports_once / "a.tflite")

    def test_costs_are_positive(self, measured):
        for each in measured:
            assert each.load_seconds > 0
            assert 0 < each.latency_ms_median <= each.latency_ms_p95
            assert each.throughput > 0
            assert each.peak_mib > 20  # more than Python with NumPy alone

    def test_the_first_model_agrees_with_itself(self, measured):
        first = measured[0]
        assert (first.largest_difference, first.mean_difference, first.changed) == (0, 0, 0)
        assert first.slices == PHANTOM_COUNT

    def test_another_model_differs_like_the_librarys_own_predictions(self, measured, exports_once):
        phantoms = np.stack(
            [
                ModelInput(32)(draw_phantom(PHANTOM_SEED, index, size=PHANTOM_SIZE).hounsfield)
                for index in range(PHANTOM_COUNT)
            ]
        )
        models = [htf.load(exports_once / name) for name in ("a.tflite", "b.tflite")]
        first, second = (model.run(phantoms) for model in models)
        difference = np.abs(first.astype(float) - second.astype(float))
        decisions = (first >= models[0].threshold) != (second >= models[1].threshold)
        other = measured[1]
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


@pytest.mark.slow
def test_every_slice_counts_once_and_the_working_folder_does_not_matter(
    exports_once, images, tmp_path, monkeypatch
):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')\n")
    monkeypatch.chdir(tmp_path)
    # 6 slices in batches of 4: the last batch is filled up with slices that do not count.
    (measurement,) = benchmark([str(exports_once / "a.tflite")], images=images, **FEW)
    assert measurement.slices == 6
    assert measurement.throughput > 0


@pytest.mark.slow
class TestKerasModels:
    def test_run_folder_and_keras_file_agree_and_memory_is_not_inherited(self, fit_once, tmp_path):
        resource = pytest.importorskip("resource")
        shutil.copy(fit_once() / MODEL_FILE, tmp_path / "copy.keras")
        ballast = np.ones(BALLAST_MIB * 2**20, np.uint8)
        models = [fit_once(), tmp_path / "copy.keras", fit_once(seed=1)]
        run, copy, other = benchmark(models, rounds=3, progress=QUIET)
        del ballast
        for each in (run, copy):
            assert (each.largest_difference, each.mean_difference, each.changed) == (0, 0, 0)
            assert each.size_bytes == os.path.getsize(tmp_path / "copy.keras")
        assert [run.format, copy.format] == ["run folder", "keras"]
        assert other.largest_difference > 0
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for each in (run, copy, other):
            assert 50 < each.peak_mib < own - BALLAST_MIB / 2

    def test_images_are_predicted_like_the_library_does(self, fit_once, images):
        models = [fit_once(), fit_once(seed=1)]
        first, other = benchmark(models, images=images, **FEW)
        assert first.slices == other.slices == 6
        expected = [
            [each.probability for each in htf.load(model).predict(images)] for model in models
        ]
        difference = np.abs(np.subtract(*expected))
        assert other.largest_difference == pytest.approx(difference.max(), abs=1e-5)
        assert other.mean_difference == pytest.approx(difference.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "files", "form"),
    [
        ("folder", ["saved_model.pb", "variables/variables.index"], "saved_model"),
        ("model.tflite", [""], "tflite"),
    ],
)
def test_size_includes_every_file_of_a_model(name, files, form, tmp_path, answer_of_worker):
    for file in files:
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    costs = ("load_seconds", "latency_ms_median", "latency_ms_p95", "throughput", "peak_mib")
    answer = {**dict.fromkeys(costs, 1.0), "probabilities": [0.25, 0.75], "threshold": 0.5}
    answer_of_worker(json.dumps(answer))
    (measurement,) = benchmark([tmp_path / name], progress=QUIET)
    assert (measurement.format, measurement.size_bytes) == (form, 1000 * len(files))


class TestErrors:
    def test_rejects_no_model(self):
        with pytest.raises(OptionError, match="MODEL: no model was passed"):
            benchmark([], progress=QUIET)

    @pytest.mark.parametrize(
        ("name", "option"),
        [("threads", "--threads"), ("batch_size", "--batch-size"), ("rounds", "--rounds")],
    )
    @pytest.mark.parametrize("value", [0, -1])
    def test_rejects_a_count_below_one(self, name, option, value, tmp_path):
        with pytest.raises(OptionError, match=f"{option} {value}: out of range. Pass 1 or more"):
            benchmark([tmp_path], **{name: value}, progress=QUIET)

    @pytest.mark.parametrize("name", ["missing", "empty_folder", "model.pb"])
    def test_rejects_a_path_without_a_model_and_lists_the_accepted(self, name, tmp_path):
        (tmp_path / "empty_folder").mkdir()
        (tmp_path / "model.pb").write_text("x")
        with pytest.raises(ModelError, match=rf"{name}: no.* model.* Pass a run folder"):
            benchmark([tmp_path / name], progress=QUIET)

    def test_a_mistake_in_the_last_model_is_reported_before_the_first_is_measured(
        self, exports_once, monkeypatch
    ):
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("was measured"))
        with pytest.raises(ModelError, match="missing: no model there"):
            benchmark([exports_once / "a.tflite", exports_once / "missing"], progress=QUIET)

    def test_rejects_an_empty_list_of_images(self, exports_once):
        with pytest.raises(DataError, match="no images"):
            benchmark([exports_once / "a.tflite"], images=[], progress=QUIET)

    def test_rejects_unreadable_images(self, exports_once, images, tmp_path):
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"x")
        with pytest.raises(DataError, match=r"bad\.png: "):
            benchmark([exports_once / "a.tflite"], images=[images[0], bad], progress=QUIET)

    def test_an_error_of_the_worker_names_the_model_once(self, exports_once, images, tmp_path):
        # Its metadata is intact, so that only the worker can notice the damage.
        damaged = tmp_path / "damaged.tflite"
        damaged.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
        with zipfile.ZipFile(exports_once / "a.tflite") as whole:
            metadata = whole.read("hemorrhage_tf.json")
        with zipfile.ZipFile(damaged, "a") as archive:
            archive.writestr("hemorrhage_tf.json", metadata)
        with pytest.raises(ModelError, match="damaged") as caught:
            benchmark([damaged], images=images, **FEW)
        assert str(caught.value).startswith(f"{damaged}: ")
        assert str(caught.value).count(str(damaged)) == 1

    @pytest.mark.parametrize(
        ("returncode", "stderr", "reason"),
        [
            (1, "Traceback\nRuntimeError: no such op\n\n", "RuntimeError: no such op"),
            (3, "", "exit code 3 and no message"),
            (-9, "earlier words\n", "SIGKILL, probably because the system ran out of memory"),
            (-11, "", "SIGSEGV"),
        ],
    )
    def test_other_failures_are_reported_with_their_reason(
        self, returncode, stderr, reason, exports_once, answer_of_worker
    ):
        answer_of_worker("", returncode, stderr)
        with pytest.raises(ModelError, match="a.tflite: cannot be measured") as caught:
            benchmark([exports_once / "a.tflite"], progress=QUIET)
        assert reason in str(caught.value)
