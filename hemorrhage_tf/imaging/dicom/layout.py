"""TODO docstring."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import _code, _integer, _Source
from hemorrhage_tf.imaging.dicom.geometry import _frame_count
from hemorrhage_tf.imaging.header import MAX_PIXELS

# What keeps the peak memory of any file below 1 GB; real slices stay far below all of them.
_MAX_FRAME_BYTES = 128_000_000


class _Layout(NamedTuple):
    """How the pixels of a frame are stored; checked."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: int
    photometric: str

    @property
    def is_color(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def frame_bytes(self) -> int:
        """The length of an uncompressed frame in the file."""
        length = self.rows * self.columns * self.samples * self.allocated // 8
        return length // 3 * 2 if self.photometric == "YBR_FULL_422" else length


def _layout(source: _Source) -> _Layout:
    """Reads how the pixels are stored, and refuses what cannot or should not be decoded."""
    dataset, path = source.dataset, source.path

    def number(keyword: str, default: int) -> int:
        value = _integer(dataset, keyword)
        return default if value is None else value

    allocated = number("BitsAllocated", 0)
    stored = number("BitsStored", allocated)
    layout = _Layout(
        rows=number("Rows", 0),
        columns=number("Columns", 0),
        samples=number("SamplesPerPixel", 1),
        frames=_frame_count(source),
        allocated=allocated,
        stored=stored,
        high=number("HighBit", stored - 1),
        signed=number("PixelRepresentation", 0) == 1,
        planar=number("PlanarConfiguration", 0),
        photometric=_code(dataset, "PhotometricInterpretation") or "MONOCHROME2",
    )
    if layout.rows < 1 or layout.columns < 1:
        raise SliceError(path, "declares no size of the picture (Rows, Columns)")
    if layout.rows * layout.columns > MAX_PIXELS:
        raise SliceError(
            path,
            f"declares {layout.columns} x {layout.rows} pixels, more than the "
            f"{MAX_PIXELS // 1_000_000} million that are accepted",
        )
    if layout.samples not in (1, 3):
        raise SliceError(path, f"has {layout.samples} samples a pixel: accepted are 1 and 3")
    if allocated not in (8, 16, 32):
        raise SliceError(path, f"has {allocated} bits a sample: accepted are 8, 16 and 32")
    if not 1 <= stored <= allocated or not stored - 1 <= layout.high < allocated:
        raise SliceError(path, f"stores {stored} bits in {allocated}, up to bit {layout.high}")
    if layout.rows * layout.columns * layout.samples * allocated // 8 > _MAX_FRAME_BYTES:
        raise SliceError(
            path, f"a frame has more than the {_MAX_FRAME_BYTES // 1_000_000} MB that are accepted"
        )
    _require_photometric(path, layout)
    return layout


def _require_photometric(path: Path, layout: _Layout) -> None:
    gray = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    color = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    accepted = gray if layout.samples == 1 else color
    if layout.photometric not in accepted:
        raise SliceError(
            path,
            f"its photometric interpretation is {layout.photometric}: accepted for "
            f"{layout.samples} samples a pixel are {', '.join(accepted)}",
        )
