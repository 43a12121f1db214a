"""Several machines that train together, and what they tell each other.

Who they are lies in `cluster_spec`, how they meet in `meeting`, what is trained elsewhere: this
file gives each worker its part of the work, a strategy over all workers and one over its own
devices, sums and texts of all workers, and an error that says so where a worker is lost.

Workers talk to each other without a password or encryption, as TensorFlow's servers do. Their
ports belong on a network that nobody else reaches.
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

import numpy as np

from hemorrhage_tf.core.errors import ClusterError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.distributed.cluster_spec import ClusterSpec
from hemorrhage_tf.training.distributed.rendezvous import rendezvous
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.distributed.worker_loss import (
    _ADVICE,
    _ADVICE_FOR_THE_REST,
    _reason_of_loss,
)

# How long workers wait for each other at the start. A container's image may have to be fetched.
MEETING_SECONDS = 600.0


# How long a file that the chief wrote may stay hidden: NFS keeps what it knows of a folder for up
# to a minute, but looks again where the folder is listed.
SHARED_SECONDS = 10.0


class Cluster(SingleProcess):
    """This process as one of several workers; made by `join_cluster`.

    Every method that talks to the others has to be called by all workers, in the same order. So
    has everything that makes variables in the scope of `strategy`: each variable's first value is
    the chief's, and waits for it.

    A worker that is killed is noticed at once by those that wait for it. One that hangs, or whose
    network is gone, is noticed by TensorFlow's own heartbeat after about ten seconds. Either way
    the next thing that is asked of the others raises a `ClusterError`.

    Args:
        spec: the cluster.
        strategy: `tf.distribute.MultiWorkerMirroredStrategy` over it.
    """

    def __init__(self, spec: ClusterSpec, strategy) -> None:
        import tensorflow as tf

        super().__init__(strategy)
        self.spec = spec
        self.index = spec.index
        self.count = spec.count
        self.is_chief = spec.is_chief
        self._local = None

        def gathered(values):
            context = tf.distribute.get_replica_context()
            return context.all_gather(values[tf.newaxis], axis=0)

        # One function, so that it is traced once for each dtype. Collectives do not work eagerly.
        self._gather_on_replicas = tf.function(
            lambda values: strategy.run(gathered, args=(values,)), reduce_retracing=True
        )
        # A worker with several devices contributes once for each, and TensorFlow does not say in
        # which order. So each row that comes back is asked once whose it is, and one is kept.
        owners = self._rows(np.array([self.index], np.int64))[:, 0].tolist()
        self._first_rows = [owners.index(each) for each in range(self.count)]

    def local_strategy(self):
        """Gives a strategy over this worker's own devices, for work that needs no other worker."""
        import tensorflow as tf

        if self._local is not None:
            return self._local
        # Once a process has joined, TensorFlow lists the others' devices too.
        own = f"/job:{self.spec.task_type}/replica:0/task:{self.spec.task_index}/"
        for kind in ("GPU", "CPU"):
            names = [device.name for device in tf.config.list_logical_devices(kind)]
            names = [name for name in names if name.startswith(own)]
            if names:
                break
        # Made once: two over the same devices would share collective keys.
        many = len(names) > 1
        self._local = (
            tf.distribute.MirroredStrategy(names) if many else tf.distribute.get_strategy()
        )
        return self._local

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        """Sums an array over the workers, see `SingleProcess.all_sum`.

        Raises:
            ClusterError: a worker was lost.
        """
        array = np.asarray(array)
        # Gathered, and added up here: a ring adds in another order on every worker's part.
        total = np.zeros(array.size, array.dtype)
        for row in self._of_each_worker(array.ravel()):
            total += row
        return total.reshape(array.shape)

    def gather_texts(self, text: str) -> list[str]:
        """Gives the text of every worker, see `SingleProcess.gather_texts`.

        Raises:
            ClusterError: a worker was lost.
        """
        data = text.encode()
        lengths = self._of_each_worker(np.array([len(data)], np.int64))[:, 0].tolist()
        # Collectives carry no bytes, but eight of them make a number. All must be equally long.
        size = max(1, -(-max(lengths) // 8)) * 8
        numbers = np.frombuffer(data.ljust(size, b"\0"), "<i8").astype(np.int64)
        rows = self._of_each_worker(numbers).astype("<i8")
        return [row.tobytes()[:length].decode() for row, length in zip(rows, lengths, strict=True)]

    def barrier(self) -> None:
        """Waits until every worker is here.

        Raises:
            ClusterError: a worker was lost.
        """
        self._of_each_worker(np.zeros(1, np.int64))

    def require_agreement(self, what: Mapping[str, str]) -> None:
        """Makes sure that all workers have the same values, see `SingleProcess.require_agreement`."""
        texts = [json.loads(text) for text in self.gather_texts(json.dumps(dict(what)))]
        chief, lines = texts[0], []
        for name in dict.fromkeys(name for text in texts for name in text):
            others = [
                f"{self.spec.name_of(index)} has {_shortened(text.get(name))}"
                for index, text in enumerate(texts)
                if text.get(name) != chief.get(name)
            ]
            if others:
                known = (advice for part, advice in _ADVICE.items() if part in name)
                advice = next(known, _ADVICE_FOR_THE_REST)
                lines.append(
                    f"  {name}: {', '.join(others)}, the chief {_shortened(chief.get(name))}: "
                    f"{advice}"
                )
        if lines:
            raise ClusterError(
                "\n".join(["the workers differ", *lines, "Then start all workers again"])
            )

    def check_shared(self, folder: Path, option: str = "--cache or --out") -> None:
        """Makes sure that every worker sees the folder, see `SingleProcess.check_shared`."""
        folder = Path(folder)
        token = {"name": f".shared-{secrets.token_hex(8)}", "content": secrets.token_hex(16)}
        if self.is_chief:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / token["name"]).write_text(token["content"])
            except OSError as error:
                # Raised only when the others know: they wait for the chief.
                token["error"] = str(error)
        token = json.loads(self.gather_texts(json.dumps(token))[0])
        path = folder / token["name"]
        try:
            if "error" in token:
                raise OutputError(
                    f"{folder}: the chief cannot write there ({token['error']}). "
                    f"Name another folder with {option}"
                )
            seen = self.gather_texts("seen" if _appears(path, token["content"]) else "")
            blind = [index for index, each in enumerate(seen) if not each]
            if blind:
                names = ", ".join(self.spec.name_of(index) for index in blind)
                verb = "does" if len(blind) == 1 else "do"
                raise OutputError(
                    f"{folder} is not shared between the workers: {names} {verb} not see what the "
                    f"chief writes there. Name a folder on a shared file system with {option}"
                )
        finally:
            if self.is_chief:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Says that a worker was lost, see `SingleProcess.explained`."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            reason = _reason_of_loss(error)
            if reason is None:
                raise
            raise ClusterError(
                f"a worker was lost ({self._suspect(str(error))}{reason}). What was computed is "
                "kept; start all workers again, with --resume RUN to go on"
            ) from error

    def _suspect(self, message: str) -> str:
        """Names the worker that TensorFlow's message names; it may have been taken along itself."""
        for job, task in re.findall(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)", message):
            index = int(task) + (len(self.spec.chiefs) if job == "worker" else 0)
            if index != self.index and index < self.count:
                return f"noticed at {self.spec.name_of(index)}: "
        return ""

    def _of_each_worker(self, values: np.ndarray) -> np.ndarray:
        """Gathers `(n,)` numbers to `(workers, n)`, the chief's first."""
        return self._rows(values)[self._first_rows]

    def _rows(self, values: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        with self.explained():
            rows = self._gather_on_replicas(tf.constant(values))
            return self._strategy.experimental_local_results(rows)[0].numpy()


_joined: Cluster | None = None


def join_cluster(
    spec: ClusterSpec, progress: Progress | None = None, wait_seconds: float = MEETING_SECONDS
) -> Cluster:
    """Meets the other workers and makes the strategy over all of them, once in a process.

    Args:
        spec: the cluster.
        progress: where it is told whom this worker waits for.
        wait_seconds: how long it waits at most.

    Returns:
        The cluster; the same object each time.

    Raises:
        ClusterError: a worker did not come, the workers' `TF_CONFIG` differ, or TensorFlow was
            used in this process before.
        OptionError: this worker's port is taken.
    """
    global _joined
    if _joined is not None:
        if _joined.spec != spec:
            raise ClusterError(
                f"this process is {_joined.spec.name_of(_joined.index)} of a cluster already, and "
                "can be of one only. Start another process for another cluster"
            )
        return _joined
    progress = progress or Progress(quiet=True)
    with progress.stage(f"Waiting for {spec.count} workers"):
        rendezvous(spec, progress, wait_seconds)
        _joined = Cluster(spec, _make_strategy(spec))
    return _joined


def _make_strategy(spec: ClusterSpec):
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
            f"the cluster has to be joined before TensorFlow computes anything in this process "
            f"({error}). Call fit with strategy='multiworker' first, in a process of its own"
        ) from error
    except tf.errors.OpError as error:
        raise ClusterError(
            f"{spec.name_of(spec.index)} cannot join the cluster ({_first_line(error)}). "
            f"See that its port is free and start all workers again"
        ) from error


def _appears(path: Path, content: str) -> bool:
    """Waits for a file that another machine wrote."""
    until = time.monotonic() + SHARED_SECONDS
    while True:
        with suppress(OSError):
            os.listdir(path.parent)  # makes NFS look again
            if path.read_text() == content:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


def _shortened(value: str | None) -> str:
    if not value:
        return "nothing"
    return value if len(value) <= 16 else value[:12] + "..."


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
