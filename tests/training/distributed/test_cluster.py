from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf
from hemorrhage_tf.core.errors import ClusterError, HemorrhageError, OptionError
from hemorrhage_tf.training.distributed.cluster import join_cluster
from hemorrhage_tf.training.distributed.cluster_spec import VARIABLE, read_cluster
from hemorrhage_tf.training.distributed.single_process import SINGLE, shard_samples

WORKER = Path(__file__).with_name("cluster_worker.py")
SECONDS = 300  # before a worker counts as hung, on a machine that others use too


def config(cluster, index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def free_ports(count: int) -> list[int]:
    """Finds ports that are free now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_addresses(count: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


class TestDeal:
    @pytest.mark.parametrize("count", [1, 5, 8, 37, 40])
    @pytest.mark.parametrize("batch_size", [1, 8, 100])
    @pytest.mark.parametrize("workers, replicas", [(1, 1), (2, 1), (3, 1), (2, 4)])
    def test_each_sample_once_and_each_batch_adds_up_to_one(
        self, count, batch_size, workers, replicas
    ):
        dealt = [
            shard_samples(count, batch_size, index, workers, replicas) for index in range(workers)
        ]
        assert len({(each.rows, each.steps, len(each.positions)) for each in dealt}) == 1
        real = np.concatenate([each.positions[each.shares > 0] for each in dealt])
        assert sorted(real) == list(range(count))
        size = min(batch_size, count)
        for step in range(dealt[0].steps):
            rows = slice(step * dealt[0].rows * replicas, (step + 1) * dealt[0].rows * replicas)
            places = np.concatenate([each.positions[rows] for each in dealt])
            shares = np.concatenate([each.shares[rows] for each in dealt])
            # What fills a batch up is of the same batch.
            assert set(places) == set(range(step * size, min((step + 1) * size, count)))
            np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
            assert len(set(shares[shares > 0])) == 1

    def test_one_worker_has_the_batches_as_they_are(self):
        dealt = SINGLE.shard_samples(37, 8)
        assert dealt.positions[:37].tolist() == list(range(37))
        assert (dealt.rows, dealt.steps) == (8, 5)


class TestSingle:
    def test_talks_to_itself(self, tmp_path):
        array = np.arange(6.0).reshape(2, 3)
        np.testing.assert_array_equal(SINGLE.all_sum(array), array)
        assert SINGLE.gather_texts("ä") == ["ä"]
        assert list(SINGLE.part(5)) == [0, 1, 2, 3, 4]
        assert (SINGLE.index, SINGLE.count, SINGLE.is_chief) == (0, 1, True)
        SINGLE.barrier()
        SINGLE.require_agreement({"version": "1"})
        SINGLE.check_shared(tmp_path / "nowhere")
        with pytest.raises(ZeroDivisionError), SINGLE.explained():
            raise ZeroDivisionError

    def test_strategy(self):
        import tensorflow as tf

        assert SINGLE.strategy is SINGLE.local_strategy() is tf.distribute.get_strategy()


class TestJoinCluster:
    """What goes wrong before TensorFlow is asked; the rest is below, in processes of their own."""

    def test_says_who_did_not_come(self):
        addresses = free_addresses(3)
        spec = read_cluster({VARIABLE: config({"worker": addresses}, index=1)})
        with pytest.raises(ClusterError) as error:
            join_cluster(spec, wait_seconds=0.0)
        message = str(error.value)
        assert f"the chief ({addresses[0]}), worker 2 ({addresses[2]}) did not come" in message
        assert "start all of them again" in message

    def test_says_that_the_port_is_taken(self):
        with socket.create_server(("", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            spec = read_cluster({VARIABLE: config({"worker": [address, *free_addresses(1)]})})
            with pytest.raises(OptionError, match=f"port of {address} cannot be opened"):
                join_cluster(spec)

    def test_says_that_another_has_another_cluster(self):
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

    def test_says_that_tensorflow_came_first(self):
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
        # Several processes share the machine with each other, and with the other tests.
        **{"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"},
    }


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> dict[int, Path]:
    """Runs a cluster of two workers and one of three, and gives the folders of what they found.

    Two train alone. Three talk to each other before, and the last is killed in the end.
    """
    folders, running = {}, {}
    try:
        for count, tasks in {2: ["head", "tiny"], 3: ["talk", "head", "tiny", "die"]}.items():
            folders[count] = tmp_path_factory.mktemp(f"{count} workers")
            addresses = free_addresses(count)
            for index in range(count):
                with open(folders[count] / f"{index}.log", "w") as log:
                    running[count, index] = subprocess.Popen(
                        [sys.executable, str(WORKER), str(folders[count]), *tasks],
                        env=environment(addresses, index),
                        stdout=log,
                        stderr=log,
                    )
        for (count, index), process in running.items():
            code = process.wait(SECONDS)
            log = (folders[count] / f"{index}.log").read_text()
            assert code == (-9 if (count, index) == (3, 2) else 0), log[-3000:]
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    return folders


@pytest.fixture(scope="module")
def found(clusters) -> list[dict]:
    """What the surviving two of three workers say."""
    return [json.loads((clusters[3] / f"{index}.json").read_text()) for index in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict:
    """The weights and losses of a single process."""
    sys.path.insert(0, str(WORKER.parent))
    try:
        from cluster_worker import train
    finally:
        sys.path.remove(str(WORKER.parent))
    return {kind: train(kind, SINGLE) for kind in ("head", "tiny")}


class TestTraining:
    @pytest.mark.parametrize("kind", ["head", "tiny"])
    @pytest.mark.parametrize("count", [2, 3])
    def test_weights_are_those_of_one_process(self, clusters, alone, count, kind):
        weights, losses = alone[kind]
        assert losses[-1] < 0.9 * losses[0]  # it did learn
        for index in range(2):
            found = json.loads((clusters[count] / f"{index}.json").read_text())
            assert found["replicas"] == count
            assert found["local replicas"] == 1
            np.testing.assert_allclose(found[f"{kind} losses"], losses, atol=1e-5)
            with np.load(clusters[count] / f"{index}.npz") as file:
                for place, expected in enumerate(weights):
                    np.testing.assert_allclose(file[f"{kind} {place}"], expected, atol=1e-5)

    def test_all_workers_have_the_same_bytes(self, clusters):
        for count, survivors in {2: 2, 3: 3}.items():
            stored = [(clusters[count] / f"{index}.npz") for index in range(survivors)]
            with np.load(stored[0]) as first:
                for path in stored[1:]:
                    with np.load(path) as other:
                        for name in first.files:
                            np.testing.assert_array_equal(first[name], other[name])


class TestTalk:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
    def test_all_sum(self, found, dtype):
        sums = [each["sums"][dtype] for each in found]
        assert sums[0] == sums[1]
        values = [np.random.default_rng(i).normal(0, 1000, (5, 7)).astype(dtype) for i in range(3)]
        total = np.frombuffer(bytes.fromhex(sums[0]), dtype).reshape(5, 7)
        np.testing.assert_array_equal(total, values[0] + values[1] + values[2])

    def test_gather_texts_of_any_lengths(self, found):
        for each in found:
            assert each["texts"] == ["", "äx" * 5, "äx" * 10]

    def test_agree_names_what_differs_and_where(self, found):
        for each in found:
            assert "ClusterError: the workers differ\n  data: worker 1 (" in each["differ"]
            assert "has 012345678901..., worker 2 (" in each["differ"]
            assert "the chief nothing: all workers must read the same slices" in each["differ"]
            assert "version" not in each["differ"]

    def test_check_shared(self, found):
        for index, each in enumerate(found):
            assert each["left over"] == []
            assert f"own {index}/cache is not shared between the workers" in each["not shared"]
            assert "worker 1 (" in each["not shared"]
            assert "the chief (" not in each["not shared"]
            assert "with --cache or --out" in each["not shared"]
            assert "OutputError" in each["not shared"]
            assert "a file/cache: the chief cannot write there" in each["not writable"]

    def test_a_killed_worker_is_noticed(self, found):
        for each in found:
            assert "a worker was lost (noticed at worker 2 (" in each["lost"]
            assert "start all workers again, with --resume RUN" in each["lost"]
            assert each["seconds"] < 30
