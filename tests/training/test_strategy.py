from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf
from hemorrhage_tf.models.backbones import backbone_spec
from hemorrhage_tf.models.classifier import build_head
from hemorrhage_tf.training.loop import Loop, Stage, batches
from hemorrhage_tf.training.strategy import cpu_has_bfloat16, resolve_precision, resolve_strategy

FAST = backbone_spec("resnet152")
SLOW = backbone_spec("tiny")


class TestCpuHasBfloat16:
    @pytest.mark.parametrize(
        "text, expected",
        [
            ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
            ("processor : 0\nflags\t\t: fpu amx_bf16\nprocessor : 1\nflags\t\t: fpu\n", True),
            ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_fp16\n", False),
            ("processor : 0\nflags\t\t: fpu not_avx512_bf16 amx_bf16x\n", False),
            ("processor : 0\nmodel name : avx512_bf16\nflags\t\t: fpu\n", False),
            ("processor : 0\nFeatures : fp asimd\n", False),
            ("", False),
        ],
    )
    def test_reads_the_flags(self, tmp_path, text, expected):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        assert cpu_has_bfloat16(path) is expected

    def test_is_false_without_the_file(self, tmp_path):
        assert cpu_has_bfloat16(tmp_path / "no such file") is False


@pytest.fixture
def simulate(monkeypatch, tmp_path):
    """Simulate a number of GPUs; return a file of CPU flags with or without bfloat16."""

    def simulate(gpus: int, bfloat16: bool = False) -> Path:
        import tensorflow as tf

        devices = {"GPU": [object()] * gpus, "CPU": [object()]}
        monkeypatch.setattr(tf.config, "list_logical_devices", devices.__getitem__)
        path = tmp_path / "cpuinfo"
        path.write_text(f"flags : fpu {'avx512_bf16' if bfloat16 else ''}\n")
        return path

    return simulate


