import pytest
from dicom_files import reason_of_refusal

from hemorrhage_tf.imaging.dicom.reading import read_frame, read_header


@pytest.mark.parametrize(
    "tags, words",
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "SCOUT"]}, "localizer"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "sagittal"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "coronal"),
        ({"BodyPartExamined": "CHEST"}, "CHEST"),
        ({"Modality": "MR"}, "MR"),
        ({"Rows": None}, "no image"),
    ],
)
def test_warns_of_tags_that_contradict_head_ct(tags, words, write):
    assert words in read_header(write(**tags)).input_warning


@pytest.mark.parametrize("part", ["HEAD", "HEADNECK", "skull ", "BRAIN", "HEAD_NECK", ""])
def test_parts_of_the_head_cause_no_warning(part, write):
    path = write(BodyPartExamined=part, ImageOrientationPatient=[1, 0, 0, 0, 0.8, -0.6])
    assert read_header(path).input_warning is None


def test_refuses_other_modalities(write):
    reason = reason_of_refusal(read_frame, write(Modality="MR"))
    assert reason == "its modality is MR: it must be one of CT, OT, SC"


@pytest.mark.parametrize("modality", ["CT", "OT", "SC", "", None])
def test_accepts_ct_and_secondary_captures(modality, write):
    assert read_frame(write(Modality=modality)).shape == (10, 12)
