from __future__ import annotations

import pytest
from report_examples import noise_png

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.reports.gallery import (
    CONFIDENT_HEMORRHAGE,
    CONFIDENT_NORMAL,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
    group_gallery,
)


def item(kind: str, probability: float) -> GalleryItem:
    return GalleryItem(f"{probability}.png", 1, probability, False, kind, noise_png(side=8))


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        (FALSE_NEGATIVE, [0.1, 0.2, 0.3]),
        (FALSE_POSITIVE, [0.3, 0.2, 0.1]),
        (CONFIDENT_HEMORRHAGE, [0.3, 0.2, 0.1]),
        (CONFIDENT_NORMAL, [0.1, 0.2, 0.3]),
    ],
)
def test_most_confident_predictions_come_first(kind, order):
    groups = {
        group.name: group for group in group_gallery([item(kind, p) for p in (0.2, 0.3, 0.1)])
    }
    assert [one.item.probability for one in groups[kind].slices] == order
    assert sum(len(group.slices) for group in groups.values()) == 3


def test_rejects_an_unknown_kind():
    with pytest.raises(DataError, match="'odd' for slice 0.5.png: .*'false negative'"):
        item("odd", 0.5)
