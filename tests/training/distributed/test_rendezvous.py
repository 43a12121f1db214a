from __future__ import annotations

import socket
import threading

import pytest
from recorder import Recorder

from hemorrhage_tf.training.distributed.cluster_spec import ClusterSpec
from hemorrhage_tf.training.distributed.rendezvous import rendezvous


@pytest.fixture
def specs():
    """Two workers of one cluster, at ports of this machine that are free."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as other:
        addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in (one, other))
    return [ClusterSpec((), addresses, "worker", index) for index in range(2)]


def test_waits_for_a_worker_that_comes_later(specs):
    errors = []

    def join():
        try:
            rendezvous(specs[1], Recorder(), wait_seconds=20)
        except Exception as error:
            errors.append(error)

    late = threading.Timer(0.5, join)
    late.start()
    rendezvous(specs[0], Recorder(), wait_seconds=20)
    late.join()
    assert errors == []


def test_a_single_worker_waits_for_nobody():
    rendezvous(ClusterSpec((), ("127.0.0.1:1",), "worker", 0), Recorder(), wait_seconds=0)
