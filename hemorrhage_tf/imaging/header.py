"""The header that all readers return for a file, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass

# Limit on the pixels of a slice, checked before anything is allocated. A header can declare any
# size; real slices have at most a few thousand pixels a side.
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """The tags that listing, sorting and grouping need.

    Attributes:
        positions: For each slice in the file, in its order, the position in mm along the normal of
            the slices, growing toward the head; None if the file does not state it.
        patient: The Patient ID, or None. It identifies a person: it groups slices, and is written
            only if the user asks for it.
        identifying: Other texts in the header that identify the patient (parts of the name, other
            IDs), so that they can be kept out of output.
        series: The Series Instance UID, or None.
        instance: The SOP Instance UID, or None.
        number: The Instance Number, or None.
        thickness: The slice thickness in mm, or None if the file does not state it.
        input_warning: Why the file does not look like axial slices of a head CT, a clause; or None.
    """

    positions: tuple[float | None, ...]
    patient: str | None = None
    identifying: tuple[str, ...] = ()
    series: str | None = None
    instance: str | None = None
    number: int | None = None
    thickness: float | None = None
    input_warning: str | None = None

    def __len__(self) -> int:
        """Return the number of slices in the file."""
        return len(self.positions)
