from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf
from hemorrhage_tf.core.errors import ClusterError, HemorrhageError, OptionError
from hemorrhage_tf.training.distributed.cluster import join_cluster
from hemorrhage_tf.training.distributed.cluster_spec import VARIABLE, read_cluster
from hemorrhage_tf.training.distributed.single_process import SINGLE

WORKER = Path(__file__).with_name("cluster_worker.py")
SECONDS = 300  # after which a worker counts as hung, also on a busy machine


def config(cluster, index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def free_ports(count: int) -> list[int]:
    """Return different ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_addresses(count: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


class TestJoinCluster:
    """Errors before TensorFlow starts its servers; the rest needs processes of its own."""

    def test_names_the_missing_workers(self):
        addresses = free_addresses(3)
        spec = read_cluster({VARIABLE: config({"worker": addresses}, index=1)})
        with pytest.raises(ClusterError) as error:
            join_cluster(spec, wait_seconds=0.0)
        message = str(error.value)
        assert f"the chief ({addresses[0]}), worker 2 ({addresses[2]}) did not come" in message
        assert "start all of them again" in message

    def test_rejects_a_port_that_is_in_use(self):
        with socket.create_server(("", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            spec = read_cluster({VARIABLE: config({"worker": [address, *free_addresses(1)]})})
            with pytest.raises(OptionError, match=f"port of {address} cannot be opened"):
                join_cluster(spec)

    def test_rejects_a_worker_of_another_cluster(self):
        first, second, third = free_addresses(3)
        texts = [
            config({"worker": [first, second]}, index=0),
            config({"worker": [first, second, third]}, index=1),
        ]
        errors: list[str] = []

        def join(text: str) -> None:
            try:
                join_cluster(read_cluster({VARIABLE: text}), wait_seconds=5)
            except HemorrhageError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=join, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 2
        assert any("has another TF_CONFIG" in error for error in errors)

    def test_rejects_a_process_that_used_tensorflow_before(self):
        import tensorflow as tf

        tf.constant(0.0)
        spec = read_cluster({VARIABLE: config({"worker": free_addresses(1)})})
        with pytest.raises(ClusterError, match="before TensorFlow computes anything"):
            join_cluster(spec)


def environment(addresses, index: int) -> dict[str, str]:
    package = str(Path(hemorrhage_tf.__file__).parents[1])
    return {
        **os.environ,
        VARIABLE: config({"worker": list(addresses)}, index=index),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "CUDA_VISIBLE_DEVICES": "-1",
        # Several processes share the machine.
        **{"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"},
    }


@dataclass(frozen=True)
class Workers:
    """The results of a cluster whose last worker was killed at the end.

    Attributes:
        folder: Holds the weights of each worker.
        count: Number of workers.
        kinds: The models that were trained.
        results: The results of the workers that survived, the chief's first.
    """

    folder: Path
    count: int
    kinds: tuple[str, ...]
    results: list[dict]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, ("head",)), id="2 workers", marks=pytest.mark.slow),
        pytest.param((3, ("head", "tiny")), id="3 workers", marks=pytest.mark.slow),
    ],
)
def workers(request, tmp_path_factory) -> Workers:
    """Run workers that communicate, train together, and lose the last of them."""
    count, kinds = request.param
    folder = tmp_path_factory.mktemp("workers")
    addresses = free_addresses(count)
    processes = []
    try:
        for index in range(count):
            with open(folder / f"{index}.log", "w") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, str(WORKER), str(folder), "talk", *kinds, "die"],
                        env=environment(addresses, index),
                        stdout=log,
                        stderr=log,
                    )
                )
        for index, process in enumerate(processes):
            code = process.wait(SECONDS)
            log = (folder / f"{index}.log").read_text()
            assert code == (-9 if index == count - 1 else 0), log[-3000:]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    results = [json.loads((folder / f"{index}.json").read_text()) for index in range(count - 1)]
    return Workers(folder, count, kinds, results)


@pytest.fixture(scope="module")
def train_alone():
    """Return a function that trains a model in this process: its weights and losses."""
    sys.path.insert(0, str(WORKER.parent))
    try:
        from cluster_worker import train
    finally:
        sys.path.remove(str(WORKER.parent))
    return cache(lambda kind: train(kind, SINGLE))


class TestTraining:
    def test_weights_equal_those_of_one_process(self, workers, train_alone):
        for kind in workers.kinds:
            weights, losses = train_alone(kind)
            assert losses[-1] < 0.9 * losses[0]  # it did learn
            for index, result in enumerate(workers.results):
                assert result["replicas"] == workers.count
                assert result["local replicas"] == 1
                np.testing.assert_allclose(result[f"{kind} losses"], losses, atol=1e-5)
                with np.load(workers.folder / f"{index}.npz") as file:
                    for place, expected in enumerate(weights):
                        np.testing.assert_allclose(file[f"{kind} {place}"], expected, atol=1e-5)

    def test_all_workers_have_the_same_bytes(self, workers):
        paths = [workers.folder / f"{index}.npz" for index in range(workers.count)]
        with np.load(paths[0]) as first:
            assert first.files
            for path in paths[1:]:
                with np.load(path) as other:
                    for name in first.files:
                        np.testing.assert_array_equal(first[name], other[name])


class TestCommunication:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
    def test_all_sum(self, workers, dtype):
        values = [
            np.random.default_rng(index).normal(0, 1000, (5, 7)).astype(dtype)
            for index in range(workers.count)
        ]
        expected = values[0] + values[1]
        for value in values[2:]:
            expected = expected + value
        for result in workers.results:
            total = np.frombuffer(bytes.fromhex(result["sums"][dtype]), dtype).reshape(5, 7)
            np.testing.assert_array_equal(total, expected)

    def test_gather_texts_of_different_lengths(self, workers):
        for result in workers.results:
            assert result["texts"] == ["äx" * 5 * index for index in range(workers.count)]

    def test_require_agreement_names_the_difference_and_the_worker(self, workers):
        for result in workers.results:
            message = result["differ"]
            assert "ClusterError: the workers differ:\n  data: worker 1 (" in message
            assert message.count("has 012345678901...") == workers.count - 1
            assert f"worker {workers.count - 1} (" in message
            assert "the chief nothing: all workers must read the same slices" in message
            assert "version" not in message

    def test_check_shared(self, workers):
        for index, result in enumerate(workers.results):
            assert result["leftovers"] == []
            assert f"own {index}/cache is not shared between the workers" in result["not shared"]
            assert "worker 1 (" in result["not shared"]
            assert "the chief (" not in result["not shared"]
            assert "with --cache or --out" in result["not shared"]
            assert "OutputError" in result["not shared"]
            assert "a file/cache: the chief cannot write there" in result["not writable"]

    def test_notices_a_killed_worker(self, workers):
        for result in workers.results:
            last = workers.count - 1
            assert f"a worker was lost (noticed at worker {last} (" in result["lost"]
            assert "Start all workers again with --resume RUN" in result["lost"]
            assert result["seconds"] < 30
