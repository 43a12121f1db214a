"""The meeting of a cluster's workers, before TensorFlow starts its servers.

TensorFlow would wait for an hour, without a word and deaf to Ctrl-C, for a worker that does not
come. So the workers greet each other first, on the ports that its servers take next.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hemorrhage_tf.core.errors import ClusterError, HemorrhageError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.distributed.cluster_spec import VARIABLE, ClusterSpec

_NOTE_AFTER_SECONDS = 10.0


def rendezvous(spec: ClusterSpec, progress: Progress, wait_seconds: float) -> None:
    """Waits until this worker has reached every other, and every other has reached this one.

    Args:
        spec: the cluster.
        progress: where it is told whom this worker waits for.
        wait_seconds: how long it waits at most.

    Raises:
        ClusterError: a worker did not come, or one that came has another `TF_CONFIG`.
        OptionError: this worker's port is taken.
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
                progress.note(f"Waiting for {names}")
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
