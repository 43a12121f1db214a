"""The header that all readers return for a file, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass

# Limit on the pixels of a slice, checked before anything is allocated. A header can declare any
# size; real slices have at most a few thousand pixels a side.
MAX_PIXELS = 64_000_000


@dataclass(frozen=True, slots=True)
class SeriesTags:
    """The tags that tell a DICOM series from the others of its study. Any of them may be wrong.

    Attributes:
        study: The Study Instance UID, or None.
        number: The Series Number, or None.
        frame_of_reference: The Frame of Reference UID, or None. Positions of different ones cannot
            be compared.
        modality: A code such as "CT"; "" if unknown.
        has_image: Whether it declares rows and columns.
        image_type: The values of Image Type in upper case, such as "ORIGINAL".
        body_part: The Body Part Examined in upper case; "" if unknown.
        is_axial: Whether its first slice is axial; None if unknown.
        description: The words of the Series Description in upper case, separated by spaces. It is
            free text that may name the patient: never print it.
        kernel: The first Convolution Kernel in upper case; "" if unknown.
        has_contrast: Whether a contrast agent is stated.
    """

    study: str | None = None
    number: int | None = None
    frame_of_reference: str | None = None
    modality: str = ""
    has_image: bool = True
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    is_axial: bool | None = None
    description: str = ""
    kernel: str = ""
    has_contrast: bool = False


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
        series_tags: What tells a DICOM series from the others of its study; None for other formats.
        input_warning: Why the file does not look like axial slices of a head CT, a clause; or None.
    """

    positions: tuple[float | None, ...]
    patient: str | None = None
    identifying: tuple[str, ...] = ()
    series: str | None = None
    instance: str | None = None
    number: int | None = None
    thickness: float | None = None
    series_tags: SeriesTags | None = None
    input_warning: str | None = None

    def __len__(self) -> int:
        """Return the number of slices in the file."""
        return len(self.positions)
