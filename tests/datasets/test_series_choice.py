"""The choice of a study's series, from files as scanners write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import find_sources, list_slices
from hemorrhage_tf.datasets.series_choice import SeriesSummary, choose_series
from hemorrhage_tf.imaging.readers import read_header

TINY = np.zeros((4, 4), np.float32)
ORIGINAL = ["ORIGINAL", "PRIMARY", "AXIAL"]
DERIVED = ["DERIVED", "SECONDARY", "REFORMATTED"]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def tags_of(number, study, spacing):
    """The tags of an ordinary series."""
    return {
        "StudyInstanceUID": f"1.2.{study}",
        "SeriesInstanceUID": f"1.2.{study}.900.{number}",
        "SeriesNumber": number,
        "FrameOfReferenceUID": f"1.2.{study}.1",
        "ImageType": ORIGINAL,
        "SliceThickness": spacing,
    }


@pytest.fixture
def study(tmp_path, write_dicom):
    """Write a series of a study: `study(2, slices=10, ConvolutionKernel="H31s")`."""

    def write(number, slices=8, folder=None, spacing=5.0, study="7", **tags):
        folder = tmp_path / "study" / (folder or f"s{number}")
        for index in range(slices):
            name = f"{number:03d}-{index:03d}.dcm"
            values = tags_of(number, study, spacing) | tags
            write_dicom(folder / name, TINY, spacing * index, **values)

    return write


class Summaries(list):
    """Series of one study; only the first file of each is written and read."""

    def __init__(self, folder, write_dicom):
        super().__init__()
        self._folder, self._write_dicom = folder, write_dicom

    def add(self, number, slices=10, spacing=5.0, bottom=0.0, repeats=1, **tags):
        values = tags_of(number, "7", spacing) | tags
        path = self._write_dicom(self._folder / f"{number}.dcm", TINY, bottom, **values)
        header = read_header(path)
        positions = np.repeat(bottom + spacing * np.arange(slices), repeats)
        if header.positions == (None,):
            positions[:] = np.nan
        self.append(
            SeriesSummary(
                study=("study",),
                uid=header.series,
                path=f"s{number}",
                tags=header.series_tags,
                positions=positions,
                thickness=header.thickness,
            )
        )

    def choose(self, *requested):
        """The numbers of the series that are used, and why the others are not."""
        choice = choose_series(self, requested)
        reasons = {one.series: one.reason for one in choice.left_out}
        return {int(self[index].path[1:]) for index in choice.used}, reasons


@pytest.fixture
def series(tmp_path, write_dicom):
    return Summaries(tmp_path / "one", write_dicom)


def choose(path, *series):
    """The numbers of the series of files that are used, and why the others are not."""
    sources = find_sources([path])
    listing = list_slices(list(sources), Progress(quiet=True), sources, series)
    used = {int(ref.path.name[:3]) for ref in listing.slices}
    return used, {one.series: one.reason for one in listing.left_out}


BRAIN = {"SeriesDescription": "Head 5.0 H31s", "ConvolutionKernel": "H31s"}
OTHERS = {
    "it holds no image": {"Rows": None, "Columns": None, "Modality": "SR"},
    "its modality is not CT": {"Modality": "MR"},
    "a localizer, or a page of text": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "not axial": {"ImageOrientationPatient": SAGITTAL},
    "not of the head": {"BodyPartExamined": "CHEST"},
    "fewer than 8 slices": {"slices": 7},
    "with contrast agent, an angiography or a perfusion study": {"ContrastBolusAgent": "Ultravist"},
    "derived from another series": {"ImageType": DERIVED},
    "a sharp kernel, as for bone": {"ConvolutionKernel": "H60s"},
}


@pytest.mark.parametrize("reason", OTHERS)
@pytest.mark.parametrize("number", [1, 3])
def test_leaves_out_what_is_no_plain_axial_soft_head(series, reason, number):
    series.add(2, **BRAIN)
    series.add(number, **OTHERS[reason])
    assert series.choose() == ({2}, {str(number): reason})


@pytest.mark.parametrize("reason", [reason for reason in OTHERS if reason != "it holds no image"])
def test_uses_such_a_series_where_there_is_no_other(series, reason):
    series.add(1, **OTHERS[reason])
    series.add(2, **{**OTHERS[reason], "Modality": "PR", "Rows": None, "Columns": None})
    assert series.choose() == ({1}, {"2": "it holds no image"})


def test_a_whole_study(series):
    series.add(1, slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series.add(2, slices=30, **BRAIN)
    series.add(3, slices=30, SeriesDescription="Head 5.0 H60s", ConvolutionKernel=["H60s", "3"])
    series.add(4, slices=150, spacing=1.0, SeriesDescription="Head 1.0 H31s")
    series.add(5, slices=20, ImageType=DERIVED, ImageOrientationPatient=SAGITTAL)
    series.add(
        6, slices=200, spacing=0.6, SeriesDescription="CTA Head", ContrastBolusAgent="Iomeron"
    )
    series.add(7, slices=20, ImageType=[*DERIVED, "MIP"], ContrastBolusAgent="Iomeron")
    series.add(501, slices=1, ImageType=DERIVED, SeriesDescription="Dose Report")
    used, reasons = series.choose()
    assert used == {2}
    assert reasons == {
        "1": "a localizer, or a page of text",
        "3": "a sharp kernel, as for bone",
        "4": "its slices are 1 mm thick; those of series 2 are closer to 5 mm",
        "5": "not axial",
        "6": "with contrast agent, an angiography or a perfusion study",
        "7": "with contrast agent, an angiography or a perfusion study",
        "501": "a localizer, or a page of text",
    }


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"slices": 30}, {"slices": 31}, "otherwise equal to series 2, which has more slices"),
        ({}, {}, None),
        ({"SliceThickness": None, "z": None}, {}, "of unknown thickness; those of series 2"),
        ({"spacing": 0.6}, {"spacing": 1.25}, "0.6 mm thick; those of series 2 are closer to 5 mm"),
        ({"spacing": 10}, {"spacing": 4}, "10 mm thick; those of series 2 are closer to 5 mm"),
        ({"spacing": 3}, {"spacing": 4.8, "SliceThickness": None}, "3 mm thick; those of series 2"),
    ],
)
def test_ties_are_broken_and_explained(series, first, second, reason):
    unknown = {"ImagePositionPatient": None} if first.pop("z", 0) is None else {}
    series.add(1, **(first | unknown))
    series.add(2, **second)
    used, reasons = series.choose()
    if reason is None:
        assert used == {1}
        assert reasons == {"2": "equal to series 1, which has the lower series number"}
    else:
        assert used == {2} and reason in reasons["1"]


def test_series_without_numbers_tie_by_their_order(series):
    for number in (1, 2):
        series.add(number, SeriesNumber=None)
    used, reasons = series.choose()
    assert (used, reasons) == ({1}, {"900.2": "equal to series 900.1, which comes first"})


def test_two_parts_of_a_head_are_both_used(series):
    series.add(2, slices=12, spacing=2.5, bottom=0)  # the base, 0 to 27.5 mm
    series.add(3, slices=16, spacing=5, bottom=30)
    series.add(4, slices=16, spacing=5, bottom=30, ConvolutionKernel="H70h")
    series.add(5, slices=40, spacing=2.5, bottom=0)  # all of it, thinner
    assert series.choose()[0] == {2, 3}
    # Positions of another frame of reference cannot be compared.
    series.add(6, slices=16, spacing=5, bottom=30, FrameOfReferenceUID="1.9")
    used, reasons = series.choose()
    assert used == {2, 3} and "lower series number" in reasons["6"]


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "CCT nativ", "ContrastBolusAgent": "Ultravist"},
        {"SeriesDescription": "HEAD W/O CONTRAST"},
        {"SeriesDescription": "Head_wo_contrast"},
        {"SeriesDescription": "CT PRE CONTRAST 5MM STD"},
        {"SeriesDescription": "BRAIN C-"},
        {"ContrastBolusAgent": "NONE"},
        {"SeriesDescription": "Post fossa"},
    ],
)
def test_recognizes_plain_series(series, tags):
    series.add(1, **{"ContrastBolusAgent": "Iomeron", "SeriesDescription": "Head"})
    series.add(2, spacing=1, **tags)
    assert series.choose()[0] == {2}


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "CT POST CONTRAST-2"},
        {"SeriesDescription": "CT 4cc sec 150cc D3D on"},
        {"SeriesDescription": "Brain C+"},
        {"SeriesDescription": "HeadAngio 0.75 H20f", "ImageType": [*ORIGINAL, "MIP"]},
        {"SeriesDescription": "CTA HEAD W/O"},
        {"SeriesDescription": "Perfusion Head 10.0"},
        {"SeriesDescription": "CECT THIN"},
        {"ImageType": ["DERIVED", "PRIMARY", "CBF"]},
        {"repeats": 3},  # a perfusion study repeats its positions
    ],
)
def test_recognizes_contrast_agent(series, tags):
    series.add(1, **tags)
    series.add(2, spacing=1)
    used, reasons = series.choose()
    assert used == {2} and reasons["1"].startswith("with contrast agent")


@pytest.mark.parametrize(
    ("soft", "sharp"),
    [
        ("STANDARD", "BONEPLUS"),
        ("SOFT", "EDGE"),
        ("H40s", "H70h"),
        ("Hr38f", "Hr68f"),
        (["J40s", "3"], ["J70h", "2"]),
        ("FC21", "FC30"),
        ("FC26", "FC81"),
        ("UB", "D"),
        ("B", "YD"),
        ("STD+", "LUNG"),
    ],
)
def test_recognizes_kernels_of_every_maker(series, soft, sharp):
    series.add(1, ConvolutionKernel=sharp)
    series.add(2, ConvolutionKernel=soft, spacing=1)
    assert series.choose() == ({2}, {"1": "a sharp kernel, as for bone"})


def test_a_kernel_that_says_nothing_leaves_it_to_the_description(series):
    series.add(1, ConvolutionKernel="K7", SeriesDescription="Head bone")
    series.add(2, ConvolutionKernel="K8", spacing=1)
    series.add(3, SeriesDescription="Knochen")
    series.add(4, ConvolutionKernel="STANDARD", SeriesDescription="no bone", spacing=0.5)
    assert series.choose()[0] == {2}


def test_the_spine_of_a_head_injury_is_not_the_head(series):
    series.add(1, slices=60, SeriesDescription="C-Spine 5mm", BodyPartExamined="HEAD")
    series.add(2, SeriesDescription="Head 4mm", BodyPartExamined="HEAD", spacing=4)
    series.add(3, SeriesDescription="Head and neck", BodyPartExamined="NECK", spacing=3)
    used, reasons = series.choose()
    assert used == {2} and reasons["1"] == "not of the head" and "3 mm thick" in reasons["3"]


class TestWhatStaysAsItIs:
    def test_one_series_of_a_study_is_used_whatever_it_is(self, study, tmp_path):
        study(1, slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        assert choose(tmp_path) == ({1}, {})

    def test_a_study_is_chosen_from_by_itself(self, study, tmp_path):
        study(1, study="7")
        study(2, study="8", ConvolutionKernel="H70h")
        study(3, study="8", spacing=1)
        study(4, PatientID="P2")  # of another patient, though the study has the same UID
        assert choose(tmp_path) == ({1, 3, 4}, {"2": "a sharp kernel, as for bone"})

    def test_files_without_a_study_are_used(self, study, tmp_path):
        study(1, StudyInstanceUID=None)
        study(2, StudyInstanceUID=None, ConvolutionKernel="H70h")
        assert choose(tmp_path) == ({1, 2}, {})

    def test_series_that_are_named_are_used(self, study, tmp_path):
        study(1)
        study(2, ConvolutionKernel="H70h")
        folder = tmp_path / "study"
        for arguments in ([folder / "s1", folder / "s2"], sorted(folder.rglob("*.dcm"))):
            sources = find_sources(arguments)
            listing = list_slices(list(sources), Progress(quiet=True), sources)
            assert len(listing.slices) == 16 and listing.left_out == ()
        everything = list_slices(sorted(folder.rglob("*.dcm")), Progress(quiet=True))
        assert len(everything.slices) == 16

    def test_other_formats_are_used(self, study, tmp_path, write_nifti):
        study(1)
        study(2, ConvolutionKernel="H70h")
        write_nifti(tmp_path / "study" / "003.nii", np.zeros((2, 8, 8), np.float32))
        assert choose(tmp_path)[0] == {1, 3}


class TestRequested:
    @pytest.fixture
    def three(self, series):
        series.add(1)
        series.add(2, ConvolutionKernel="H70h")
        series.add(3, spacing=1)
        return series

    @pytest.mark.parametrize("text", ["2", " 2 ", "1.2.7.900.2", "900.2", "0.2"])
    def test_by_number_or_uid(self, three, text):
        reason = "not passed as --series"
        assert three.choose(text) == ({2}, {"1": reason, "3": reason})

    def test_several(self, three):
        assert three.choose("2", "900.3") == ({2, 3}, {"1": "not passed as --series"})

    def test_of_every_study(self, study, tmp_path):
        for uid in ("7", "8"):
            for number in (1, 2):
                study(number, study=uid, slices=1, folder=f"{uid}-{number}")
        sources = find_sources([tmp_path])
        listing = list_slices(list(sources), Progress(quiet=True), sources, ["2"])
        assert [ref.path.parent.name for ref in listing.slices] == ["7-2", "8-2"]
        assert [one.series for one in listing.left_out] == ["1", "1"]

    def test_lists_the_series_if_there_is_none(self, three):
        message = "--series 9: no such series; --series 1.2.3: no such series. Pass .*: 1, 2, 3.$"
        with pytest.raises(OptionError, match=message):
            three.choose("9", "1.2.3")

    def test_a_number_that_a_study_has_twice_is_ambiguous(self, three):
        three.add(4, SeriesNumber=2)
        used, reasons = three.choose()
        assert used == {1} and set(reasons) == {"900.2", "3", "900.4"}
        with pytest.raises(OptionError, match=r"--series 2: 2 series fit \(900.2, 900.4\)"):
            three.choose("2")
        with pytest.raises(OptionError, match=r"--series 900.: no such series"):
            three.choose("900.")
        assert three.choose("900.4")[0] == {4}

    def test_an_end_of_several_uids_is_ambiguous(self, three):
        three.add(12, SeriesNumber=None)
        message = r"--series 00.5: no such.*; --series 2: 2 series fit \(900.12, 900.2\)"
        three[1:2] = [replace(three[1], tags=replace(three[1].tags, number=None))]
        with pytest.raises(OptionError, match=message):
            three.choose("7.900.1", "00.5", "2")


class TestMessages:
    def test_one_note_lists_what_is_used_and_what_is_left_out(self, study, tmp_path, capsys):
        study(1, slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        study(2)
        sources = find_sources([tmp_path])
        listing = list_slices(list(sources), Progress(), sources)
        folder = tmp_path / "study"
        assert capsys.readouterr().err.splitlines() == [
            "Chose 1 of 2 series. Pass --series NUMBER (series=NUMBER) to use others.",
            "Used:",
            f"  series 2 of {folder / 's2'} (8 slices)",
            "Left out:",
            f"  series 1 of {folder / 's1'} (1 slice): a localizer, or a page of text",
        ]
        # Nor is there a warning for each slice that is not used.
        assert listing.input_warnings == ()

    def test_names_no_patient_and_no_whole_uid(self, study, tmp_path, capsys):
        named = {"PatientName": "Mustermann^Erika", "SeriesDescription": "Mustermann CTA"}
        study(1, slices=1, **named, ContrastBolusAgent="Mustermann")
        for number in (2, 3):
            study(number, slices=1, **named, SeriesNumber=2)  # only their UIDs differ
        sources = find_sources([tmp_path])
        listing = list_slices(list(sources), Progress(), sources)
        printed = capsys.readouterr().err + str([one.to_dict() for one in listing.left_out])
        assert "series 900.3 of" in printed
        assert not any(text in printed for text in ("Mustermann", "MUSTERMANN", "1.2.7", "P1"))

    def test_a_long_list_is_cut(self, study, tmp_path, capsys):
        for number in range(1, 31):
            study(number, slices=1)
        sources = find_sources([tmp_path])
        assert len(list_slices(list(sources), Progress(), sources).left_out) == 29
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == 25 and printed[-1] == "  and 9 more"

    def test_scans_are_named_by_their_series_number(self, study, tmp_path):
        for number in (4, 7):
            study(number, folder="both", study=str(number))
        listing = list_slices(sorted(tmp_path.rglob("*.dcm")), Progress(quiet=True))
        folder = tmp_path / "study" / "both"
        names = [scan.name for scan in listing.scans]
        assert names == [f"{folder} (series 4)", f"{folder} (series 7)"]


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesNumber": None, "ImageType": None, "SliceThickness": None},
        {"SeriesNumber": 2**31 - 1, "SeriesDescription": "\0\t \\ " * 9},
        {"ImageType": ["X" * 16] * 99, "ConvolutionKernel": ["", "H31s"]},
        {"SliceThickness": -5, "ImageOrientationPatient": [0] * 6},
        {"ContrastBolusAgent": "x" * 64, "BodyPartExamined": "?"},
    ],
)
def test_odd_tags_do_no_harm(series, tags):
    series.add(1)
    series.add(2, **tags)
    used, reasons = series.choose()
    assert len(used) == len(reasons) == 1
