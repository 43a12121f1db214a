"""How the pixels of a frame are stored, checked before anything is decoded or allocated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_code, read_integer
from hemorrhage_tf.imaging.dicom.frames import read_frame_count
from hemorrhage_tf.imaging.header import MAX_PIXELS

# Keeps the peak memory of reading any file below 1 GB; real slices are far smaller.
MAX_FRAME_BYTES = 128_000_000


class PixelLayout(NamedTuple):
    """How the pixels of a frame are stored (PS3.3, section C.7.6.3.1).

    Attributes:
        rows: Height, in pixels.
        columns: Width, in pixels.
        samples: Samples per pixel, 1 or 3.
        frames: Number of frames in the file.
        allocated: Bits allocated for a sample: 8, 16 or 32.
        stored: Bits of a sample that are in use.
        high: The highest bit in use.
        signed: Whether samples are signed.
        planar: Planar configuration: 0 by pixel, 1 by plane.
        photometric: Photometric interpretation.
    """

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
        """Whether a pixel has a color."""
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def frame_bytes(self) -> int:
        """Length of an uncompressed frame in the file."""
        length = self.rows * self.columns * self.samples * self.allocated // 8
        return length // 3 * 2 if self.photometric == "YBR_FULL_422" else length


def read_layout(file: DicomFile) -> PixelLayout:
    """Read how the pixels are stored.

    Raises:
        SliceError: The layout is inconsistent, unsupported or over a size limit.
    """
    dataset = file.dataset

    def number(keyword: str, default: int) -> int:
        value = read_integer(dataset, keyword)
        return default if value is None else value

    allocated = number("BitsAllocated", 0)
    stored = number("BitsStored", allocated)
    layout = PixelLayout(
        rows=number("Rows", 0),
        columns=number("Columns", 0),
        samples=number("SamplesPerPixel", 1),
        frames=read_frame_count(file),
        allocated=allocated,
        stored=stored,
        high=number("HighBit", stored - 1),
        signed=number("PixelRepresentation", 0) == 1,
        planar=number("PlanarConfiguration", 0),
        photometric=read_code(dataset, "PhotometricInterpretation") or "MONOCHROME2",
    )
    _check(file.path, layout)
    return layout


def _check(path: Path, layout: PixelLayout) -> None:
    if layout.rows < 1 or layout.columns < 1:
        raise SliceError(path, "declares no image size (Rows, Columns)")
    if layout.rows * layout.columns > MAX_PIXELS:
        raise SliceError(
            path,
            f"declares {layout.columns} x {layout.rows} pixels: the limit is "
            f"{MAX_PIXELS // 1_000_000} million",
        )
    if layout.samples not in (1, 3):
        raise SliceError(path, f"has {layout.samples} samples per pixel: it must have 1 or 3")
    if layout.allocated not in (8, 16, 32):
        raise SliceError(path, f"has {layout.allocated} bits per sample: it must have 8, 16 or 32")
    stored, high = layout.stored, layout.high
    if not 1 <= stored <= layout.allocated or not stored - 1 <= high < layout.allocated:
        raise SliceError(
            path,
            f"declares {stored} stored bits up to bit {high}, but {layout.allocated} allocated",
        )
    if layout.rows * layout.columns * layout.samples * layout.allocated // 8 > MAX_FRAME_BYTES:
        raise SliceError(
            path, f"declares frames over the limit of {MAX_FRAME_BYTES // 1_000_000} MB"
        )
    gray = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    color = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    accepted = gray if layout.samples == 1 else color
    if layout.photometric not in accepted:
        raise SliceError(
            path,
            f"its photometric interpretation is {layout.photometric}: with "
            f"{layout.samples} samples per pixel it must be one of {', '.join(accepted)}",
        )
