"""Recognize a lost worker in the errors that TensorFlow raises."""

from __future__ import annotations

from collections.abc import Sequence

# What to do where workers differ, by what the name of the entry holds.
_ADVICE = {
    "data": "all workers must read the same slices",
    "slices": "all workers must read the same slices",
    "weights of": "all workers must have the same weights file",
    "precision": "name one that all workers have with --mixed-precision",
    "--": "all workers must be started with the same options",
}


_ADVICE_FOR_THE_REST = "install the same versions on all workers"


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
