import io

import numpy as np
import pydicom
import pytest
from dicom_files import CT_SMALL, dataset_of, reason_of_refusal, transcode
from pydicom.encaps import encapsulate

from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header

MPEG = "1.2.840.10008.1.2.4.100"
JPIP = "1.2.840.10008.1.2.4.94"


@pytest.mark.parametrize(
    "syntax",
    [
        "ImplicitVRLittleEndian",
        "ExplicitVRLittleEndian",
        "ExplicitVRBigEndian",
        "DeflatedExplicitVRLittleEndian",
        "JPEGLosslessProcess14",
        "JPEGLosslessProcess14_1",
        "JPEGLSLossless",
        "JPEG2000Lossless",
        "RLELossless",
    ],
)
def test_a_slice_is_the_same_in_every_transfer_syntax(syntax, tmp_path):
    transcode(CT_SMALL, tmp_path / "ct.dcm", syntax)
    np.testing.assert_array_equal(read_frame(tmp_path / "ct.dcm"), read_frame(CT_SMALL))
    assert read_header(tmp_path / "ct.dcm").positions == read_header(CT_SMALL).positions


@pytest.mark.parametrize("syntax, name", [(MPEG, "MPEG2"), (JPIP, "JPIP"), ("1.2.3", "1.2.3")])
def test_refuses_transfer_syntaxes_without_a_decoder(syntax, name, write):
    dataset = dataset_of(PixelData=encapsulate([b"1234"]))
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(
        buffer, dataset, enforce_file_format=True, implicit_vr=False, little_endian=True
    )
    reason = reason_of_refusal(read_frame, write(buffer.getvalue()))
    assert reason.startswith("no decoder for its transfer syntax, ") and name in reason
