from __future__ import annotations

import pytest
from dicom_files import dataset_of, encode, item_of

from hemorrhage_tf.imaging.dicom.reading import read_header
from hemorrhage_tf.imaging.dicom.series_tags import description_words
from hemorrhage_tf.imaging.header import SeriesTags


@pytest.fixture
def tags_of(tmp_path):
    """Write a file with these tags, and read its `SeriesTags`."""

    def read(**tags) -> SeriesTags:
        path = tmp_path / "a.dcm"
        path.write_bytes(encode(dataset_of(**tags)))
        return read_header(path).series_tags

    return read


def test_reads_the_tags_of_a_series(tags_of):
    found = tags_of(
        StudyInstanceUID="1.2.3",
        SeriesNumber=4,
        FrameOfReferenceUID="1.2.9",
        ImageType=["Original", "PRIMARY", "AXIAL"],
        BodyPartExamined="Head",
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        SeriesDescription="Head w/o 5.0 H31s",
        ConvolutionKernel=["H31s", "3"],
        ContrastBolusAgent="Iomeron 350",
    )
    assert found == SeriesTags(
        study="1.2.3",
        number=4,
        frame_of_reference="1.2.9",
        modality="CT",
        has_image=True,
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        body_part="HEAD",
        is_axial=False,
        description="HEAD WITHOUT 5.0 H31 S",
        kernel="H31S",
        has_contrast=True,
    )


def test_missing_tags_are_unknown(tags_of):
    assert tags_of(Modality=None) == SeriesTags()
    assert tags_of(Rows=None, Columns=None).has_image is False


def test_an_enhanced_file_states_them_in_its_functional_groups(tags_of):
    shared = item_of(
        CTReconstructionSequence=[item_of(ConvolutionKernel="FC30")],
        CTImageFrameTypeSequence=[item_of(FrameType=["DERIVED", "PRIMARY", "AXIAL", "MPR"])],
        PlaneOrientationSequence=[item_of(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    found = tags_of(SharedFunctionalGroupsSequence=[shared])
    assert (found.kernel, found.is_axial) == ("FC30", True)
    assert found.image_type == ("DERIVED", "PRIMARY", "AXIAL", "MPR")


@pytest.mark.parametrize("agent", ["", "NONE", "no", "No contrast", None])
def test_an_agent_may_say_that_there_is_none(tags_of, agent):
    assert not tags_of(ContrastBolusAgent=agent).has_contrast


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Head_wo_contrast", "HEAD WO CONTRAST"),
        ("C-SPINE 2mm", "CSPINE 2MM"),
        ("Brain C+", "BRAIN POSTCONTRAST"),
        ("C- thin", "PRECONTRAST THIN"),
        ("HEAD/NECK CTA", "HEAD NECK CTA"),
        ("Schädel nativ", "SCHÄDEL NATIV"),
        ("\0 \\ ?", ""),
        (None, ""),
        ("x" * 10_000, "X" * 128),
    ],
)
def test_words_of_a_description(text, words):
    assert description_words(text) == words


def test_a_damaged_value_is_unknown(tmp_path):
    dataset = dataset_of(SeriesNumber=7, StudyInstanceUID="1.2")
    content = encode(dataset)
    broken = content.replace(b"IS\x02\x007 ", b"IS\x02\x00\xff\x00")
    assert broken != content
    path = tmp_path / "a.dcm"
    path.write_bytes(broken)
    assert read_header(path).series_tags.number is None
