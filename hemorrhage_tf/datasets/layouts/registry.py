"""Layouts: the public data sets of hemorrhage CT, recognized and listed. No pixels are read here.

A layout is recognized by the name and the header of its table of labels. What it lists are rows:
`manifest` makes a manifest of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import (
    CQ500,
    CT_ICH,
    DEFAULT_TARGET,
    RSNA,
    Layout,
    _header_fits,
)
from hemorrhage_tf.datasets.layouts.cq500 import CQ500_TABLE, _read_cq500
from hemorrhage_tf.datasets.layouts.ct_ich import CT_ICH_TABLES, _read_ct_ich
from hemorrhage_tf.datasets.layouts.rsna import RSNA_TABLES, _read_rsna


def recognize(folder: str | Path) -> str | None:
    """Names the layout of a folder, by the name and the header of its table of labels.

    Args:
        folder: where the data set was unpacked.

    Returns:
        "rsna 2019", "ct-ich" or "cq500"; None for anything else.
    """
    folder = Path(folder)
    for name, tables in _TABLES.items():
        for table in tables:
            if (folder / table).is_file() and _header_fits(folder / table, _NEEDED[name]):
                return name
    return None


def read_layout(folder: str | Path, name: str, target: str | None = None) -> Layout:
    """Lists the slices of a known data set.

    Args:
        folder: where the data set was unpacked.
        name: from `recognize`.
        target: the finding that the label tells of, one of the layout's `targets`, in any case.
            Default None, which is "any": hemorrhage of any kind.

    Returns:
        The layout. What is wrong with single rows stands in its `problems`, and those rows are
        left out.

    Raises:
        DataError: the table cannot be read, or none of its rows has an image.
        OptionError: the layout has no such target.
    """
    folder = Path(folder)
    wanted = DEFAULT_TARGET if target is None else target.strip().lower()
    for table in _TABLES[name]:
        if (folder / table).is_file() and _header_fits(folder / table, _NEEDED[name]):
            break
    else:
        raise DataError(f"{folder}: holds none of the tables of {name}: {', '.join(_TABLES[name])}")
    try:
        layout = _READERS[name](folder, table, wanted)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not layout.rows and not layout.problems:
        if not layout.missing:
            raise DataError(f"{folder / table}: has a header and no rows")
        raise DataError(
            f"{folder / table}: none of the {layout.missing} {layout.level}s that it names has an "
            "image in this folder. Unpack the images beside it."
        )
    return layout


_TABLES: Mapping[str, tuple[str, ...]] = {
    RSNA: RSNA_TABLES,
    CT_ICH: tuple(CT_ICH_TABLES),
    CQ500: (CQ500_TABLE,),
}


_NEEDED = {
    RSNA: frozenset({"id", "label"}),
    CT_ICH: frozenset({"patientnumber", "slicenumber", "no_hemorrhage"}),
    CQ500: frozenset({"name", "r1:ich"}),
}


_READERS = {RSNA: _read_rsna, CT_ICH: _read_ct_ich, CQ500: _read_cq500}
