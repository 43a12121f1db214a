"""The benchmark: the cost of each form of a model, and its agreement with the first.

Each model is measured in a process of its own (`benchmark_worker`), so that its peak memory and its
threads are its own. Printing the table is the business of the CLI.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, ModelError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.unlabeled_slices import index_unlabeled_slices
from hemorrhage_tf.exporters.stored_size import stored_size
from hemorrhage_tf.inference.forms import EMBEDDED, FORMS, RUN_FOLDER, model_form
from hemorrhage_tf.inference.hub import fetch
from hemorrhage_tf.models.pretrained_files import TFLITE_FILE, embedded_file
from hemorrhage_tf.models.run_files import MODEL_FILE

_WORKER = "hemorrhage_tf.exporters.benchmark_worker"


@dataclass(frozen=True)
class Measurement:
    """The cost of one model, and the difference of its probabilities from the first model's.

    Attributes:
        path: The model, as the caller named it.
        format: "run folder", "keras", "saved_model", "tflite", "onnx", "hub folder" or
            "embedded".
        size_bytes: Size of the file (of an `.onnx` file without its scan model), of all files of
            another folder, or of a run folder's model.keras, in bytes.
        load_seconds: Time to load the model, without the import of libraries.
        latency_ms_median: Median time of a call with one slice, in milliseconds.
        latency_ms_p95: 95th percentile of the same calls, in milliseconds.
        throughput: Slices per second in the median batch.
        peak_mib: Peak main memory of the process, libraries included, in MiB.
        largest_difference: Largest absolute difference of probability from the first model.
        mean_difference: Mean absolute difference of probability from the first model.
        changed: Number of slices with another decision than the first model's, each at its own
            threshold.
        slices: Number of slices compared.
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
        """Return plain values for JSON."""
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
    """Measure models one after the other, each in a process of its own.

    Args:
        models: Run folders, `.keras` files, SavedModel folders, `.tflite` or `.onnx` files and
            "phantomnet", the embedded model. The others are compared with the first.
        images: Files, folders or globs to predict; None for 64 phantoms, the same for every model.
            Defaults to None.
        threads: Number of threads to compute with. Defaults to 1.
        batch_size: Slices per batch, for the throughput. Defaults to 32.
        rounds: Number of calls with one slice, for the latency. Defaults to 30.
        progress: Receives progress.

    Returns:
        A measurement for each model, in the same order.

    Raises:
        OptionError: No model, or a count below 1.
        DataError: No images, or unreadable ones.
        ModelError: A path without a model, or a model that cannot be measured.
    """
    paths = [Path(path) for path in ([models] if isinstance(models, str | Path) else models)]
    if not paths:
        raise OptionError("MODEL: no model was passed. Pass at least one.")
    for option, value in (
        ("--threads", threads),
        ("--batch-size", batch_size),
        ("--rounds", rounds),
    ):
        if value < 1:
            raise OptionError(f"{option} {value}: out of range. Pass 1 or more.")
    # Before the first model is measured, which takes a while, so that mistakes are reported early.
    forms = [_require_form(path) for path in paths]
    request = {
        "images": None if images is None else _index(images, progress),
        "threads": threads,
        "batch_size": batch_size,
        "rounds": rounds,
    }
    measurements: list[Measurement] = []
    first: _Predictions | None = None
    with progress.track("Measuring models", len(paths)) as advance:
        for path, form in zip(paths, forms, strict=True):
            at = _location(path, form)
            answer = _measure_in_process({"model": str(at), "format": form, **request}, path)
            predictions = _Predictions(answer.pop("probabilities"), answer.pop("threshold"))
            first = first or predictions
            measurements.append(
                Measurement(
                    path=str(path),
                    format=form,
                    size_bytes=stored_size(at),
                    **answer,
                    **predictions.compare(first),
                )
            )
            advance(1)
    return measurements


class _Predictions:
    """A model's probabilities `(n,)` and its decisions at its own threshold."""

    def __init__(self, probabilities: Sequence[float], threshold: float) -> None:
        # float32, like a predicted probability: the decision at the threshold is then the same.
        single = np.asarray(probabilities, np.float32)
        self.decisions = single >= threshold
        self.probabilities = single.astype(np.float64)

    def compare(self, first: _Predictions) -> dict[str, Any]:
        difference = np.abs(self.probabilities - first.probabilities)
        return {
            "largest_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
            "changed": int((self.decisions != first.decisions).sum()),
            "slices": len(difference),
        }


def _index(images: Sequence[str | Path], progress: Progress) -> list[tuple[str, int | None]]:
    """Return path and frame of every slice in the images."""
    if not images:
        raise DataError("no images to measure with. Pass images, or none at all to use phantoms.")
    index = index_unlabeled_slices(images, progress)
    return [(str(ref.path), ref.frame) for ref in index.slices]


def _require_form(path: Path) -> str:
    form = model_form(path)
    if form is not None:
        return form
    reason = "not a model" if path.is_file() else "no model there"
    raise ModelError(f"{path}: {reason}. Pass {FORMS}.")


def _location(path: Path, form: str) -> Path:
    """Return the file or folder to load and measure."""
    if form == EMBEDDED:
        return embedded_file(TFLITE_FILE)
    return path / MODEL_FILE if form == RUN_FOLDER else fetch(path)


def _measure_in_process(request: dict[str, Any], path: Path) -> dict[str, Any]:
    """Start the worker; the request and its answer are JSON over pipes."""
    environment = {
        # Without it the last line of standard error is seldom the reason for a failure.
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        # The worker imports the same modules as this process, wherever it was started; with -P, no
        # file of the working folder comes before them.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", _WORKER],
        input=json.dumps(request),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise ModelError(
            f"{path}: cannot be measured, {_reason(done.returncode, done.stderr)}"
        ) from None
    if "error" in answer:
        message = answer["error"]
        raise ModelError(message if message.startswith(str(path)) else f"{path}: {message}")
    return answer


def _reason(returncode: int, stderr: str) -> str:
    """Return the reason for the failure of a worker that did not answer."""
    if returncode < 0:  # by a signal, which standard error does not mention
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        hint = ", probably because the system ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with exit code {returncode} and no message"
