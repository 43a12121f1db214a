"""Choose one series of each study of labeled data whose labels belong to whole studies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Record, Records
from hemorrhage_tf.datasets.series_choice import RULES, SeriesCollector, choose_series
from hemorrhage_tf.imaging.dicom.series_tags import description_words
from hemorrhage_tf.imaging.header import Header


class StudySeries:
    """Collects the series of each patient, and keeps the records of those that `predict` would use.

    Readers labeled the whole study, but models are made for plain series with a soft kernel, not
    for bone kernels or angiographies. The rules are those of `series_choice`.
    """

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], SeriesCollector] = {}

    def add(self, record: Record, header: Header) -> None:
        """Add a file, whose folder is named after the series."""
        if header.series_tags is None:
            return
        folder = record.path.parent.name
        words = description_words(f"{header.series_tags.description} {folder}")
        tags = replace(header.series_tags, description=words)
        key = (str(record.patient), str(record.scan))
        if key not in self._series:
            self._series[key] = SeriesCollector(folder)
        self._series[key].add(replace(header, series_tags=tags))

    def keep_chosen(self, records: Records, progress: Progress) -> Records:
        """Return the records of the series that are used, and note how many are not."""
        keys = list(self._series)
        choice = choose_series([self._series[key].summary((key[0],), None) for key in keys])
        if not choice.left_out:
            return records
        by_rule = {rule.reason for rule in RULES}
        reasons = Counter(
            one.reason if one.reason in by_rule else "of another thickness, or repeated"
            for one in choice.left_out
        )
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        progress.note(
            f"Chose {len(choice.used)} of {len(keys)} series, one of each study. "
            f"Left out: {listed}."
        )
        unused = {keys[index] for index in choice.unused}
        patients, scans = records.patients, records.scans
        return records.take(
            np.array(
                [
                    index
                    for index in range(len(records))
                    if (str(patients[index]), str(scans[index])) not in unused
                ],
                np.int64,
            )
        )
