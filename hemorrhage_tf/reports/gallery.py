"""The gallery of a report: slices the model got wrong, and its most confident correct ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.reports.embedded_images import data_uris

FALSE_NEGATIVE, FALSE_POSITIVE = "false negative", "false positive"
CONFIDENT_HEMORRHAGE, CONFIDENT_NORMAL = "most confident hemorrhage", "most confident normal"


@dataclass(frozen=True)
class GalleryItem:
    """One slice of the gallery.

    Attributes:
        name: Of the slice, as outputs show it.
        label: 0 or 1.
        probability: Predicted probability of hemorrhage, in [0, 1].
        predicted_hemorrhage: Whether the probability reaches the threshold.
        kind: "false negative", "false positive", "most confident hemorrhage" or "most confident
            normal".
        image: Content of an 8-bit PNG or JPEG of the slice, of any size.
        overlay: The same with the class activation map drawn over it, or None. Defaults to None.
    """

    name: str
    label: int
    probability: float
    predicted_hemorrhage: bool
    kind: str
    image: bytes
    overlay: bytes | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(
                f"{self.kind!r} for slice {self.name}: the kind must be one of "
                f"{', '.join(map(repr, KINDS))}. Pass one of these."
            )


@dataclass(frozen=True)
class _Kind:
    """How slices of one kind are presented."""

    title: str
    order: str
    none: str
    is_wrong: bool
    lowest_first: bool


KINDS = {
    FALSE_NEGATIVE: _Kind(
        title="Missed hemorrhages (false negatives)",
        order="Lowest probability first.",
        none="No hemorrhage was missed.",
        is_wrong=True,
        lowest_first=True,
    ),
    FALSE_POSITIVE: _Kind(
        title="False alarms (false positives)",
        order="Highest probability first.",
        none="No slice without hemorrhage was predicted hemorrhage.",
        is_wrong=True,
        lowest_first=False,
    ),
    CONFIDENT_HEMORRHAGE: _Kind(
        title="Hemorrhages detected with the highest probability",
        order="Highest probability first.",
        none="No hemorrhage was detected.",
        is_wrong=False,
        lowest_first=False,
    ),
    CONFIDENT_NORMAL: _Kind(
        title="Normal slices with the lowest probability",
        order="Lowest probability first.",
        none="No slice was correctly predicted normal.",
        is_wrong=False,
        lowest_first=True,
    ),
}


@dataclass(frozen=True)
class GallerySlice:
    """One slice as the page shows it: the item and the data URIs of its images."""

    item: GalleryItem
    image: str
    overlay: str | None


@dataclass(frozen=True)
class GalleryGroup:
    """The slices of one kind, in the order of the page."""

    name: str
    kind: _Kind
    slices: tuple[GallerySlice, ...]


def group_gallery(items: Sequence[GalleryItem]) -> list[GalleryGroup]:
    """Sort slices into groups, one per kind, each with its most confident prediction first.

    Args:
        items: Slices in any order.

    Returns:
        One group for every kind, also for a kind without slices.

    Raises:
        DataError: If an image is not a PNG or JPEG.
    """
    contents = [item.image for item in items]
    contents += [item.overlay for item in items if item.overlay is not None]
    uris = iter(data_uris(contents))
    images = [next(uris) for _ in items]
    overlays = [next(uris) if item.overlay is not None else None for item in items]
    on_page = [
        GallerySlice(item, image, overlay)
        for item, image, overlay in zip(items, images, overlays, strict=True)
    ]
    groups = []
    for name, kind in KINDS.items():
        chosen = [one for one in on_page if one.item.kind == name]
        chosen.sort(key=lambda one: one.item.probability, reverse=not kind.lowest_first)
        groups.append(GalleryGroup(name, kind, tuple(chosen)))
    return groups
