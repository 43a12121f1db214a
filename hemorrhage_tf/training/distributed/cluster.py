"""Several workers that train together: strategies, sums, texts, agreement, and worker loss.

`cluster_spec` reads who the workers are, and `rendezvous` waits for them. The training itself is
elsewhere.

Workers talk to each other without a password or encryption, as TensorFlow's servers do. Their ports
belong on a private network.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ClusterError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.distributed.cluster_spec import ClusterSpec
from hemorrhage_tf.training.distributed.rendezvous import rendezvous
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.distributed.worker_loss import loss_reason

# How long workers wait for each other at the start. A container image may have to be downloaded.
RENDEZVOUS_SECONDS = 600.0

# How long a file of the chief may stay invisible. NFS caches a folder for up to a minute, but
# refreshes it when it is listed.
SHARED_FILE_SECONDS = 10.0

# How to resolve a difference between workers, by a part of its name.
_ADVICE = {
    "data": "all workers must read the same slices",
    "slices": "all workers must read the same slices",
    "weights of": "all workers must have the same weights file",
    "precision": "choose one that all workers support with --mixed-precision",
    "--": "all workers must be started with the same options",
}
_OTHER_ADVICE = "install the same versions on all workers"


class Cluster(SingleProcess):
    """This process as one of several workers, created by `join_cluster`.

    All workers must call each method that talks to the others, in the same order. The same holds
    for creating variables in the scope of `strategy`, since each takes its initial value from the
    chief.

    Workers that wait for a killed worker notice at once. TensorFlow's heartbeat notices a worker
    that hangs, or whose network fails, after about ten seconds. In both cases the next request to
    the others raises a `ClusterError`.

    Args:
        spec: The cluster.
        strategy: The `tf.distribute.MultiWorkerMirroredStrategy` over it.
    """

    def __init__(self, spec: ClusterSpec, strategy: Any) -> None:
        import tensorflow as tf

        super().__init__(strategy)
        self.spec = spec
        self.index = spec.index
        self.count = spec.count
        self.is_chief = spec.is_chief
        self._local: Any = None

        def gathered(values: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_gather(values[tf.newaxis], axis=0)

        # Collectives do not work eagerly. A single function is traced once for each dtype.
        self._gather_on_replicas = tf.function(
            lambda values: strategy.run(gathered, args=(values,)), reduce_retracing=True
        )
        # A worker with several devices contributes one row for each, in an undocumented order. So
        # the workers gather their indices once, and use the first row of each.
        owners = self._gather_rows(np.array([self.index], np.int64))[:, 0].tolist()
        self._first_rows = [owners.index(each) for each in range(self.count)]

    def local_strategy(self) -> Any:
        """Return the `tf.distribute.Strategy` over the devices of this worker only."""
        import tensorflow as tf

        if self._local is not None:
            return self._local
        # In a cluster TensorFlow lists the devices of all workers.
        prefix = f"/job:{self.spec.task_type}/replica:0/task:{self.spec.task_index}/"
        for kind in ("GPU", "CPU"):
            names = [device.name for device in tf.config.list_logical_devices(kind)]
            names = [name for name in names if name.startswith(prefix)]
            if names:
                break
        # Created once: two strategies over the same devices would share collective keys.
        self._local = (
            tf.distribute.MirroredStrategy(names)
            if len(names) > 1
            else tf.distribute.get_strategy()
        )
        return self._local

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        """Sum an array over all workers, see `SingleProcess.all_sum`.

        Raises:
            ClusterError: A worker was lost.
        """
        array = np.asarray(array)
        # A ring reduction would add in another order on every worker.
        total = np.zeros(array.size, array.dtype)
        for row in self._gather(array.ravel()):
            total += row
        return total.reshape(array.shape)

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the bytes of all workers, see `core.workers.Workers.gather_bytes`.

        Raises:
            ClusterError: A worker was lost.
        """
        lengths = self._gather(np.array([len(data)], np.int64))[:, 0].tolist()
        # Collectives carry numbers of equal count, so eight bytes are packed into each int64.
        size = max(1, -(-max(lengths) // 8)) * 8
        numbers = np.frombuffer(data.ljust(size, b"\0"), "<i8").astype(np.int64)
        rows = self._gather(numbers).astype("<i8")
        return [row.tobytes()[:length] for row, length in zip(rows, lengths, strict=True)]

    def barrier(self) -> None:
        """Wait until every worker has called this.

        Raises:
            ClusterError: A worker was lost.
        """
        self._gather(np.zeros(1, np.int64))

    def require_agreement(self, values: Mapping[str, str]) -> None:
        """Check that all workers have the same values, see `SingleProcess.require_agreement`."""
        of_workers = [json.loads(text) for text in self.gather_texts(json.dumps(dict(values)))]
        of_chief, lines = of_workers[0], []
        for name in dict.fromkeys(name for each in of_workers for name in each):
            others = [
                f"{self.spec.name_of(index)} has {_shorten(each.get(name))}"
                for index, each in enumerate(of_workers)
                if each.get(name) != of_chief.get(name)
            ]
            if others:
                matching = (advice for part, advice in _ADVICE.items() if part in name)
                advice = next(matching, _OTHER_ADVICE)
                lines.append(
                    f"  {name}: {', '.join(others)}, the chief {_shorten(of_chief.get(name))}: "
                    f"{advice}"
                )
        if lines:
            raise ClusterError(
                "\n".join(["the workers differ:", *lines, "Then start all workers again."])
            )

    def check_shared(self, folder: Path, option: str = "--cache or --out") -> None:
        """Check that every worker sees the folder, see `SingleProcess.check_shared`."""
        folder = Path(folder)
        token = {"name": f".shared-{secrets.token_hex(8)}", "content": secrets.token_hex(16)}
        if self.is_chief:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / token["name"]).write_text(token["content"])
            except OSError as error:
                # The others wait for the chief, so they must receive the error too.
                token["error"] = str(error)
        token = json.loads(self.gather_texts(json.dumps(token))[0])
        path = folder / token["name"]
        try:
            if "error" in token:
                raise OutputError(
                    f"{folder}: the chief cannot write there ({token['error']}). "
                    f"Name another folder with {option}."
                )
            answers = self.gather_texts("visible" if _appears(path, token["content"]) else "")
            blind = [index for index, answer in enumerate(answers) if not answer]
            if blind:
                names = ", ".join(self.spec.name_of(index) for index in blind)
                verb = "does" if len(blind) == 1 else "do"
                raise OutputError(
                    f"{folder} is not shared between the workers: {names} {verb} not see the files "
                    f"of the chief. Name a folder on a shared file system with {option}."
                )
        finally:
            if self.is_chief:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    @contextmanager
    def explain_worker_loss(self) -> Iterator[None]:
        """Raise an error about the lost worker, see `SingleProcess.explain_worker_loss`."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            reason = loss_reason(error)
            if reason is None:
                raise
            raise ClusterError(
                f"a worker was lost ({self._named_worker(str(error))}{reason}). Finished work is "
                "stored. Start all workers again with --resume RUN."
            ) from error

    def _named_worker(self, message: str) -> str:
        """Return the worker in TensorFlow's message; it may have failed because of another."""
        for job, task in re.findall(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)", message):
            index = int(task) + (len(self.spec.chiefs) if job == "worker" else 0)
            if index != self.index and index < self.count:
                return f"noticed at {self.spec.name_of(index)}: "
        return ""

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """Gather `(n,)` numbers into `(workers, n)`, the chief's first."""
        return self._gather_rows(values)[self._first_rows]

    def _gather_rows(self, values: np.ndarray) -> np.ndarray:
        """Gather `(n,)` numbers into `(replicas, n)`."""
        import tensorflow as tf

        with self.explain_worker_loss():
            rows = self._gather_on_replicas(tf.constant(values))
            return self._strategy.experimental_local_results(rows)[0].numpy()


_joined: Cluster | None = None


def join_cluster(
    spec: ClusterSpec, progress: Progress | None = None, wait_seconds: float = RENDEZVOUS_SECONDS
) -> Cluster:
    """Meet the other workers and create the strategy over all of them, once in a process.

    Args:
        spec: The cluster.
        progress: Receives a note that names the missing workers. Default: no notes.
        wait_seconds: The longest wait, in seconds. Defaults to 600.

    Returns:
        The cluster; the same object each time.

    Raises:
        ClusterError: A worker did not come, the workers' `TF_CONFIG` differ, or TensorFlow was
            used in this process before.
        OptionError: The port of this worker is in use.
    """
    global _joined
    if _joined is not None:
        if _joined.spec != spec:
            raise ClusterError(
                f"this process is already {_joined.spec.name_of(_joined.index)} of another "
                "cluster. Start a new process for each cluster."
            )
        return _joined
    progress = progress or Progress(quiet=True)
    with progress.stage(f"Waiting for {spec.count} workers"):
        rendezvous(spec, progress, wait_seconds)
        _joined = Cluster(spec, _create_strategy(spec))
    return _joined


def _create_strategy(spec: ClusterSpec) -> Any:
    import tensorflow as tf

    jobs = {"chief": list(spec.chiefs), "worker": list(spec.workers)}
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({job: addresses for job, addresses in jobs.items() if addresses}),
        task_type=spec.task_type,
        task_id=spec.task_index,
        rpc_layer="grpc",
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ClusterError(
            f"the cluster must be joined before TensorFlow computes anything in this process "
            f"({error}). Call fit with strategy='multiworker' first, in a process of its own."
        ) from error
    except tf.errors.OpError as error:
        raise ClusterError(
            f"{spec.name_of(spec.index)} cannot join the cluster ({_first_line(error)}). "
            f"Check that its port is free, and start all workers again."
        ) from error


def _appears(path: Path, content: str) -> bool:
    """Wait for a file that another machine wrote, and return whether it appears."""
    deadline = time.monotonic() + SHARED_FILE_SECONDS
    while True:
        with suppress(OSError):
            os.listdir(path.parent)  # makes NFS refresh the folder
            if path.read_text() == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def _shorten(value: str | None) -> str:
    if not value:
        return "nothing"
    return value if len(value) <= 16 else value[:12] + "..."


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
