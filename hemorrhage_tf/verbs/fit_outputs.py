"""The outputs of a fit besides its run folder: the event log and TensorBoard."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.training.checkpoint import checkpoint_folder
from hemorrhage_tf.training.distributed.cluster_spec import read_cluster
from hemorrhage_tf.verbs.fit_request import FitRequest


def check_outside_of_run(
    run: Path, log_json: str | Path | None, tensorboard: str | Path | None
) -> None:
    """Reject outputs inside the run folder, which is written as a whole at the end."""
    places = run.resolve(), checkpoint_folder(run).resolve()
    for option, given, path in (
        ("--log-json", log_json, Path(log_json or "")),
        ("--tensorboard", tensorboard, Path(tensorboard or "", run.name)),
    ):
        resolved = path.resolve()
        if given is not None and any(
            resolved.is_relative_to(place) or place.is_relative_to(resolved) for place in places
        ):
            raise OptionError(
                f"{option} {given}: {path} is inside the run folder {run}, which is only written "
                "at the end. Name another place."
            )


def log_of_worker(log_json: str | Path | None, request: FitRequest) -> Path | None:
    """Return the event log of this worker; all workers have the same command line."""
    if log_json is None:
        return None
    path = Path(log_json)
    if request.settings.get("strategy") != "multiworker":
        return path
    index = read_cluster().index
    return path.with_suffix(f".worker-{index}{path.suffix}") if index else path
