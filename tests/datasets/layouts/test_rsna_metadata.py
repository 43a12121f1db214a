"""Tables of DICOM tags beside PNG conversions of RSNA 2019."""

import pytest
from dataset_files import add_table, reasons, touch, write

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import TARGETS, ScanPlace
from hemorrhage_tf.datasets.layouts.registry import read_layout

IDS = ("ID_0a", "ID_1b", "ID_2c")


@pytest.fixture
def rsna(tmp_path):
    rows = [(f"{identifier}_{target}", 0) for identifier in IDS for target in TARGETS]
    add_table(tmp_path / "stage_2_train.csv", [("ID", "Label"), *rows])
    touch(tmp_path / "stage_2_train", *(f"{identifier}.png" for identifier in IDS))
    return tmp_path


def places(folder):
    layout = read_layout(folder, "rsna 2019")
    assert layout.problems == ()
    return [(row.patient, row.place) for row in layout.rows]


# The same tags, as people write them.
SPELLINGS = {
    "keywords of DICOM, vectors as text": (
        "SOPInstanceUID,PatientID,SeriesInstanceUID,ImagePositionPatient,ImageOrientationPatient\n"
        "ID_0a,ID_p,ID_s,\"['-125', '-115', '35.5']\",\"['1', '0', '0', '0', '1', '0']\"\n"
        'ID_1b,ID_p,ID_s,"[-125.0, -115.0, 40.5]","[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]"\n'
        "ID_2c,ID_q,ID_t,-125\\-115\\7,1\\0\\0\\0\\1\\0\n"
    ),
    "a column for each number": (
        ",ID,PatientID,StudyInstanceUID,SeriesInstanceUID,ImagePositionPatient_0,"
        "ImagePositionPatient_1,ImagePositionPatient_2\n"
        "0,ID_0a,ID_p,ID_x,ID_s,-125,-115,35.5\n1,ID_1b,ID_p,ID_x,ID_s,-125,-115,40.5\n"
        "2,ID_2c,ID_q,ID_x,ID_t,-125,-115,7\n"
    ),
    "the first number without an index, and file names": (
        "fname,PatientID,SeriesInstanceUID,ImagePositionPatient,ImagePositionPatient1,"
        "ImagePositionPatient2\n"
        "stage_2_train/ID_0a.dcm,ID_p,ID_s,-125,-115,35.5\n"
        "stage_2_train/ID_1b.dcm,ID_p,ID_s,-125,-115,40.5\n"
        "stage_2_train/ID_2c.dcm,ID_q,ID_t,-125,-115,7\n"
    ),
    "snake case, and ids without their prefix": (
        "patient_id,sop_instance_uid,series_instance_uid,image_position_patient_x,"
        "image_position_patient_y,image_position_patient_z\n"
        "ID_p,0a,ID_s,-125,-115,35.5\nID_p,1b,ID_s,-125,-115,40.5\nID_q,2c,ID_t,-125,-115,7\n"
    ),
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("name", ["stage_2_train_metadata.csv", "train_metadata_noidx.csv"])
def test_places_slices_in_the_scans_of_their_patients(rsna, text, name):
    write(rsna / name, text)
    assert places(rsna) == [
        ("ID_p", ScanPlace("ID_s", 35.5)),
        ("ID_p", ScanPlace("ID_s", 40.5)),
        ("ID_q", ScanPlace("ID_t", 7.0)),
    ]


def test_a_position_is_measured_along_the_normal_of_a_tilted_slice(rsna):
    # The gantry is tilted by the angle of a 3-4-5 triangle: the normal is (0, -0.6, 0.8).
    rows = [(each, "s", f"[0, {5 * at}, {10 * at}]") for at, each in enumerate(IDS)]
    header = ("ID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient")
    tilted = "[1, 0, 0, 0, 0.8, 0.6]"
    add_table(rsna / "stage_2_train_metadata.csv", [header, *((*row, tilted) for row in rows)])
    expected = [-0.6 * 5 * at + 0.8 * 10 * at for at in range(3)]
    assert [place.position for _, place in places(rsna)] == pytest.approx(expected)


def test_number_and_thickness_and_unknown_patients(rsna):
    rows = [(each, "ID_s", 3 - at, "5.0") for at, each in enumerate(IDS)]
    header = ("ID", "SeriesInstanceUID", "InstanceNumber", "SliceThickness")
    add_table(rsna / "train_metadata.csv", [header, *rows])
    assert places(rsna) == [
        ("ID_s", ScanPlace("ID_s", None, 3 - at, 5.0)) for at in range(3)
    ]  # a series without a Patient ID is a patient of its own


def test_without_a_table_png_files_are_single_slices(rsna):
    assert places(rsna) == [(None, None)] * 3


def test_dicom_files_state_their_tags_themselves(rsna):
    for path in (rsna / "stage_2_train").iterdir():
        path.rename(path.with_suffix(".dcm"))
    write(rsna / "stage_2_train_metadata.csv", "ID,SeriesInstanceUID\n")
    assert places(rsna) == [(None, None)] * 3


def test_reports_images_without_a_row_and_rows_that_contradict(rsna):
    write(
        rsna / "stage_2_train_metadata.csv",
        "ID,PatientID,SeriesInstanceUID\nID_0a,p,s\nID_0a,p,t\nID_1b,p,\nID_9z,p,s\nID_0a,p\n",
    )
    layout = read_layout(rsna, "rsna 2019")
    assert [row.path.name for row in layout.rows] == ["ID_0a.png"]
    table = "stage_2_train_metadata.csv"
    folder = rsna / "stage_2_train"
    assert reasons(layout.problems) == {
        f"{table} row 3": "has other tags for ID_0a than an earlier row",
        f"{table} row 6": "has 2 cells, not 3",
        str(folder / "ID_1b.png"): f"has no row in {table}",
        str(folder / "ID_2c.png"): f"has no row in {table}",
    }


def test_reports_positions_that_are_not_three_numbers(rsna):
    write(
        rsna / "stage_2_train_metadata.csv",
        "ID,PatientID,SeriesInstanceUID,ImagePositionPatient\n"
        "ID_0a,p,s,high\nID_1b,p,s,\"[1, 2]\"\nID_2c,p,s,['']\n",
    )
    layout = read_layout(rsna, "rsna 2019")
    assert [row.place.position for row in layout.rows] == [None] * 3
    table = "stage_2_train_metadata.csv"
    assert reasons(layout.problems) == {
        f"{table} row 2": "the Image Position 'high' is not three numbers",
        f"{table} row 3": "the Image Position '[1, 2]' is not three numbers",
    }


@pytest.mark.parametrize("header", ["ID,PatientID", "PatientID,SeriesInstanceUID", ""])
def test_rejects_a_table_without_ids_or_series(rsna, header):
    write(rsna / "stage_2_train_metadata.csv", f"{header}\n")
    with pytest.raises(DataError, match=r"metadata\.csv: must have a column .* Rename the columns"):
        read_layout(rsna, "rsna 2019")
