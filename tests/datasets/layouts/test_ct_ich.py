import pytest
from dataset_files import add_table, columns_of, reasons, touch, write

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.layouts.base import TARGETS
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize

CT_ICH_HEADER = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    "No_Hemorrhage,Fracture_Yes_No"
)
CT_ICH_ROWS = [
    "49,1,0,0,0,0,0,1,0",
    "49,2,0,1,0,0,1,0,1",
    "50,1,0,0,0,0,0,1,0",
    "131,7,0,0,0,1,0,0,0",
]
DEMOGRAPHICS = (
    'Patient Number,"Age\n(years)",Gender,"Hemorrhage type based on\nthe diagnosis",,Note1\n'
    ",,,Intraventricular,Epidural,\n"
    "49,0.08,Male,,1,caf\xe9\n50,41,Female,,,\n"
)


@pytest.fixture(params=["ct_scans", "Patients_CT"])
def ct_ich(tmp_path, request):
    text = "\n".join([CT_ICH_HEADER, *CT_ICH_ROWS]) + "\n"
    if request.param == "ct_scans":
        write(tmp_path / "hemorrhage_diagnosis_raw_ct.csv", text)
        touch(tmp_path / "ct_scans", "049.nii", "050.nii.gz", "131.nii")
        touch(tmp_path / "masks", "049.nii", "050.nii.gz", "131.nii", "132.nii")
    else:
        write(tmp_path / "hemorrhage_diagnosis.csv", text)
        images = ("049/brain/1.jpg", "049/brain/2.jpg", "050/brain/1.jpg", "131/brain/7.jpg")
        masks = ("049/brain/2_HGE_Seg.jpg", "131/brain/7_HGE_Seg.jpg")
        bones = tuple(name.replace("brain", "bone") for name in images)
        touch(tmp_path / "Patients_CT", *images, *masks, *bones)
    return tmp_path


def ct_ich_table(folder):
    return next(folder.glob("hemorrhage_diagnosis*.csv"))


