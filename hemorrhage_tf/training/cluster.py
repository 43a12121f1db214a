"""Several machines that train together: who they are, how they meet, and what they tell each other.

The cluster is described by the variable `TF_CONFIG`, as TensorFlow documents it. What is trained,
and how, lies elsewhere: this file gives each worker its part of the work, a strategy over all
workers and one over its own devices, sums and texts of all workers, and an error that says so where
a worker is lost.

Workers talk to each other without a password or encryption, as TensorFlow's servers do. Their
ports belong on a network that nobody else reaches.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.errors import ClusterError, HemorrhageError, OptionError, OutputError
from hemorrhage_tf.reporting import Reporter

VARIABLE = "TF_CONFIG"

EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)

# How long workers wait for each other at the start. A container's image may have to be fetched.
MEETING_SECONDS = 600.0

# How long a file that the chief wrote may stay hidden: NFS keeps what it knows of a folder for up
# to a minute, but looks again where the folder is listed.
SHARED_SECONDS = 10.0

_NOTE_AFTER_SECONDS = 10.0
_QUOTED_LENGTH = 200

# What to do where workers differ, by what the name of the entry holds.
_ADVICE = {
    "data": "all workers must read the same slices",
    "slices": "all workers must read the same slices",
    "weights of": "all workers must have the same weights file",
    "precision": "name one that all workers have with --mixed-precision",
    "--": "all workers must be started with the same options",
}
_ADVICE_FOR_THE_REST = "install the same versions on all workers"


@dataclass(frozen=True)
class ClusterSpec:
    """The workers of a cluster, and which of them this process is.

    Attributes:
        chiefs: the address of the one task of type "chief", or nothing.
        workers: the addresses of the tasks of type "worker".
        task_type: "chief" or "worker", of this process.
        task_index: of this process among those of its type.
    """

    chiefs: tuple[str, ...]
    workers: tuple[str, ...]
    task_type: str
    task_index: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of every worker, the chief first."""
        return self.chiefs + self.workers

    @property
    def count(self) -> int:
        """How many workers there are, the chief among them."""
        return len(self.addresses)

    @property
    def index(self) -> int:
        """This process's place in `addresses`."""
        return self.task_index + (len(self.chiefs) if self.task_type == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: the chief does, or else worker 0."""
        return self.index == 0

    def name_of(self, index: int) -> str:
        """Names a worker in a message, such as "worker 1 (10.0.0.2:2222)"."""
        role = "the chief" if index == 0 else f"worker {index}"
        return f"{role} ({self.addresses[index]})"


def read_cluster(environ: Mapping[str, str] = os.environ) -> ClusterSpec:
    """Reads the cluster from `TF_CONFIG`, without TensorFlow.

    Args:
        environ: where the variable is looked up; the process's environment by default.

    Returns:
        The cluster.

    Raises:
        OptionError: the variable is absent, or does not describe a cluster and a task in it.
    """
    text = environ.get(VARIABLE, "")
    if not text.strip():
        raise OptionError(
            f"--strategy multiworker: the variable {VARIABLE} is not set. It says which workers "
            f"there are and which one this is, for example {VARIABLE}='{EXAMPLE}'. Set it for "
            "each worker; examples/cluster does it on one machine, under Slurm and in Kubernetes"
        )

    def refusal(reason: str) -> OptionError:
        quoted = text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "..."
        return OptionError(
            f"{VARIABLE}: {reason}. Received: {quoted}\nAccepted is, for example: {EXAMPLE}\n"
            f"Correct the variable and start this worker again"
        )

    try:
        config = json.loads(text)
    except ValueError as error:
        raise refusal(f"it is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise refusal('it must be an object with "cluster" and "task"')
    jobs = config.get("cluster")
    if not isinstance(jobs, dict) or not jobs:
        raise refusal('"cluster" must be an object with the addresses of "worker"')
    other = sorted(set(jobs) - {"chief", "worker"})
    if other:
        raise refusal(f'tasks of type "{other[0]}" take no part; only "chief" and "worker" do')
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise refusal(f'"{job}" must be a list of addresses')
        for address in addresses:
            if not _is_address(address):
                raise refusal(f'the address {json.dumps(address)} is not of the form "host:port"')
    chiefs, workers = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    if len(chiefs) > 1:
        raise refusal(f'"chief" must have one address, not {len(chiefs)}')
    addresses = chiefs + workers
    if not addresses:
        raise refusal('"cluster" has no address')
    twice = [address for address in addresses if addresses.count(address) > 1]
    if twice:
        raise refusal(f"the address {twice[0]} is there twice")
    task = config.get("task")
    if not isinstance(task, dict):
        raise refusal('"task" must be an object with "type" and "index"')
    task_type, index = task.get("type"), task.get("index")
    if task_type not in ("chief", "worker"):
        raise refusal(f'the task\'s "type" is {json.dumps(task_type)}, not "chief" or "worker"')
    members = chiefs if task_type == "chief" else workers
    # Booleans are integers to Python, but no index.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(members):
        accepted = f"0 to {len(members) - 1}" if members else "none, for there is no such task"
        raise refusal(f'the task\'s "index" is {json.dumps(index)}, not of {accepted}')
    return ClusterSpec(chiefs, workers, task_type, index)


def _is_address(address: object) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


@dataclass(frozen=True)
class Deal:
    """One worker's rows of every global batch of an epoch, filled up to equal numbers.

    Attributes:
        positions: int64 `(steps * local_replicas * rows,)`: which of the epoch's samples, in the
            order in which the local replicas take them.
        shares: float32, of the same length: one over the true size of the global batch that the
            sample is in; 0 for what fills up.
        rows: of one replica, in one step.
        steps: how many global batches there are.
    """

    positions: np.ndarray
    shares: np.ndarray
    rows: int
    steps: int

    def distribute(self, strategy, dataset):
        """Gives a dataset to each replica of this worker.

        Args:
            strategy: over all workers.
            dataset: `tf.data.Dataset` of single samples, those of `positions` in that order.

        Returns:
            What `strategy.run` takes its batches from. All have the same static shape, so that no
            worker has to ask the others in each step whether they still have rows.
        """
        import tensorflow as tf

        def of_this_worker(_):
            return dataset.batch(self.rows, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

        return strategy.distribute_datasets_from_function(of_this_worker)


class SingleProcess:
    """One process that is a cluster of its own, so that callers need no `if`.

    Args:
        strategy: `tf.distribute.Strategy` over its devices; by default the current one.
    """

    index = 0
    count = 1
    is_chief = True

    def __init__(self, strategy=None) -> None:
        self._strategy = strategy

    @property
    def strategy(self):
        """The strategy to train with."""
        import tensorflow as tf

        return self._strategy or tf.distribute.get_strategy()

    def local_strategy(self):
        """Gives the strategy for work that needs no other worker."""
        return self.strategy

    def part(self, count: int) -> range:
        """Gives this worker's share of `count` pieces of work: every `self.count`-th."""
        return range(self.index, count, self.count)

    def deal(self, count: int, batch_size: int) -> Deal:
        """Deals an epoch's samples out to the workers and their replicas.

        Args:
            count: samples in the epoch.
            batch_size: the global one; the last batch may be smaller.

        Returns:
            This worker's part.
        """
        replicas = self.strategy.num_replicas_in_sync
        return deal(count, batch_size, self.index, self.count, replicas // self.count)

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        """Sums an array over the workers.

        Args:
            array: float32, float64 or int64, of the same shape on every worker.

        Returns:
            The sum, of the same shape and dtype; the same bytes on every worker.
        """
        return np.array(array)

    def gather_texts(self, text: str) -> list[str]:
        """Gives the text of every worker, the chief's first. They may be of any lengths."""
        return [text]

    def barrier(self) -> None:
        """Waits until every worker is here."""

    def agree(self, what: Mapping[str, str]) -> None:
        """Makes sure that all workers have the same values.

        Args:
            what: a value or a hash for each name; of options under their names.

        Raises:
            ClusterError: on every worker, where any of them differs; it names them.
        """

    def check_shared(self, folder: Path, option: str = "--cache or --out") -> None:
        """Makes sure that every worker sees what the chief writes into a folder.

        Args:
            folder: it is made where it is not there.
            option: what names the folder on the command line.

        Raises:
            OutputError: on every worker, where any of them does not see it, or the chief cannot
                write.
        """

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Says that a worker was lost where TensorFlow says that a socket was closed.

        Raises:
            ClusterError: a worker of the cluster died or cannot be reached.
        """
        yield


SINGLE = SingleProcess()


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

    def agree(self, what: Mapping[str, str]) -> None:
        """Makes sure that all workers have the same values, see `SingleProcess.agree`."""
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


def deal(count: int, batch_size: int, index: int, workers: int, local_replicas: int) -> Deal:
    """Deals an epoch's samples out, see `SingleProcess.deal`.

    Args:
        count: samples in the epoch.
        batch_size: the global one.
        index: of this worker.
        workers: how many there are.
        local_replicas: how many devices each of them has.

    Returns:
        This worker's part. Together the workers' parts hold each sample once with a share above 0.
    """
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    rows = -(-batch_size // (workers * local_replicas))
    own = rows * local_replicas
    places = index * own + np.arange(own)  # of this worker in each global batch
    begin = batch_size * np.arange(steps)[:, np.newaxis]
    sizes = np.minimum(batch_size, count - begin)
    real = places < sizes
    # What fills up is a sample of the same batch, so that nothing is read that would not be.
    positions = begin + np.where(real, places, 0)
    shares = np.where(real, 1.0 / sizes, 0.0).astype(np.float32)
    return Deal(positions.ravel().astype(np.int64), shares.ravel(), rows, steps)


_joined: Cluster | None = None


def join_cluster(
    spec: ClusterSpec, reporter: Reporter | None = None, wait_seconds: float = MEETING_SECONDS
) -> Cluster:
    """Meets the other workers and makes the strategy over all of them, once in a process.

    Args:
        spec: the cluster.
        reporter: where it is told whom this worker waits for.
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
    reporter = reporter or Reporter(quiet=True)
    with reporter.stage(f"Waiting for {spec.count} workers"):
        _meet(spec, reporter, wait_seconds)
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


def _meet(spec: ClusterSpec, reporter: Reporter, wait_seconds: float) -> None:
    """Waits until this worker has reached every other, and every other has reached this one.

    TensorFlow would wait for an hour, without a word and deaf to Ctrl-C, for a worker that does not
    come. So the workers greet each other first, on the ports that its servers take next.
    """
    if spec.count == 1:
        return
    meeting = _Meeting(spec)
    begin = time.monotonic()
    told = False
    with meeting.listening():
        while missing := meeting.go_round():
            names = ", ".join(spec.name_of(index) for index in missing)
            waited = time.monotonic() - begin
            if waited > wait_seconds:
                raise ClusterError(
                    f"{names} did not come within {wait_seconds:.0f} seconds. See that all "
                    f"{spec.count} workers of {VARIABLE} are started and can reach each other at "
                    "these addresses, and start all of them again"
                )
            if waited > _NOTE_AFTER_SECONDS and not told:
                told = True
                reporter.note(f"Waiting for {names}")
            time.sleep(0.1)


class _Meeting:
    """Greets the other workers and is greeted by them: one line of JSON each way."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._others = set(range(spec.count)) - {spec.index}
        self._reached: set[int] = set()
        self._reached_by: set[int] = set()
        self._trouble: HemorrhageError | None = None
        digest = hashlib.sha256(json.dumps(spec.addresses).encode()).hexdigest()
        self._greeting = {"hemorrhage_tf cluster": digest, "index": spec.index}

    @contextmanager
    def listening(self) -> Iterator[None]:
        address = self._spec.addresses[self._spec.index]
        port = int(address.rpartition(":")[2])
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            raise OptionError(
                f"{VARIABLE}: the port of {address} cannot be opened ({error.strerror}). Another "
                "program has it, or another worker of this index runs on this machine. Stop it, "
                "or name another port to all workers"
            ) from error
        server.settimeout(0.1)
        over = threading.Event()
        thread = threading.Thread(target=self._answer, args=(server, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            server.close()

    def go_round(self) -> list[int]:
        """Tries to reach those not yet reached; gives those who are missing in either way."""
        for index in sorted(self._others - self._reached):
            self._reach(index)
        if self._trouble is not None:
            raise self._trouble
        return sorted(self._others - (self._reached & self._reached_by))

    def _reach(self, index: int) -> None:
        host, _, port = self._spec.addresses[index].rpartition(":")
        # A host whose name is not known yet is one that has not started, in Kubernetes.
        with suppress(OSError, ValueError):
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as peer:
                self._send(peer)
                self._check(self._receive(peer), index)
                self._reached.add(index)

    def _answer(self, server: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            with suppress(OSError, ValueError):  # nobody came, or somebody who is no worker
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(5)
                    greeting = self._receive(peer)
                    self._send(peer)
                    self._check(greeting, greeting.get("index"))
                    self._reached_by.add(greeting["index"])

    def _send(self, peer: socket.socket) -> None:
        peer.sendall(json.dumps(self._greeting).encode() + b"\n")

    @staticmethod
    def _receive(peer: socket.socket) -> dict[str, Any]:
        with peer.makefile("rb") as file:
            greeting = json.loads(file.readline(1000))
        if not isinstance(greeting, dict) or "hemorrhage_tf cluster" not in greeting:
            raise ValueError("no greeting")
        return greeting

    def _check(self, greeting: dict[str, Any], index: object) -> None:
        """Keeps what is wrong with a greeting, for the main thread to raise."""
        same = ("hemorrhage_tf cluster", "index")
        expected = {**self._greeting, "index": index}
        if any(greeting.get(key) != expected[key] for key in same) or index not in self._others:
            self._trouble = ClusterError(
                f"{self._spec.name_of(self._spec.index)} met a worker that calls itself worker "
                f"{greeting.get('index')} and has another {VARIABLE}, or the same index. Give all "
                f'workers the same "cluster", each its own "index", and start them again'
            )
            raise ValueError("not of this cluster")


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


# What TensorFlow's messages say where a worker is gone, whatever the error's class is: the class is
# that of the first error on whichever worker had it.
_MARKS_OF_LOSS = (
    "Collective ops is aborted by",
    "stopped sending heartbeats",
    "CoordinationService",
    "coordination service",
    "tensorflow.WorkerService",
    "Socket closed",
)


def _reason_of_loss(error: Exception) -> str | None:
    """Says in a few words why a worker is gone; None where the error is about something else."""
    import tensorflow as tf

    classes = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
    message = str(error)
    # Workers that ask each other for different things are a mistake of the program's, not a loss.
    if isinstance(error, tf.errors.InvalidArgumentError):
        return None
    if not isinstance(error, classes) and not _any_in(message, _MARKS_OF_LOSS):
        return None
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "it ran out of memory"
    if "heartbeat" in message.lower():
        return "it sends no heartbeat any more"
    if "Socket closed" in message or "connect" in message.lower():
        return "its connection was closed"
    return type(error).__name__


def _any_in(text: str, parts: Sequence[str]) -> bool:
    return any(part in text for part in parts)
