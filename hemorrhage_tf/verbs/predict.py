"""The verb `predict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress, verb_progress
from hemorrhage_tf.datasets.series import list_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import Prediction
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.verbs.arguments import ModelArgument, check_images, resolve_model

if TYPE_CHECKING:  # Only DICOM results and archives need them.
    from hemorrhage_tf.dicom_results.writing import WrittenScan
    from hemorrhage_tf.verbs.archive_prediction import ArchiveOptions
    from hemorrhage_tf.verbs.predicted_scans import DicomOutput


# A verb takes each option of its command as a keyword.
def predict(
    images: str | Path | Iterable[str | Path] = (),
    *,
    model: ModelArgument = EMBEDDED_MODEL,
    window: str | Sequence[str] | None = None,
    cam: str | Path | None = None,
    contours: bool = False,
    dicom_out: str | Path | None = None,
    anonymize: bool = False,
    dicomweb: str | None = None,
    study: str | None = None,
    watch: bool = False,
    token: str | Path | None = None,
    ca: str | Path | None = None,
    series: str | int | Iterable[str | int] = (),
    tta: bool = False,
    skip_invalid: bool = False,
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Prediction:
    """Predict slices, and the scans that they belong to.

    The embedded model imports no TensorFlow.

    Args:
        images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several; none with
            `dicomweb`. Defaults to none.
        model: A model of any form, see `load`; or the result of `load` or `fit`. Defaults to
            "phantomnet", the embedded model.
        window: Window for Hounsfield units: a name, "CENTER/WIDTH", or three. None for the model's.
        cam: Folder to write overlays of the class activation map to: they show where the evidence
            lies by which a slice exceeds its threshold, all on the scale of `color_bar.png` there.
            Defaults to None.
        contours: Draw contours in the overlays instead of colors. Defaults to False.
        dicom_out: Folder to write DICOM results of each scan to: a structured report, a selection
            of the flagged slices, these with overlays, and a summary page. They carry the patient's
            identity. Needs highdicom. Defaults to None.
        anonymize: De-identify the DICOM results by the Basic Application Level Confidentiality
            Profile of DICOM PS3.15. Defaults to False.
        dicomweb: Root URL of an archive's DICOMweb services: predict a study of it, and store the
            results there. Requires `dicom_out`, which has the results in any case, and
            dicomweb-client. Defaults to None.
        study: The Study Instance UID of the study. Defaults to None.
        watch: Predict every CT study that the archive has or gets, until a signal ends it. The file
            `watched.jsonl` in `dicom_out` records what is done. Defaults to False.
        token: File with a bearer token for the archive. Defaults to None.
        ca: File with the certificates to trust, in PEM format. Defaults to None, for those of
            requests.
        series: The DICOM series to use, one or several: Series Number, Series Instance UID, or an
            end of it that no other series has. Defaults to none: of each study that a folder or
            pattern holds, the axial, plain series of the head with a soft kernel.
        tta: Average over each slice and its flips, which takes four times as long. Defaults to
            False.
        skip_invalid: Continue without files that cannot be read, and without DICOM results of
            scans that cannot have any. Defaults to False.
        log_json: File to append events to as JSON Lines; see `core.event_log.EventLog`, and
            `dicom_results.audit_trail` for the event of each scan. It identifies nobody. Defaults
            to None.
        quiet: Print no progress and no notes. Defaults to False.

    Returns:
        A prediction for each slice, which iterates like a list; in `scans` one for each scan; in
        `left_out` the series that were not used.

    Raises:
        ArchiveError: The archive cannot be reached, or refuses.
        DataError: Files cannot be read, or scans cannot have DICOM results, all listed in one
            message.
        ModelError: There is no model at that path, or it is damaged.
        OptionError: An option does not fit the model or the slices, there is no such series, or
            a package is not installed.
        OutputError: A file cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> for one in htf.predict("slice.png", quiet=True):
        ...     print(one.path, 0 <= one.probability <= 1)
        slice.png True
    """
    options = {
        "window": window,
        "cam": cam is not None,
        "contours": contours,
        "dicom_out": dicom_out is not None,
        "anonymize": anonymize,
        "dicomweb": dicomweb is not None,
        "watch": watch,
        "tta": tta,
        "skip_invalid": skip_invalid,
    }
    if anonymize and dicom_out is None:
        raise OptionError("--anonymize is about DICOM results. Pass --dicom-out DIR as well.")
    if contours and cam is None:
        raise OptionError("--contours is about overlays. Pass --cam DIR as well.")
    archive = _archive_options(images, dicomweb, study, watch, token, ca)
    if archive is not None and (dicom_out is None or anonymize):
        raise OptionError(
            "--dicomweb: pass --dicom-out DIR, which has the results in any case, and no "
            "--anonymize: results in an archive belong to its patient."
        )
    paths = [] if archive is not None else check_images(images)
    output = None
    if dicom_out is not None:
        from hemorrhage_tf.verbs.predicted_scans import DicomOutput

        output = DicomOutput(Path(dicom_out), anonymize)
    with verb_progress("predict", options, log_json, quiet) as progress:
        loaded = resolve_model(model, progress, tta)
        predictor = _Predictor(
            loaded,
            window,
            cam,
            contours,
            series,
            skip_invalid,
            output,
            log_json is not None,
            progress,
        )
        if archive is None or output is None:
            return predictor.predict(paths)[0]
        from hemorrhage_tf.verbs.archive_prediction import predict_study, watch_archive

        opened = archive.open()

        def predict_folder(folder: Path) -> tuple[Prediction, list[WrittenScan]]:
            return predictor.predict([folder])

        if archive.study is not None:
            return predict_study(opened, archive.study, predict_folder, output.folder, progress)
        watch_archive(opened, predict_folder, output.folder, progress)


def _archive_options(
    images: str | Path | Iterable[str | Path],
    dicomweb: str | None,
    study: str | None,
    watch: bool,
    token: str | Path | None,
    ca: str | Path | None,
) -> ArchiveOptions | None:
    """Return how to reach an archive; None if none is meant."""
    given = {"--study": study, "--watch": watch, "--token": token, "--ca": ca}
    if dicomweb is None:
        alone = [name for name, value in given.items() if value]
        if alone:
            raise OptionError(f"{alone[0]} is about an archive. Pass --dicomweb URL as well.")
        return None
    if isinstance(images, str | Path) or list(images):
        raise OptionError(
            "--dicomweb: images come from the archive. Leave out IMAGES, or --dicomweb."
        )
    from hemorrhage_tf.verbs.archive_prediction import ArchiveOptions

    return ArchiveOptions(
        url=dicomweb,
        study=study,
        watch=watch,
        token=None if token is None else Path(token),
        ca=None if ca is None else Path(ca),
    )


@dataclass(frozen=True)
class _Predictor:
    """Predicts files with the options of one call, and writes what belongs to the result."""

    model: Model
    window: str | Sequence[str] | None
    cam: str | Path | None
    contours: bool
    series: str | int | Iterable[str | int]
    skip_invalid: bool
    output: DicomOutput | None
    has_log: bool
    progress: Progress

    def predict(self, paths: Sequence[str | Path]) -> tuple[Prediction, list[WrittenScan]]:
        """Predict files, and write DICOM results and the audit trail where they are requested."""
        model, output, progress = self.model, self.output, self.progress
        listing = list_images(paths, self.series, progress)
        sources = {}
        if output is not None:
            from hemorrhage_tf.verbs.predicted_scans import find_sources

            sources = find_sources(listing, output, progress, self.skip_invalid)
        prediction = model.predict(
            listing,
            window=self.window,
            cam=self.cam,
            contours=self.contours,
            skip_invalid=self.skip_invalid,
            progress=progress,
        )
        written: list[WrittenScan] = []
        if output is not None:
            from hemorrhage_tf.verbs.predicted_scans import write_dicom

            written = write_dicom(
                prediction, sources, model, self.window, output, progress, self.skip_invalid
            )
        if self.has_log:
            from hemorrhage_tf.verbs.predicted_scans import write_audit_trail

            write_audit_trail(prediction, listing, sources, model, written, progress)
        flagged = sum(one.is_hemorrhage for one in prediction)
        progress.event(
            "result",
            summary=f"{flagged} of {len(prediction)} slices predicted hemorrhage",
            metrics={},
        )
        return prediction, written
