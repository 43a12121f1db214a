import struct

import numpy as np
import pytest
from dicom_files import AXIAL, RAMP, dataset_of, encode, item_of

from hemorrhage_tf.imaging.dicom.elements import (
    MAX_VALUE_BYTES,
    is_empty,
    read_code,
    read_integer,
    read_numbers,
    read_text,
    read_texts,
    read_value,
)
from hemorrhage_tf.imaging.dicom.parse import open_dicom
from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import IMPLICIT


class TestValues:
    DATASET = item_of(
        WindowCenter=[40.5, 50.5], Modality="CT ", PatientID=" P1 ", Rows=3, BodyPartExamined=""
    )

    def test_texts_have_no_padding(self):
        assert read_texts(self.DATASET, "PatientID") == ["P1"]
        assert read_text(self.DATASET, "WindowCenter") == "40.5\\50.5"
        assert read_text(self.DATASET, "BodyPartExamined") is None
        assert read_code(self.DATASET, "Modality") == "CT"

    def test_numbers(self):
        assert read_numbers(self.DATASET, "WindowCenter") == (40.5, 50.5)
        assert read_integer(self.DATASET, "Rows") == 3
        assert read_numbers(self.DATASET, "PatientID") == ()
        assert read_integer(item_of(WindowCenter=0.5), "WindowCenter") is None

    def test_empty_is_missing_or_without_a_value(self):
        assert is_empty(self.DATASET, "BodyPartExamined") and is_empty(self.DATASET, "Columns")
        assert not is_empty(self.DATASET, "PatientID")
        assert read_value(self.DATASET, "Columns") is None


@pytest.mark.parametrize(
    "tag, value, broken",
    [
        ("InstanceNumber", "7777", b"7.x!"),
        ("ImagePositionPatient", ["111", "222", "333"], b"1x1\\222"),
        ("SeriesInstanceUID", "1.222", b"hello"),
        ("NumberOfFrames", "1111", b"1A!!"),
    ],
)
def test_malformed_values_raise_nothing(tag, value, broken, write):
    data = encode(dataset_of(ImageOrientationPatient=AXIAL, **{tag: value}))
    text = "\\".join(value) if isinstance(value, list) else value
    header = read_header(write(data.replace(text[: len(broken)].encode(), broken, 1)))
    assert header.number is None and header.positions == (None,)


def test_values_that_are_too_long_are_none(write):
    data = encode(dataset_of(syntax=IMPLICIT, InstanceNumber="7"))
    at = data.index(b"\x20\0\x13\0")
    count = MAX_VALUE_BYTES // 2 + 1
    long = b"\x20\0\x13\0" + struct.pack("<I", 2 * count) + b"1\\" * count
    path = write(data[:at] + long + data[at + 10 :])
    with open_dicom(path, ("InstanceNumber",)) as file:
        assert "InstanceNumber" in file.dataset
        assert read_value(file.dataset, "InstanceNumber") is None
    assert read_header(path).number is None


def test_private_elements_of_undefined_length_are_skipped(write):
    data = encode(dataset_of(InstanceNumber=3))
    private = b"\x09\0\x10\0LO\x04\0TEST" + b"\x09\0\x01\x10OB\0\0\xff\xff\xff\xff"
    private += b"\xfe\xff\x00\xe0\x02\0\0\0ab" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    at = data.index(b"\x20\0\x13\0")
    path = write(data[:at] + private + data[at:])
    assert read_header(path).number == 3
    np.testing.assert_array_equal(read_frame(path), RAMP)
