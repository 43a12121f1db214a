"""The manifest: the labeled slices of a folder or table. Pixels are not read here."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.csv_manifest import read_csv_manifest
from hemorrhage_tf.datasets.header_records import add_headers
from hemorrhage_tf.datasets.labels import label_parser
from hemorrhage_tf.datasets.layouts.base import Row
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize
from hemorrhage_tf.datasets.records import Manifest, Record, Records
from hemorrhage_tf.datasets.series import slice_paths
from hemorrhage_tf.datasets.subtype_columns import asks_for_subtypes, move_subtype_problems
from hemorrhage_tf.imaging.readers import is_slice_path

LAYOUTS = """\
  a Kaggle-style folder: labels.csv with the columns id and hemorrhage, and files named by id
    in the folder or one or two folders below
  a folder of two class folders, such as normal/ and hemorrhage/ (--positive NAME for other names)
  a CSV manifest: path,label[,patient][,split][,frame][,any further columns]
    with [,scan][,position][,scan_label] if slices belong to scans
  RSNA 2019 (stage_2_train.csv), PhysioNet ct-ich (hemorrhage_diagnosis*.csv), CQ500 (reads.csv)
The files are PNG, JPEG, DICOM or NIfTI."""


def read_manifest(
    source: str | Path | Manifest,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    progress: Progress | None = None,
) -> Manifest:
    """List the labeled slices of a folder or CSV file.

    Accepted are a Kaggle-style folder (`labels.csv` and files named by id, in the folder or up to
    two folders below), a folder of two class folders, a CSV manifest with the columns `path`,
    `label` and optionally `patient`, `split`, `frame`, `scan`, `position` (in mm, growing from the
    neck to the vertex), `scan_label` and any others, and the unpacked folders of RSNA 2019,
    PhysioNet ct-ich and CQ500. The headers of DICOM and NIfTI files are read: a file of several
    slices becomes a record for each, the Patient ID becomes the patient unless the manifest names
    one, and a volume or series becomes a scan, whose slices have the positions of the headers.

    Args:
        source: A folder, a CSV file, or a manifest, which is returned unchanged.
        positive: The name of the class that means hemorrhage, if it is not a known one. Default
            None.
        target: The column to use as label, if there are several. Default None: the label column;
            "any" in a public data set. "all": the same label, and a column for each subtype, whose
            cells are checked.
        anonymize: Whether to keep names of patients out of the paths that outputs show. Default
            True.
        progress: Where to report progress. Defaults to None: nowhere.

    Returns:
        The manifest. Unusable rows and files are listed in its `problems`.

    Raises:
        DataError: There is no such folder or file, or its layout is none of the accepted ones.
        OptionError: `positive` is needed or names no class, or there is no such target.

    Example:
        >>> import hemorrhage_tf as htf
        >>> manifest = htf.read_manifest("head_ct")
        >>> [record.label for record in manifest.records[:4]]
        [0, 1, 0, 1]
        >>> manifest.problems
        ()
    """
    if isinstance(source, Manifest):
        return source
    if asks_for_subtypes(target):
        manifest = move_subtype_problems(_read_labels(Path(source), positive, None))
    else:
        manifest = _read_labels(Path(source), positive, target)
    return add_headers(manifest, anonymize, progress or Progress(quiet=True))


def _read_labels(source: Path, positive: str | None, target: str | None) -> Manifest:
    if source.is_file() and source.suffix.lower() == ".csv":
        return read_csv_manifest(source, positive, target)
    if source.is_file():
        raise DataError(f"{source}: not a folder or CSV manifest. Pass one of these:\n{LAYOUTS}")
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder. Pass one of these:\n{LAYOUTS}")
    known = recognize(source)
    if known is not None:
        return _read_public_data_set(source, known, target)
    for name in ("labels.csv", "manifest.csv"):
        if (source / name).is_file():
            return read_csv_manifest(source / name, positive, target)
    if target is not None:
        raise OptionError(
            f"--target {target}: class folders have no label columns. Leave the option out."
        )
    return _read_class_folders(source, positive)


def _read_public_data_set(folder: Path, name: str, target: str | None) -> Manifest:
    layout = read_layout(folder, name, target)
    records = Records(_record_of_layout(row, layout.level) for row in layout.rows)
    left_out: tuple[Problem, ...] = ()
    if layout.missing:
        reason = (
            f"{layout.missing} {layout.level}s of its table have no file in the folder and are "
            "left out"
        )
        left_out = (Problem(str(folder), reason),)
    return Manifest(
        records=records,
        root=folder,
        layout=name,
        problems=layout.problems,
        columns=layout.columns,
        level=layout.level,
        input_warnings=left_out,
    )


def _record_of_layout(row: Row, level: str) -> Record:
    has_slice_label = level == "slice"
    place = row.place
    return Record(
        path=row.path,
        label=row.label,
        patient=row.patient,
        frame=row.frame,
        columns=row.columns,
        scan=None if place is None else place.scan,
        position=None if place is None else place.position,
        number=None if place is None else place.number,
        thickness=None if place is None else place.thickness,
        scan_label=None if has_slice_label else row.label,
        has_slice_label=has_slice_label,
    )


def _read_class_folders(folder: Path, positive: str | None) -> Manifest:
    entries = sorted(folder.iterdir())
    classes = {
        entry.name: paths
        for entry in entries
        if entry.is_dir() and not entry.name.startswith(".") and (paths := slice_paths(entry))
    }
    loose = [entry for entry in entries if entry.is_file() and is_slice_path(entry)]
    if len(classes) != 2:
        received = (
            f"{len(loose)} images without labels"
            if loose and not classes
            else f"class folders: {', '.join(classes) or 'none'}"
        )
        raise DataError(
            f"{folder}: must contain a labels.csv, or exactly two folders with images. "
            f"Received {received}. Pass one of these:\n{LAYOUTS}"
        )
    to_label = label_parser(set(classes), positive)
    records = Records(
        Record(Path(path), to_label(name)) for name, paths in classes.items() for path in paths
    )
    problems = [
        Problem(str(image), "is outside the class folders, and has no label") for image in loose
    ]
    return Manifest(records, folder, "class folders", tuple(problems))