class TestCtIch:
    def test_recognized_and_listed(self, ct_ich):
        assert recognize(ct_ich) == "ct-ich"
        layout = read_layout(ct_ich, "ct-ich", None)
        assert layout.level == "slice" and layout.problems == () and layout.missing == 0
        assert layout.columns == layout.targets == (*TARGETS, "fracture")
        paths = [row.path.relative_to(ct_ich).as_posix() for row in layout.rows]
        frames = [row.frame for row in layout.rows]
        if (ct_ich / "ct_scans").exists():
            assert paths == [
                f"ct_scans/{name}" for name in ("049.nii", "049.nii", "050.nii.gz", "131.nii")
            ]
            assert frames == [0, 1, 0, 6]
            assert {row.place for row in layout.rows} == {None}  # headers tell it
        else:
            names = ("049/brain/1", "049/brain/2", "050/brain/1", "131/brain/7")
            assert paths == [f"Patients_CT/{name}.jpg" for name in names]
            assert frames == [None] * 4
            assert [(row.place.number, row.place.position) for row in layout.rows] == [
                (1, None),
                (2, None),
                (1, None),
                (7, None),
            ]
            scans = [row.place.scan for row in layout.rows]
            assert scans[0] == scans[1] and len(set(scans)) == 3
        assert [(row.patient, row.label) for row in layout.rows] == [
            ("49", 0),
            ("49", 1),
            ("50", 0),
            ("131", 1),
        ]
        assert columns_of(layout, layout.rows[1]) == {
            "any": "1",
            "epidural": "0",
            "intraparenchymal": "1",
            "intraventricular": "0",
            "subarachnoid": "0",
            "subdural": "1",
            "fracture": "1",
        }

    @pytest.mark.parametrize(
        "target, labels", [("Fracture", [0, 1, 0, 0]), ("epidural", [0, 0, 0, 1])]
    )
    def test_target(self, ct_ich, target, labels):
        assert [row.label for row in read_layout(ct_ich, "ct-ich", target).rows] == labels

    def test_rejects_an_unknown_target(self, ct_ich):
        with pytest.raises(
            OptionError, match="--target no_hemorrhage: no such label. Pass one of any, .*fracture"
        ):
            read_layout(ct_ich, "ct-ich", "no_hemorrhage")

    @pytest.mark.parametrize("name", ["Patient_demographics.csv", "patient_demographics.csv"])
    def test_age_and_sex(self, ct_ich, name):
        write(ct_ich / name, DEMOGRAPHICS.encode("latin-1"))
        layout = read_layout(ct_ich, "ct-ich", None)
        assert layout.columns[-2:] == ("age", "sex") and "age" not in layout.targets
        assert [row.columns[-2:] for row in layout.rows] == [
            ("0.08", "male"),
            ("0.08", "male"),
            ("41", "female"),
            ("", ""),
        ]

    @pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Age\n1\n"])
    def test_ignores_other_demographics(self, ct_ich, text):
        write(ct_ich / "Patient_demographics.csv", text)
        assert read_layout(ct_ich, "ct-ich").columns == (*TARGETS, "fracture")

    def test_columns_in_any_order_and_case(self, ct_ich):
        names = CT_ICH_HEADER.split(",")[::-1]
        rows = [row.split(",")[::-1] for row in CT_ICH_ROWS]
        expected = read_layout(ct_ich, "ct-ich", None)
        add_table(ct_ich_table(ct_ich), [[f" {name.upper()} " for name in names], *rows])
        assert recognize(ct_ich) == "ct-ich"
        assert read_layout(ct_ich, "ct-ich", None) == expected

    @pytest.mark.parametrize(
        "row, reason",
        [
            ("49,3,0,0,0,0,2,0,0", "neither 0 nor 1: subdural '2'"),
            ("49,3,0,x,0,0,0,,0", "neither 0 nor 1: no_hemorrhage '', intraparenchymal 'x'"),
            (
                "49,3,0,1,0,0,0,1,0",
                "names a kind of hemorrhage, but states that there is no hemorrhage",
            ),
            ("49,1,0,0,0,0,0,1,0", "slice 1 of patient 49 has an earlier row"),
            ("49,0,0,0,0,0,0,1,0", "patient '49', slice '0': both must be whole numbers"),
            ("x,3,0,0,0,0,0,1,0", "patient 'x', slice '3': both must be whole numbers"),
            ("49,2.5,0,0,0,0,0,1,0", "both must be whole numbers, slices from 1"),
            ("49,3,0,0", "has 4 cells, not 9"),
        ],
    )
    def test_bad_rows_are_left_out_and_named(self, ct_ich, row, reason):
        table = ct_ich_table(ct_ich)
        table.write_text(table.read_text() + row + "\n")
        layout = read_layout(ct_ich, "ct-ich", None)
        assert len(layout.rows) == 4
        assert list(reasons(layout.problems)) == [f"{table.name} row 6"]
        assert reason in reasons(layout.problems)[f"{table.name} row 6"]

    def test_a_hemorrhage_without_a_subtype_counts(self, ct_ich):
        table = ct_ich_table(ct_ich)
        table.write_text(CT_ICH_HEADER + "\n49,1,0,0,0,0,0,0,0\n")
        assert read_layout(ct_ich, "ct-ich", None).rows[0].label == 1

    def test_rows_without_a_scan_are_counted(self, ct_ich):
        table = ct_ich_table(ct_ich)
        table.write_text(table.read_text() + "59,1,0,0,0,0,0,1,0\n60,1,0,0,0,0,0,1,0\n")
        layout = read_layout(ct_ich, "ct-ich", None)
        assert len(layout.rows) == 4 and layout.missing == 2 and layout.problems == ()

    def test_scans_and_images_without_a_row_are_problems(self, ct_ich):
        names = {"ct_scans": "066.nii", "Patients_CT": "049/brain/3.jpg"}
        place = next(place for place in names if (ct_ich / place).exists())
        touch(ct_ich / place, names[place], "notes.nii")
        layout = read_layout(ct_ich, "ct-ich", None)
        assert reasons(layout.problems) == {
            str(ct_ich / place / names[place]): f"has no row in {ct_ich_table(ct_ich).name}"
        }

    def test_rejects_a_table_without_some_columns(self, ct_ich):
        write(ct_ich_table(ct_ich), "PatientNumber,SliceNumber,No_Hemorrhage,Epidural\n1,1,1,0\n")
        with pytest.raises(
            DataError, match="the columns intraparenchymal, .*fracture_yes_no are missing"
        ):
            read_layout(ct_ich, "ct-ich", None)
