import logging
import struct
import warnings
import zlib

import numpy as np
import pytest
from dicom_files import PACKAGED, RAMP, dataset_of, encode, reason_of_refusal

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom import parse
from hemorrhage_tf.imaging.dicom.parse import is_dicom
from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT


class TestIsDicom:
    def test_depends_on_content_and_not_on_the_name(self, write):
        assert is_dicom(write(name="IM000001"))
        assert not is_dicom(write(b"\x89PNG\r\n\x1a\n" + bytes(200), name="slice.dcm"))

    @pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\0\x05\0", bytes(200), b"text " * 99])
    def test_rejects_short_and_foreign_files(self, data, write):
        assert not is_dicom(write(data))

    def test_rejects_missing_files_and_folders(self, tmp_path):
        assert not is_dicom(tmp_path / "missing.dcm")
        assert not is_dicom(tmp_path)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_reads_a_file_without_a_preamble(syntax, write):
    data = encode(dataset_of(syntax=syntax))
    start = data.index(b"\x08\0\x16\0" if syntax != BIG_ENDIAN else b"\0\x08\0\x16")
    path = write(data[start:])
    assert is_dicom(path)
    np.testing.assert_array_equal(read_frame(path), RAMP)


def test_refuses_an_index_by_its_class_and_by_its_name(write):
    index = PACKAGED / "dicomdirtests" / "DICOMDIR-bigEnd"
    for function in (read_header, read_frame):
        assert "index of other files" in reason_of_refusal(function, index)
        assert "index of other files" in reason_of_refusal(function, write(name="DICOMDIR"))


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(500), "not a DICOM file"),
        (bytes(128) + b"DICM", "no readable content"),
        (
            bytes(128) + b"DICM" + np.random.default_rng(3).bytes(5000),
            "damaged|no readable content|no image|limit",
        ),
    ],
)
def test_refuses_files_that_are_not_dicom(data, words, write):
    for function in (read_header, read_frame):
        with pytest.raises(SliceError, match=words):
            function(write(data))


def test_refuses_missing_files_and_folders(tmp_path):
    assert reason_of_refusal(read_frame, tmp_path / "missing.dcm") == "no such file"
    assert reason_of_refusal(read_frame, tmp_path) == "not a file"


def test_refuses_deflated_bombs(write, monkeypatch):
    monkeypatch.setattr(parse, "MAX_INFLATED_BYTES", 16 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    bomb = b"".join(deflate.compress(zeros) for _ in range(20)) + deflate.flush()
    syntax = DEFLATED.encode()
    meta = b"\x02\0\x10\0UI" + struct.pack("<H", len(syntax)) + syntax
    path = write(bytes(128) + b"DICM" + meta + bomb)
    assert path.stat().st_size < 100_000
    assert "16 MiB" in reason_of_refusal(read_header, path)


def test_error_quotes_no_value_of_the_file(write):
    data = encode(dataset_of(PatientName="Geheim^Otto", RescaleSlope="111111", PatientID="S3"))
    path = write(data.replace(b"111111", b"Geheim"))
    assert "Geheim" not in reason_of_refusal(read_frame, path)


def test_no_warning_and_no_log_reach_the_user(write, caplog, capfd):
    path = write(SeriesInstanceUID="1.2.4", PatientBirthDate="19700101")
    data = path.read_bytes().replace(b"1.2.4", b"a b c").replace(b"19700101", b"yesteday")
    path.write_bytes(data + b"\0\0")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        read_header(path)
        read_frame(path)
    assert not caught and not caplog.records
    assert capfd.readouterr() == ("", "")
