"""A table of image statistics in memory, for tests."""

from collections.abc import Sequence

import numpy as np

from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.image_statistics import (
    ARRAYS,
    ImageStatistics,
    ImageStatisticsTable,
    SavedFormat,
    pack_statistics,
)


def table_of(statistics: Sequence[ImageStatistics]) -> ImageStatisticsTable:
    """Return statistics as a table."""
    numbers, arrays, saved = pack_statistics(statistics)
    formats: dict[SavedFormat, int] = {}
    numbers["format"] = [formats.setdefault(each, len(formats)) for each in saved]
    stored = FileArray(ARRAYS)
    stored.append(arrays)
    return ImageStatisticsTable(numbers, tuple(formats), stored, np.arange(len(numbers)))
