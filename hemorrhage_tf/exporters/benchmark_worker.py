"""The process of the benchmark that measures one model, run with `python -m`.

It reads a request from standard input and writes the answer to standard output, both JSON.
`benchmark` starts it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import HemorrhageError
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.imaging.readers import SliceRef, read_slice
from hemorrhage_tf.inference.forms import EMBEDDED, ONNX, TFLITE
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.synthesis.draw import draw_phantom

PHANTOM_COUNT = 64
PHANTOM_SEED = 0
PHANTOM_SIZE = 224

# The first calls trace, allocate and fill caches, which later calls do not.
WARM_UP_CALLS = 3
# A median of fewer batches would not exclude a disturbed one.
MIN_BATCHES = 3

# What runs a form without TensorFlow.
_RUNTIMES = {
    TFLITE: "ai_edge_litert.interpreter",
    EMBEDDED: "ai_edge_litert.interpreter",
    ONNX: "onnxruntime",
}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measure one model in this process.

    Args:
        request: `model`, `format`, `images` (pairs of path and frame, or None for phantoms),
            `threads`, `batch_size` and `rounds`.

    Returns:
        The measured fields of `Measurement`, and `probabilities` `(n,)` with their `threshold`.

    Raises:
        HemorrhageError: The model or a slice cannot be read.
    """
    threads, batch_size, images = request["threads"], request["batch_size"], request["images"]
    _prepare_libraries(request["format"], threads)
    start = time.perf_counter()
    model = load(request["model"], threads=threads)
    load_seconds = time.perf_counter() - start

    model_input = model.metadata.model_input
    count = PHANTOM_COUNT if images is None else len(images)

    def batch(begin: int) -> np.ndarray:
        # One batch at a time: the peak memory should be the model's, not that of the slices. Every
        # batch is full, because another shape would need a warm-up of its own.
        indices = (index % count for index in range(begin, begin + batch_size))
        return np.stack([model_input(_pixels(images, index)) for index in indices])

    slices = batch(0)
    for _ in range(WARM_UP_CALLS):
        model.run(slices[:1])
    latencies = []
    for number in range(request["rounds"]):
        index = number % len(slices)
        latencies.append(_timed(model, slices[index : index + 1])[0])
    model.run(slices)
    seconds, probabilities = [], []
    for number in range(max(MIN_BATCHES, math.ceil(count / batch_size))):
        duration, batch_probabilities = _timed(model, batch(number * batch_size))
        seconds.append(duration)
        probabilities.append(batch_probabilities)
    return {
        "load_seconds": load_seconds,
        "latency_ms_median": 1000 * float(np.median(latencies)),
        "latency_ms_p95": 1000 * float(np.percentile(latencies, 95)),
        "throughput": batch_size / float(np.median(seconds)),
        "peak_mib": _peak_mib(),
        "probabilities": [float(value) for value in np.concatenate(probabilities)[:count]],
        "threshold": model.threshold,
    }


def _prepare_libraries(form: str, threads: int) -> None:
    """Import the libraries of a format, which is not part of its load time, and set the threads."""
    if form in _RUNTIMES:
        # Without TensorFlow, as on a device: its memory would count as the model's. `load` sets the
        # threads, and raises the error if the runtime is missing.
        with contextlib.suppress(ImportError):
            importlib.import_module(_RUNTIMES[form])
        return
    import_tensorflow()
    import keras  # noqa: F401
    import tensorflow as tf

    # TensorFlow accepts these only before its first operation.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _pixels(images: Sequence[tuple[str, int | None]] | None, index: int) -> np.ndarray:
    if images is None:
        return draw_phantom(PHANTOM_SEED, index, size=PHANTOM_SIZE).hounsfield
    path, frame = images[index]
    return read_slice(SliceRef(Path(path), frame))


def _timed(model: Model, slices: np.ndarray) -> tuple[float, np.ndarray]:
    """Return duration in seconds, and probabilities, of a call."""
    start = time.perf_counter()
    probabilities = model.run(slices)
    return time.perf_counter() - start, probabilities


def _peak_mib() -> float:
    """Return the peak main memory of this process since its start, in MiB.

    On Linux a new process inherits `ru_maxrss` from its parent (the kernel preserves the mark over
    `exec`, see `exec_mmap` in fs/exec.c), so it would never be below that of a parent with
    TensorFlow loaded. `VmHWM` (proc_pid_status(5)) starts from zero.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    peak_kib = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.M)
    if peak_kib:
        return int(peak_kib[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)  # bytes on macOS, else KiB


def main() -> int:
    """Answer the request on standard input with one JSON object on standard output."""
    # Libraries print on standard output too, some of them from native code: send it to standard
    # error.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = measure(json.load(sys.stdin))
    except HemorrhageError as error:
        answer = {"error": str(error)}
    with open(output, "w", encoding="utf-8") as standard_output:
        json.dump(answer, standard_output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
