"""What a DICOM or NIfTI file says of its slices, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass

# Pixels of a slice. A header can declare any size; real slices have at most a few thousand pixels a
# side, and this is refused before anything is allocated.
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """The tags that listing, sorting and grouping need.

    Attributes:
        positions: of each slice in the file, in its order: millimeters along the normal of the
            slices, growing towards the head; None where the file does not say.
        patient: the Patient ID, or None. It identifies a person: it groups slices, and is not
            written anywhere unless the user asks.
        identifying: what else in the header names the patient (the parts of the name, other IDs),
            so that it can be kept out of what is written.
        series: the Series Instance UID, or None.
        instance: the SOP Instance UID, or None.
        number: the Instance Number, or None.
        input_warning: what speaks against axial slices of a head CT, a clause; or None.
    """

    positions: tuple[float | None, ...]
    patient: str | None = None
    identifying: tuple[str, ...] = ()
    series: str | None = None
    instance: str | None = None
    number: int | None = None
    input_warning: str | None = None

    def __len__(self) -> int:
        """How many slices the file holds."""
        return len(self.positions)
