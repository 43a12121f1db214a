"""Recognize in TensorFlow's errors that a worker was lost."""

from __future__ import annotations

# Parts of TensorFlow's messages about a lost worker. The class of the error is no sign: it is that
# of the first error on whichever worker failed.
_LOSS_MESSAGES = (
    "Collective ops is aborted by",
    "stopped sending heartbeats",
    "CoordinationService",
    "coordination service",
    "tensorflow.WorkerService",
    "Socket closed",
)


def loss_reason(error: Exception) -> str | None:
    """Return in a few words why a worker was lost, or None if the error has another cause.

    Args:
        error: A `tf.errors.OpError`.
    """
    import tensorflow as tf

    loss_errors = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
    )
    message = str(error)
    # Workers that send each other different requests are a bug, not a loss.
    if isinstance(error, tf.errors.InvalidArgumentError):
        return None
    if not isinstance(error, loss_errors) and not any(each in message for each in _LOSS_MESSAGES):
        return None
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return "it ran out of memory"
    if "heartbeat" in message.lower():
        return "it stopped sending heartbeats"
    if "Socket closed" in message or "connect" in message.lower():
        return "its connection was closed"
    return type(error).__name__
