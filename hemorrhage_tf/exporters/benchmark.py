"""The benchmark: what each form of a model costs, and how far it agrees with the first.

Each model is measured in a process of its own, so that its peak memory and its threads are its
own: run with `python -m`, this module is that process. Tables of the measurements live in
`printing.py`.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, HemorrhageError, ModelError, OptionError
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import index_unlabeled_slices
from hemorrhage_tf.imaging.readers import SliceRef, read_slice
from hemorrhage_tf.inference.loading import EMBEDDED, FORMATS, RUN_FOLDER, TFLITE, load, model_form
from hemorrhage_tf.models.pretrained_files import TFLITE_FILE, embedded_file
from hemorrhage_tf.models.run_files import MODEL_FILE
from hemorrhage_tf.synthesis import draw_phantom

PHANTOM_COUNT = 64
PHANTOM_SEED = 0
PHANTOM_SIZE = 224

# The first calls trace, allocate and fill caches; none of that is what a later slice costs.
WARM_UP_CALLS = 3
# The throughput is a median, which has to leave a batch out that something else disturbed.
MIN_BATCHES = 3


@dataclass(frozen=True)
class Measurement:
    """What one model costs, and how far its probabilities are from the first model's.

    Attributes:
        path: the model, as it was named.
        format: "run folder", "keras", "saved_model", "tflite" or "embedded".
        size_bytes: of the file; of all files of a SavedModel folder; of a run folder's model.keras.
        load_seconds: until the model is ready to be called, imports of libraries left out.
        latency_ms_median: of a call with one slice, in milliseconds.
        latency_ms_p95: 95th percentile of the same calls, in milliseconds.
        throughput: slices a second, in the median batch.
        peak_mib: most main memory that the process held at once, libraries included, in MiB.
        largest_difference: of probability from the first model, over the slices.
        mean_difference: the same, mean of the absolute differences.
        changed: slices that it decides otherwise than the first model, each at its own threshold.
        slices: how many slices were compared.
    """

    path: str
    format: str
    size_bytes: int
    load_seconds: float
    latency_ms_median: float
    latency_ms_p95: float
    throughput: float
    peak_mib: float
    largest_difference: float
    mean_difference: float
    changed: int
    slices: int

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON."""
        return asdict(self)


def benchmark(
    models: Sequence[str | Path],
    *,
    images: Sequence[str | Path] | None = None,
    threads: int = 1,
    batch_size: int = 32,
    rounds: int = 30,
    progress: Progress,
) -> list[Measurement]:
    """Measures models one after the other, each in a process of its own.

    Args:
        models: run folders, `.keras` files, SavedModel folders, `.tflite` files and "phantomnet",
            the embedded model. The first is the one that the others are compared with.
        images: files, folders or globs to predict; None for 64 phantoms, the same for every model.
        threads: that a model may compute with. Default 1.
        batch_size: slices in a batch, for the throughput. Default 32.
        rounds: calls with one slice, for the latency. Default 30.
        progress: where progress goes.

    Returns:
        A measurement for each model, in the order given.

    Raises:
        OptionError: no model, or a count below 1.
        DataError: no images, or some that cannot be read.
        ModelError: a path that holds no model, or a model that cannot be measured.
    """
    paths = [Path(path) for path in ([models] if isinstance(models, str | Path) else models)]
    if not paths:
        raise OptionError("MODEL: none was given. Name at least one model to measure")
    for option, value in (
        ("--threads", threads),
        ("--batch-size", batch_size),
        ("--rounds", rounds),
    ):
        if value < 1:
            raise OptionError(f"{option} {value}: must be 1 or more")
    # Before the first model is measured, which takes a while: a mistake in the last is told now.
    formats = [_format(path) for path in paths]
    if images is not None:
        if not images:
            raise DataError("no images to measure with. Name some, or none at all for phantoms")
        found = index_unlabeled_slices(images, progress)
        slices = [(str(ref.path), ref.frame) for ref in found.slices]
    request = {
        "images": None if images is None else slices,
        "threads": threads,
        "batch_size": batch_size,
        "rounds": rounds,
    }
    measurements: list[Measurement] = []
    first: _Answers | None = None
    with progress.track("Measuring models", len(paths)) as advance:
        for path, form in zip(paths, formats, strict=True):
            at = _files(path, form)
            answer = _in_own_process({"model": str(at), "format": form, **request}, path)
            answers = _Answers(answer.pop("probabilities"), answer.pop("threshold"))
            first = first or answers
            measurements.append(
                Measurement(
                    path=str(path),
                    format=form,
                    size_bytes=_size(at),
                    **answer,
                    **answers.compared_with(first),
                )
            )
            advance(1)
    return measurements