class TestResolvePrecision:
    @pytest.mark.parametrize(
        "name, policy",
        [("off", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")],
    )
    @pytest.mark.parametrize("gpus", [0, 1])
    def test_a_named_precision_is_used(self, simulate, name, policy, gpus):
        assert resolve_precision(name, FAST, simulate(gpus, bfloat16=True)) == policy

    @pytest.mark.parametrize(
        "gpus, bfloat16, spec, policy",
        [
            (1, False, SLOW, "mixed_float16"),
            (2, True, FAST, "mixed_float16"),
            (0, True, FAST, "mixed_bfloat16"),
            (0, False, FAST, "float32"),
            (0, True, SLOW, "float32"),
        ],
    )
    def test_auto_depends_on_the_hardware(self, simulate, gpus, bfloat16, spec, policy):
        assert resolve_precision("auto", spec, simulate(gpus, bfloat16)) == policy

    def test_keras_knows_each_policy(self):
        import keras

        for name in ("off", "bfloat16", "float16"):
            policy = keras.dtype_policies.get(resolve_precision(name, SLOW))
            assert policy.variable_dtype == "float32"


class TestResolveStrategy:
    def test_none_is_the_default_strategy(self):
        import tensorflow as tf

        strategy = resolve_strategy("none")
        assert strategy is tf.distribute.get_strategy()
        assert strategy.num_replicas_in_sync == 1

    def test_auto_without_gpus_is_the_default_strategy(self, simulate):
        import tensorflow as tf

        simulate(gpus=0)
        assert resolve_strategy("auto") is tf.distribute.get_strategy()

    def test_a_strategy_is_returned_unchanged(self):
        import tensorflow as tf

        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        assert resolve_strategy(strategy) is strategy


@pytest.mark.filterwarnings("ignore:To make it possible to preserve tf.data options")
def test_a_mirrored_loop_trains_the_weights_of_the_default_strategy():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    features = rng.normal(size=(13, 3)).astype(np.float32)
    labels = np.arange(13) % 2
    weights = []
    for name in ("none", "mirrored"):
        strategy = resolve_strategy(name)
        with strategy.scope():
            head = build_head(3, 0.0)
        samples = batches(
            lambda chosen: tf.data.Dataset.from_tensor_slices(features[chosen]),
            labels,
            np.ones(13),
            batch_size=5,
        )
        loop = Loop(head, 0.05, strategy)
        loop.train(Stage("head", 2, lambda epoch, samples=samples: samples))
        weights.append(head.get_layer("logit").get_weights()[0])
    assert np.abs(weights[0]).max() > 0.05
    np.testing.assert_allclose(weights[1], weights[0], atol=1e-5)


# Devices are configured before TensorFlow starts, so one process of its own trains for all tests.
SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import hemorrhage_tf
from hemorrhage_tf.models.classifier import build_head
from hemorrhage_tf.training.loop import Loop, Stage, batches
from hemorrhage_tf.training.strategy import resolve_strategy

rng = np.random.default_rng(0)
features = rng.normal(size=(37, 6)).astype(np.float32)
labels = (features[:, 0] + rng.normal(0, 0.5, 37) > 0).astype(np.int64)
weights = rng.uniform(0.5, 2, 37).astype(np.float32)
results = {}
for name in ("none", "mirrored"):
    strategy = resolve_strategy(name)
    for batch_size in (8, 36):
        with strategy.scope():
            head = build_head(6, 0.0)
        loop = Loop(head, 0.05, strategy)
        dataset_of = lambda chosen: tf.data.Dataset.from_tensor_slices(features[chosen])
        samples = batches(dataset_of, labels, weights, batch_size)
        history = loop.train(Stage("head", 5, lambda epoch: samples, samples))
        kernel, bias = head.get_layer("logit").get_weights()
        results[f"{name} {batch_size}"] = {
            "weights": [*kernel[:, 0].tolist(), *bias.tolist()],
            "history": [[row["loss"], row["accuracy"], row["validation_loss"]] for row in history],
            "replicas": strategy.num_replicas_in_sync,
        }
    for solver in ("adam", "lbfgs"):
        hemorrhage_tf.fit(
            sys.argv[1], out=f"run-{solver}-{name}", strategy=name, cache=f"cache-{name}",
            backbone="tiny", image_size=32, views=2, solver=solver, epochs=3, learning_rate=0.01,
            quiet=True,
        )
json.dump(results, open("loops.json", "w"))
"""


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """Train on one and on two logical CPU devices; return the folder with the results."""
    from PIL import Image
    from plain_phantoms import draw_phantom

    folder = tmp_path_factory.mktemp("two devices")
    data = folder / "data"
    for index in range(20):
        path = data / ("normal", "hemorrhage")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_phantom(0, index, index % 2)).save(path)
    package = str(Path(hemorrhage_tf.__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(data)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    return folder


def read_column(path: Path, column: str) -> list[str]:
    with open(path, newline="") as file:
        return [row[column] for row in csv.DictReader(file)]


@pytest.mark.slow
class TestTwoDevices:
    @pytest.mark.parametrize("batch_size", [8, 36])  # the last batch has 5 samples, and 1
    def test_the_loop_trains_the_weights_of_one_device(self, two_devices, batch_size):
        loops = json.loads((two_devices / "loops.json").read_text())
        one, two = loops[f"none {batch_size}"], loops[f"mirrored {batch_size}"]
        assert (one["replicas"], two["replicas"]) == (1, 2)
        assert np.abs(one["weights"]).max() > 0.1  # it has learned
        np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-5)
        np.testing.assert_allclose(two["history"], one["history"], atol=1e-5)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_fit_predicts_the_same_as_on_one_device(self, two_devices, solver):
        one, two = (
            two_devices / f"run-{solver}-{name}" / "predictions.csv"
            for name in ("none", "mirrored")
        )
        assert read_column(one, "path") == read_column(two, "path")
        expected = np.array(read_column(one, "probability"), float)
        assert np.ptp(expected) > 1e-3
        probabilities = np.array(read_column(two, "probability"), float)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_config_has_the_number_of_replicas(self, two_devices, solver):
        for name, replicas in (("none", 1), ("mirrored", 2)):
            run = two_devices / f"run-{solver}-{name}"
            config = json.loads((run / "config.json").read_text())
            assert config["replicas"] == replicas
            assert config["settings"]["strategy"] == name
