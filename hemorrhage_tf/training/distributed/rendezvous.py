"""The rendezvous of a cluster's workers, before TensorFlow starts its servers.

TensorFlow would wait for a missing worker for an hour, without a message and ignoring Ctrl-C. So
the workers greet each other first, on the ports that its servers use afterward.
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
_PEER_SECONDS = 5.0
_CLUSTER_KEY = "hemorrhage_tf cluster"


def rendezvous(spec: ClusterSpec, progress: Progress, wait_seconds: float) -> None:
    """Wait until this worker has reached every other worker, and each of them has reached it.

    Args:
        spec: The cluster.
        progress: Receives a note that names the missing workers.
        wait_seconds: The longest wait, in seconds.

    Raises:
        ClusterError: A worker did not come, or one came that has another `TF_CONFIG`.
        OptionError: The port of this worker is in use.
    """
    if spec.count == 1:
        return
    peers = _Peers(spec)
    start = time.monotonic()
    is_reported = False
    with peers.listening():
        while missing := peers.greet_missing():
            names = ", ".join(spec.name_of(index) for index in missing)
            waited = time.monotonic() - start
            if waited > wait_seconds:
                raise ClusterError(
                    f"{names} did not come within {wait_seconds:.0f} seconds. Check that all "
                    f"{spec.count} workers of {VARIABLE} run and can reach each other at these "
                    "addresses, and start all of them again."
                )
            if waited > _NOTE_AFTER_SECONDS and not is_reported:
                is_reported = True
                progress.note(f"Waiting for {names}.")
            time.sleep(0.1)


class _Peers:
    """The other workers, which send and receive greetings: one line of JSON each way."""

    def __init__(self, spec: ClusterSpec) -> None:
        self._spec = spec
        self._others = set(range(spec.count)) - {spec.index}
        self._reached: set[int] = set()
        self._reached_by: set[int] = set()
        self._error: HemorrhageError | None = None
        digest = hashlib.sha256(json.dumps(spec.addresses).encode()).hexdigest()
        self._greeting = {_CLUSTER_KEY: digest, "index": spec.index}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer greetings in a thread."""
        address = self._spec.addresses[self._spec.index]
        port = int(address.rpartition(":")[2])
        has_ipv6 = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if has_ipv6 else socket.AF_INET
        try:
            server = socket.create_server(("", port), family=family, dualstack_ipv6=has_ipv6)
        except OSError as error:
            raise OptionError(
                f"{VARIABLE}: the port of {address} cannot be opened ({error.strerror}). Another "
                "program uses it, or another worker with this index runs on this machine. Stop it, "
                "or give all workers another port."
            ) from error
        server.settimeout(0.1)
        has_ended = threading.Event()
        thread = threading.Thread(target=self._answer, args=(server, has_ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join()
            server.close()

    def greet_missing(self) -> list[int]:
        """Greet the workers that were not reached yet; return those still missing either way."""
        for index in sorted(self._others - self._reached):
            self._greet(index)
        if self._error is not None:
            raise self._error
        return sorted(self._others - (self._reached & self._reached_by))

    def _greet(self, index: int) -> None:
        host, _, port = self._spec.addresses[index].rpartition(":")
        # In Kubernetes the host name of a worker is unknown until it has started.
        with suppress(OSError, ValueError):
            address = (host.strip("[]"), int(port))
            with socket.create_connection(address, timeout=_PEER_SECONDS) as peer:
                self._send(peer)
                self._check(self._receive(peer), index)
                self._reached.add(index)

    def _answer(self, server: socket.socket, has_ended: threading.Event) -> None:
        while not has_ended.is_set():
            with suppress(OSError, ValueError):  # a timeout, or a peer that is no worker
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(_PEER_SECONDS)
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
        if not isinstance(greeting, dict) or _CLUSTER_KEY not in greeting:
            raise ValueError("not a greeting")
        return greeting

    def _check(self, greeting: dict[str, Any], index: object) -> None:
        """Store the error for the main thread to raise if a greeting is not from this cluster."""
        expected = {**self._greeting, "index": index}
        is_same = all(greeting.get(key) == expected[key] for key in (_CLUSTER_KEY, "index"))
        if not is_same or index not in self._others:
            self._error = ClusterError(
                f"{self._spec.name_of(self._spec.index)} met a worker with index "
                f"{greeting.get('index')} that has another {VARIABLE}, or the same index. Give all "
                f'workers the same "cluster" and each its own "index", and start them again.'
            )
            raise ValueError("not of this cluster")