class _Answers:
    """A model's probabilities `(n,)` and what they decide at its own threshold."""

    def __init__(self, probabilities: Sequence[float], threshold: float) -> None:
        # float32, as a finding's probability is: the decision at the threshold is then the same.
        single = np.asarray(probabilities, np.float32)
        self.decisions = single >= threshold
        self.probabilities = single.astype(np.float64)

    def compared_with(self, first: _Answers) -> dict[str, Any]:
        difference = np.abs(self.probabilities - first.probabilities)
        return {
            "largest_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
            "changed": int((self.decisions != first.decisions).sum()),
            "slices": len(difference),
        }


def _format(path: Path) -> str:
    form = model_form(path)
    if form is not None:
        return form
    reason = "not a known model format" if path.is_file() else "no model there"
    raise ModelError(f"{path}: {reason}. Accepted: {FORMATS}")


def _files(path: Path, form: str) -> Path:
    """Finds the file or folder that is loaded and measured."""
    if form == EMBEDDED:
        return embedded_file(TFLITE_FILE)
    return path / MODEL_FILE if form == RUN_FOLDER else path


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _in_own_process(request: dict[str, Any], path: Path) -> dict[str, Any]:
    """Starts this module as a worker; the request and its answer are JSON over pipes."""
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",  # else the last line of standard error is seldom the reason
        **os.environ,
        # The worker imports what this process does, wherever it was started; with -P nothing that
        # happens to lie in the working folder comes before that.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(request),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise ModelError(
            f"{path}: cannot be measured, {_last_words(done.returncode, done.stderr)}"
        ) from None
    if "error" in found:
        message = found["error"]
        raise ModelError(message if message.startswith(str(path)) else f"{path}: {message}")
    return found


def _last_words(returncode: int, stderr: str) -> str:
    if returncode < 0:  # by a signal: standard error then has, if anything, what was said before
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        hint = ", which is how a system without memory left ends one" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process left with exit code {returncode} and said nothing"


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measures one model in this process.

    Args:
        request: `model`, `format`, `images` (paths with frames, or None), `threads`,
            `batch_size`, `rounds`.

    Returns:
        The measured fields of `Measurement`, and `probabilities` `(n,)` with their `threshold`.
    """
    threads, batch_size, images = request["threads"], request["batch_size"], request["images"]
    _prepare_libraries(request["format"], threads)
    begin = time.perf_counter()
    model = load(request["model"], threads=threads)
    load_seconds = time.perf_counter() - begin

    model_input = model.metadata.model_input
    count = PHANTOM_COUNT if images is None else len(images)

    def batch(start: int) -> np.ndarray:
        # Only one batch is held at a time: the peak memory is to be the model's, not the slices'.
        # Every batch is full, else the last one would have a shape of its own to be prepared for.
        indices = (k % count for k in range(start, start + batch_size))
        return np.stack([model_input(_pixels(images, k)) for k in indices])

    slices = batch(0)
    for _ in range(WARM_UP_CALLS):
        model.run(slices[:1])
    latencies = []
    for number in range(request["rounds"]):
        k = number % len(slices)
        latencies.append(_timed(model, slices[k : k + 1])[0])
    model.run(slices)
    seconds, probabilities = [], []
    for number in range(max(MIN_BATCHES, math.ceil(count / batch_size))):
        slices = batch(number * batch_size)
        took, found = _timed(model, slices)
        seconds.append(took)
        probabilities.append(found)
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
    """Imports what the format needs, which is not part of its load time, and sets the threads."""
    if form in (TFLITE, EMBEDDED):
        # Without TensorFlow, as on the device: its memory would count as the model's. The number
        # of threads is given to `load`, and so is the error where the interpreter is missing.
        try:
            import ai_edge_litert.interpreter  # noqa: F401
        except ImportError:
            pass
        return
    import_tensorflow()
    import keras  # noqa: F401
    import tensorflow as tf

    # TensorFlow takes these only before its first operation.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _pixels(images: Sequence[tuple[str, int | None]] | None, index: int) -> np.ndarray:
    if images is None:
        return draw_phantom(PHANTOM_SEED, index, size=PHANTOM_SIZE).hounsfield
    path, frame = images[index]
    return read_slice(SliceRef(Path(path), frame))


def _timed(model: Any, slices: np.ndarray) -> tuple[float, np.ndarray]:
    begin = time.perf_counter()
    found = model.run(slices)
    return time.perf_counter() - begin, found


def _peak_mib() -> float:
    """Reads the most main memory that this process held since it was started.

    On Linux a new process inherits `ru_maxrss` from the one that started it (the kernel carries
    the mark over `exec`, see `exec_mmap` in fs/exec.c), and so would never be below a parent that
    has TensorFlow loaded. `VmHWM` (proc_pid_status(5)) begins anew.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        found = None
    if found:
        return int(found[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)  # bytes there, else KiB


def _worker() -> int:
    """Answers the request on standard input with one JSON object on standard output."""
    # Libraries print on standard output too, some from below Python. They get standard error.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = _measure(json.load(sys.stdin))
    except HemorrhageError as error:
        answer = {"error": str(error)}
    with open(answer_to, "w", encoding="utf-8") as standard_output:
        json.dump(answer, standard_output)
    return 0


if __name__ == "__main__":
    sys.exit(_worker())
