"""Fixtures for data sets: DICOM files of given patients."""

from __future__ import annotations

import numpy as np
import pytest

TINY = np.zeros((4, 4), np.float32)


@pytest.fixture
def add_dicom(tmp_path, write_dicom):
    """Write slices of one patient: `add_dicom("P1", "normal/a.dcm", "normal/b.dcm")`."""

    def add(patient, *names, folder=tmp_path, **tags):
        return [
            write_dicom(folder / name, TINY, index, PatientID=patient, **tags)
            for index, name in enumerate(names)
        ]

    return add
