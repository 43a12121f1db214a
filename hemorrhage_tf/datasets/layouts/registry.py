"""Recognize and list the public data sets. No pixels are read here.

A data set is recognized by the name and the header of its table of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import CQ500, CT_ICH, DEFAULT_TARGET, RSNA, Layout
from hemorrhage_tf.datasets.layouts.cq500 import CQ500_TABLE, read_cq500
from hemorrhage_tf.datasets.layouts.ct_ich import CT_ICH_TABLES, read_ct_ich
from hemorrhage_tf.datasets.layouts.rsna import RSNA_TABLES, read_rsna
from hemorrhage_tf.datasets.layouts.tables import has_columns


@dataclass(frozen=True)
class _KnownLayout:
    tables: tuple[str, ...]
    columns: frozenset[str]
    read: Callable[[Path, str, str], Layout]

    def table_in(self, folder: Path) -> str | None:
        """Return the name of the table in a folder, None if there is none."""
        for table in self.tables:
            if (folder / table).is_file() and has_columns(folder / table, self.columns):
                return table
        return None


_KNOWN = {
    RSNA: _KnownLayout(RSNA_TABLES, frozenset({"id", "label"}), read_rsna),
    CT_ICH: _KnownLayout(
        tuple(CT_ICH_TABLES),
        frozenset({"patientnumber", "slicenumber", "no_hemorrhage"}),
        read_ct_ich,
    ),
    CQ500: _KnownLayout((CQ500_TABLE,), frozenset({"name", "r1:ich"}), read_cq500),
}


def recognize(folder: str | Path) -> str | None:
    """Return the name of the data set in a folder.

    Args:
        folder: Where the data set was unpacked.

    Returns:
        "rsna 2019", "ct-ich" or "cq500"; None for anything else.
    """
    for name, known in _KNOWN.items():
        if known.table_in(Path(folder)):
            return name
    return None


def read_layout(folder: str | Path, name: str, target: str | None = None) -> Layout:
    """List the slices of a public data set.

    Args:
        folder: Where the data set was unpacked.
        name: The name that `recognize` returns.
        target: The finding to use as label, one of the layout's `targets` in any case. Default
            None: "any", hemorrhage of any kind.

    Returns:
        The layout. Unusable rows are left out and listed in its `problems`.

    Raises:
        DataError: The table cannot be read, or none of its rows has an image.
        OptionError: The layout has no such target.
    """
    folder, known = Path(folder), _KNOWN[name]
    table = known.table_in(folder)
    if table is None:
        raise DataError(
            f"{folder}: contains no table of {name} ({', '.join(known.tables)}). "
            "Pass the folder that the data set was unpacked to."
        )
    wanted = DEFAULT_TARGET if target is None else target.strip().lower()
    try:
        layout = known.read(folder, table, wanted)
    except OSError as error:
        raise DataError(
            f"{error.filename}: cannot be read ({error.strerror}). Check its permissions."
        ) from None
    if not layout.rows and not layout.problems:
        if not layout.missing:
            raise DataError(f"{folder / table}: has a header, but no rows. Unpack it again.")
        raise DataError(
            f"{folder / table}: none of its {layout.missing} {layout.level}s has an image in this "
            "folder. Unpack the images next to it."
        )
    return layout
