from __future__ import annotations

import pytest

from hemorrhage_tf.training.distributed.worker_loss import loss_reason


@pytest.mark.parametrize(
    ("name", "message", "reason"),
    [
        ("UnavailableError", "Socket closed", "its connection was closed"),
        ("InternalError", "failed to connect to all addresses. Socket closed", "its connection"),
        ("UnavailableError", "task 1 stopped sending heartbeats", "it stopped sending heartbeats"),
        ("ResourceExhaustedError", "Collective ops is aborted by: OOM", "it ran out of memory"),
        ("AbortedError", "no reason", "AbortedError"),
        ("InvalidArgumentError", "Collective ops is aborted by: shapes differ", None),
        ("InternalError", "cuDNN failed", None),
    ],
)
def test_recognizes_a_lost_worker(name, message, reason):
    import tensorflow as tf

    result = loss_reason(getattr(tf.errors, name)(None, None, message))
    assert result is None if reason is None else result.startswith(reason)
