import io
import struct
from pathlib import Path

import pytest
from dicom_files import dataset_of, encode, reason_of_refusal

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom import dicom_file
from hemorrhage_tf.imaging.dicom.dicom_file import BoundedStream
from hemorrhage_tf.imaging.dicom.reading import read_header


class TestBoundedStream:
    def test_reads_no_more_than_the_file_has_left(self):
        stream = BoundedStream(Path("a.dcm"), io.BytesIO(b"12345"), 5)
        stream.allow(5)
        assert stream.read(2) == b"12"
        assert stream.read(1 << 40) == b"345"

    def test_refuses_bytes_over_the_limit(self):
        stream = BoundedStream(Path("a.dcm"), io.BytesIO(b"12345"), 5)
        stream.allow(4)
        with pytest.raises(SliceError, match="a.dcm: .* exceeds the size limit"):
            stream.read()


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 160_000])
def test_refuses_endless_sequences(declared, write, monkeypatch):
    monkeypatch.setattr(dicom_file, "MAX_READS", 2_000)
    data = encode(dataset_of())
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 20_000
    groups = b"\0\x52\x30\x92SQ\0\0" + struct.pack("<I", declared) + items
    at = data.index(b"\xe0\x7f\x10\0")
    path = write(data[:at] + groups + data[at:])
    assert "exceeds the size limit" in reason_of_refusal(read_header, path)
