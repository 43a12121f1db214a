import pytest

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.reading import read_frame


@pytest.mark.parametrize(
    "tags, words",
    [
        ({"Rows": 0}, "no image size"),
        ({"Columns": None}, "no image size"),
        ({"Rows": 65535, "Columns": 65535}, "the limit is 64 million"),
        ({"Rows": 8000, "Columns": 8000, "BitsAllocated": 32}, "frames over the limit of 128 MB"),
        ({"SamplesPerPixel": 4}, "4 samples per pixel"),
        ({"BitsAllocated": 1}, "1 bits per sample"),
        ({"BitsAllocated": 64}, "64 bits per sample"),
        ({"BitsStored": 17}, "17 stored bits up to bit 16, but 16 allocated"),
        ({"HighBit": 20}, "16 stored bits up to bit 20, but 16 allocated"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation is HSV"),
        ({"PhotometricInterpretation": "RGB"}, "photometric interpretation is RGB"),
    ],
)
def test_refuses_unsupported_and_inconsistent_layouts(tags, words, write):
    with pytest.raises(SliceError, match=words):
        read_frame(write(**tags), 0)
