"""Subtypes of hemorrhage as columns of a manifest: which slices show them, and which are labeled.

The target "all" asks for any hemorrhage and all subtypes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.datasets.labels import parse_binary
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.records import Manifest

ALL_TARGETS = "all"
_CODES = {"": -1, "0": 0, "1": 1}  # the usual texts of cells


def subtype_columns(manifest: Manifest) -> dict[str, np.ndarray]:
    """Return for each subtype that is a column of the manifest which slices show it.

    Args:
        manifest: The `n` labeled slices. Where only scans are labeled, each slice carries the
            subtypes of its scan.

    Returns:
        By subtype bool `(n,)`: False also where the column is blank or holds another text.
    """
    places = {name: manifest.columns.index(name) for name in SUBTYPES if name in manifest.columns}
    if not places:
        return {}
    rows = [record.columns for record in manifest.records]
    return {
        name: np.array([parse_binary(row[place].strip()) == 1 for row in rows], bool)
        for name, place in places.items()
    }


def asks_for_subtypes(target: str | None) -> bool:
    """Return whether a target asks for any hemorrhage and all subtypes."""
    return target is not None and target.strip().lower() == ALL_TARGETS


def subtype_labels(manifest: Manifest) -> np.ndarray:
    """Return the labels of all subtypes.

    Args:
        manifest: `n` labeled slices with a column for each of `SUBTYPES`.

    Returns:
        int8 `(n, 5)` in the order of `SUBTYPES`: 0, 1, or -1 where the cell is blank.

    Raises:
        OptionError: A column is missing.
        DataError: Cells that are neither 0, 1 nor blank, or subtypes of slices without hemorrhage;
            all are listed.
    """
    labels, problems = _parse(manifest)
    if problems:
        listed = "\n".join(f"  {manifest.name_at(at)}: {why}" for at, why in problems.items())
        raise DataError(
            f"{len(problems)} slices have subtypes that cannot be used:\n{listed}\n"
            "Correct these rows, or leave the cells blank."
        )
    return labels


def move_subtype_problems(manifest: Manifest) -> Manifest:
    """Return the manifest with rows whose subtypes cannot be used as problems, not as records.

    Raises:
        OptionError: A column is missing.
    """
    _, wrong = _parse(manifest)
    if not wrong:
        return manifest
    problems = [Problem(manifest.name_at(at), why) for at, why in wrong.items()]
    keep = np.delete(np.arange(len(manifest)), list(wrong))
    return replace(
        manifest,
        records=manifest.records.take(keep),
        problems=(*manifest.problems, *problems),
    )


def _parse(manifest: Manifest) -> tuple[np.ndarray, dict[int, str]]:
    """Return the labels, and by index why a slice's subtypes cannot be used."""
    missing = [name for name in SUBTYPES if name not in manifest.columns]
    if missing:
        columns = ", ".join(manifest.columns) or "none"
        raise OptionError(
            f"--target {ALL_TARGETS}: the data have no column for {', '.join(missing)}. Columns "
            f"beside the label: {columns}. Add them (0, 1 or blank), or leave out --target."
        )
    places = [manifest.columns.index(name) for name in SUBTYPES]
    labels = np.full((len(manifest), len(SUBTYPES)), -1, np.int8)
    problems: dict[int, str] = {}
    positive = manifest.labels
    for index, record in enumerate(manifest.records):
        cells = [record.columns[place].strip() for place in places]
        values = [_CODES[cell] if cell in _CODES else parse_binary(cell) for cell in cells]
        wrong = [
            f"{name} {cell!r}"
            for name, cell, value in zip(SUBTYPES, cells, values, strict=True)
            if value is None
        ]
        if wrong:
            problems[index] = f"neither 0, 1 nor blank: {', '.join(wrong)}"
        elif not positive[index] and 1 in values:
            named = [name for name, value in zip(SUBTYPES, values, strict=True) if value == 1]
            problems[index] = f"has no hemorrhage, but the subtype {', '.join(named)}"
        else:
            labels[index] = [-1 if value is None else value for value in values]
    return labels, problems
