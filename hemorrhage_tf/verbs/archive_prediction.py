"""Predict the studies of an archive, and store the results there."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hemorrhage_tf.core.atomic_files import describe_os_error
from hemorrhage_tf.core.errors import (
    ArchiveError,
    DataError,
    HemorrhageError,
    OptionError,
    OutputError,
)
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.core.signals import raise_if_stopped
from hemorrhage_tf.dicom_results.derived_uids import anonymous_uid
from hemorrhage_tf.dicom_results.watch_record import DONE, FAILED, UNUSABLE, WatchRecord
from hemorrhage_tf.inference.predictions import Prediction

if TYPE_CHECKING:  # they need the extra `dicom`
    from hemorrhage_tf.dicom_results.archive import Archive
    from hemorrhage_tf.dicom_results.writing import WrittenScan

# Predicts the files in a folder, and writes their DICOM results.
PredictFolder = Callable[[Path], tuple[Prediction, "list[WrittenScan]"]]

_POLL_SECONDS = 10.0
_WORK_PREFIX, _WORK_SUFFIX = ".study.", ".part"  # of the folder that a study is fetched to
_STEP_SECONDS = 0.2  # how soon a signal ends a wait


@dataclass(frozen=True)
class ArchiveOptions:
    """How to reach an archive, and what to predict of it.

    Attributes:
        url: The root of its DICOMweb services.
        study: The Study Instance UID; None to watch the archive.
        watch: Whether to predict each study that arrives, without end.
        token: File with a bearer token, or None.
        ca: File with the certificates to trust, or None.

    Raises:
        OptionError: The options contradict each other, or a package is not installed.
    """

    url: str
    study: str | None
    watch: bool
    token: Path | None
    ca: Path | None

    def __post_init__(self) -> None:
        if self.watch == (self.study is not None):
            raise OptionError(
                "--dicomweb: pass --study UID for one study, or --watch for every study that "
                "arrives."
            )
        if find_spec("dicomweb_client") is None:
            raise OptionError(
                "--dicomweb needs dicomweb-client. Install it with pip install "
                "'hemorrhage_tf[dicom]'."
            )

    def open(self) -> Archive:
        """Return the archive.

        Raises:
            OptionError: The URL or a file cannot be used.
        """
        from hemorrhage_tf.dicom_results.archive import Archive

        return Archive(self.url, self.token, self.ca)


def predict_study(
    archive: Archive, study: str, predict_folder: PredictFolder, out: Path, progress: Progress
) -> Prediction:
    """Fetch a study, predict it, and store the results in the archive.

    Args:
        archive: The archive.
        study: The Study Instance UID.
        predict_folder: Predicts the files in a folder, and writes their results.
        out: The folder of the results, which also holds the study meanwhile.
        progress: Shows the progress.

    Returns:
        The prediction. Its paths are relative to the fetched study, whose files are deleted.

    Raises:
        ArchiveError: The archive cannot be reached, or refuses; the results are written all the
            same if the study was fetched.
        OutputError: The folder cannot be written.
    """
    with _work_folder(out) as folder:
        with progress.stage("Fetching the study"):
            archive.fetch(study, folder)
        prediction, written = predict_folder(folder)
        prediction = _relative_to(prediction, f"{folder}/")
    files = [path for one in written for path in one.files]
    try:
        with progress.stage("Storing the results"):
            archive.store(study, files)
    except ArchiveError as error:
        places = ", ".join(str(one.folder) for one in written)
        raise ArchiveError(f"{error} The results were written to {places}.") from None
    progress.note(f"Stored {len(files)} DICOM objects in the archive.")
    return prediction


def watch_archive(
    archive: Archive, predict_folder: PredictFolder, out: Path, progress: Progress
) -> NoReturn:
    """Predict each CT study that an archive has or gets, until a signal ends it.

    A study is predicted when it has not grown since the last query. One that fails is set aside and
    tried again later; one that cannot be used waits for further images.

    Args:
        archive: The archive.
        predict_folder: Predicts the files in a folder, and writes their results.
        out: The folder of the results and of the record, see `WatchRecord`.
        progress: Notes what becomes of each study, without identity.

    Raises:
        OutputError: The folder cannot be written.
    """
    record = WatchRecord(out)
    for left_behind in out.glob(f"{_WORK_PREFIX}*{_WORK_SUFFIX}"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    progress.note("Watching the archive. Stop it with Ctrl-C; the next start continues.")
    earlier: dict[str, int] = {}
    is_reachable = True
    while True:
        try:
            studies = archive.find_studies()
            if not is_reachable:
                progress.note("The archive answers again.")
            is_reachable = True
        except ArchiveError as error:
            if is_reachable:
                progress.warn(f"{error} Trying again every {_POLL_SECONDS:g} seconds.")
            is_reachable, studies = False, {}
        for study, instances in studies.items():
            name = anonymous_uid(study)
            if earlier.get(study) == instances and record.is_due(name, instances):
                predict = partial(predict_study, archive, study, predict_folder, out, progress)
                record.add(name, _attempt(name, predict, progress), instances)
        earlier = studies
        _wait(_POLL_SECONDS)


def _attempt(name: str, predict: Callable[[], Prediction], progress: Progress) -> str:
    """Predict one study of a watched archive; note and return what became of it."""
    try:
        prediction = predict()
    except DataError as error:
        progress.warn(f"Study {name}: cannot be used; waits for further images.", f"\n{error}")
        return UNUSABLE
    except HemorrhageError as error:
        progress.warn(f"Study {name}: failed, and is tried again later. {error}")
        return FAILED
    flagged = sum(one.is_hemorrhage for one in prediction.scans)
    progress.note(
        f"Study {name}: done, {flagged} of {len(prediction.scans)} scans predicted hemorrhage."
    )
    return DONE


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """Yield a folder for a fetched study, within that of the results, which names it as well."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, suffix=_WORK_SUFFIX, dir=out))
    except OSError as error:
        raise OutputError(
            f"--dicom-out {out}: cannot be written ({describe_os_error(error)}). Make room or name "
            "another folder."
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(seconds: float) -> None:
    """Wait, but end at once when a signal comes."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        raise_if_stopped()
        time.sleep(_STEP_SECONDS)


def _relative_to(prediction: Prediction, prefix: str) -> Prediction:
    """Return a prediction whose paths lack the folder that a study was fetched to."""

    def short(path: str) -> str:
        return path.removeprefix(prefix)

    return replace(
        prediction,
        slices=tuple(
            replace(one, path=short(one.path), scan=None if one.scan is None else short(one.scan))
            for one in prediction.slices
        ),
        scans=tuple(
            replace(one, scan=short(one.scan), top_slices=tuple(map(short, one.top_slices)))
            for one in prediction.scans
        ),
        left_out=tuple(replace(one, path=short(one.path)) for one in prediction.left_out),
    )
