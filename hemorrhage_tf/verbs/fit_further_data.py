"""The data of a fit besides its own slices: phantoms, and a set that is only evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.core.workers import Workers
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.training.evaluated_sets import EXTERNAL, PHANTOMS
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.verbs.fit_request import FitRequest

# Random seeds that PhantomNet was not trained on. They are the same for every fit, so that phantoms
# and their features are found in the cache.
TRAINED_SEED, EVALUATED_SEED = 3_000_003, 3_000_004
EVALUATED_PHANTOMS = 200


@dataclass(frozen=True)
class FurtherData:
    """The data of a fit besides its own slices.

    Attributes:
        phantoms: Phantoms to train on, or None.
        evaluated: Sets that are only evaluated, by the names of `training.evaluated_sets`.
        external_root_is_named: Whether the path of the other set may name a patient.
    """

    phantoms: SliceIndex | None
    evaluated: dict[str, SliceIndex]
    external_root_is_named: bool = False


def read_further_data(
    request: FitRequest,
    settings: FitSettings,
    cache: Path,
    cluster: Workers,
    progress: Progress,
) -> FurtherData:
    """Draw the phantoms of a fit, and read the set that it only evaluates.

    Args:
        request: The options of the fit.
        settings: Its settings.
        cache: The cache folder, which keeps phantoms.
        cluster: The workers.
        progress: Shows progress, notes and warnings.

    Raises:
        HemorrhageError: Phantoms cannot be written, or the other set cannot be used.
    """

    def read_phantoms(count: int, seed: int) -> SliceIndex:
        # Only here, because importing the generator takes a while.
        from hemorrhage_tf.synthesis.phantom_sets import cached_phantoms

        folder = cached_phantoms(cache / "phantoms", count, seed, progress)
        # The appearance of phantoms is no reason for a warning.
        quiet = Progress(quiet=True)
        return build_slice_index(
            read_manifest(folder, progress=quiet), quiet, False, keep_in, workers=cluster
        )

    keep_in = cache / SLICE_INDEX
    evaluated, is_named = {}, False
    if request.external is not None:
        manifest = read_manifest(
            request.external, request.positive, request.target, request.anonymize, progress
        )
        is_named = manifest.root_is_named
        evaluated[EXTERNAL] = build_slice_index(
            manifest, progress, request.skip_invalid, keep_in, workers=cluster
        )
    phantoms = None
    if settings.phantoms:
        phantoms = read_phantoms(settings.phantoms, TRAINED_SEED)
        evaluated[PHANTOMS] = read_phantoms(EVALUATED_PHANTOMS, EVALUATED_SEED)
    return FurtherData(phantoms, evaluated, is_named)
