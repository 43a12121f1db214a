"""Fixtures that write and read small DICOM files."""

from pathlib import Path

import pytest
from dicom_files import RAMP, dataset_of, encode

from hemorrhage_tf.imaging.dicom.reading import read_frame


def pytest_collection_modifyitems(items):
    # The tests compare with pydicom's own functions, which warn of faults in pydicom's own files.
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        for category in ("UserWarning", "RuntimeWarning"):
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}:pydicom.*"))


@pytest.fixture
def write(tmp_path):
    """Write the bytes of a file, or a CT slice with the given tags."""

    def write(pixels=RAMP, name="slice.dcm", **tags):
        path = tmp_path / name
        data = pixels if isinstance(pixels, bytes) else encode(dataset_of(pixels, **tags))
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def read(write):
    """Write a CT slice with the given tags, and read it back."""

    def read(pixels=RAMP, **tags):
        return read_frame(write(pixels, **tags))

    return read
