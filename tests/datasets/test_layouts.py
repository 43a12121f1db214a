import csv
import os
import tracemalloc

import pytest

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES, TARGETS
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def touch(folder, *names):
    for name in names:
        write(folder / name, b"")
    return folder


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def reasons(layout):
    return {problem.path: problem.reason for problem in layout.problems}


def columns_of(layout, row):
    return dict(zip(layout.columns, row.columns, strict=True))


def rsna_rows(**findings):
    """The six rows of each slice: `rsna_rows(ID_a={"epidural"})`."""
    return [
        (f"{identifier}_{finding}", int(finding in found or (finding == "any" and bool(found))))
        for identifier, found in findings.items()
        for finding in (*SUBTYPES, "any")
    ]


@pytest.fixture
def rsna(tmp_path):
    write_table(
        tmp_path / "stage_2_train.csv",
        [
            ("ID", "Label"),
            *rsna_rows(ID_0a=(), ID_1b={"epidural", "subdural"}, ID_2c={"intraventricular"}),
        ],
    )
    touch(tmp_path / "stage_2_train", "ID_0a.dcm", "ID_1b.dcm", "ID_2c.dcm")
    return tmp_path


class TestRsna:
    def test_recognized_and_listed(self, rsna):
        assert recognize(rsna) == "rsna 2019"
        layout = read_layout(rsna, "rsna 2019", None)
        assert layout.name == "rsna 2019" and layout.level == "slice"
        assert layout.columns == layout.targets == TARGETS
        assert layout.problems == () and layout.missing == 0
        folder = rsna / "stage_2_train"
        assert [(row.path, row.label) for row in layout.rows] == [
            (folder / "ID_0a.dcm", 0),
            (folder / "ID_1b.dcm", 1),
            (folder / "ID_2c.dcm", 1),
        ]
        assert {(row.patient, row.frame) for row in layout.rows} == {(None, None)}
        assert columns_of(layout, layout.rows[1]) == {
            "any": "1",
            "epidural": "1",
            "intraparenchymal": "0",
            "intraventricular": "0",
            "subarachnoid": "0",
            "subdural": "1",
        }

    @pytest.mark.parametrize(
        "target, labels", [("any", [0, 1, 1]), (" Subdural ", [0, 1, 0]), ("subarachnoid", [0] * 3)]
    )
    def test_target(self, rsna, target, labels):
        layout = read_layout(rsna, "rsna 2019", target)
        assert [row.label for row in layout.rows] == labels

    def test_unknown_target_lists_the_known(self, rsna):
        with pytest.raises(OptionError) as error:
            read_layout(rsna, "rsna 2019", "stroke")
        assert str(error.value) == f"--target stroke: accepted are {', '.join(TARGETS)}"

    @pytest.mark.parametrize(
        "place", ["stage_2_train_images", "stage_1_train", "stage_1_train_images", "."]
    )
    @pytest.mark.parametrize("suffix", [".dcm", ".png", ".DCM"])
    def test_where_images_may_lie(self, rsna, place, suffix):
        for path in (rsna / "stage_2_train").iterdir():
            target = rsna / place / (path.stem + suffix)
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        layout = read_layout(rsna, "rsna 2019", None)
        assert [row.path.name for row in layout.rows] == [
            f"ID_{name}{suffix}" for name in ("0a", "1b", "2c")
        ]
        assert all(row.path.is_file() for row in layout.rows)

    def test_an_image_in_two_formats_is_listed_once(self, rsna):
        touch(rsna / "stage_2_train", "ID_1b.png")
        touch(rsna, "ID_0a.dcm")
        layout = read_layout(rsna, "rsna 2019", None)
        assert [row.path.parent.name for row in layout.rows] == ["stage_2_train"] * 3
        assert [row.path.suffix for row in layout.rows] == [".dcm"] * 3
        assert layout.problems == ()

    def test_first_stage(self, rsna):
        (rsna / "stage_2_train.csv").rename(rsna / "stage_1_train.csv")
        assert recognize(rsna) == "rsna 2019"
        assert len(read_layout(rsna, "rsna 2019").rows) == 3

    def test_a_part_of_the_images_is_no_problem(self, rsna):
        (rsna / "stage_2_train" / "ID_0a.dcm").unlink()
        layout = read_layout(rsna, "rsna 2019", None)
        assert len(layout.rows) == 2 and layout.missing == 1 and layout.problems == ()

    def test_none_of_the_images_is_an_error(self, rsna):
        (rsna / "stage_2_train").rename(rsna / "elsewhere")
        with pytest.raises(DataError, match="none of the 3 slices that it names has an image"):
            read_layout(rsna, "rsna 2019", None)

    def test_images_without_rows_are_problems(self, rsna):
        touch(rsna / "stage_2_train", "ID_9f.dcm", "readme.txt", "example.png", ".ID_8.dcm")
        layout = read_layout(rsna, "rsna 2019", None)
        path = str(rsna / "stage_2_train" / "ID_9f.dcm")
        assert reasons(layout) == {path: "has no row in stage_2_train.csv"}

    def test_hundreds_of_them_are_one_problem(self, rsna):
        touch(rsna / "stage_2_train", *(f"ID_f{number:03d}.dcm" for number in range(300)))
        (problem,) = read_layout(rsna, "rsna 2019", None).problems
        folder = rsna / "stage_2_train"
        assert problem.path == str(rsna)
        assert problem.reason == (
            "300 images without a row in stage_2_train.csv, the first: "
            f"{folder / 'ID_f000.dcm'}, {folder / 'ID_f001.dcm'}, {folder / 'ID_f002.dcm'}"
        )

    def append(self, rsna, *rows):
        with open(rsna / "stage_2_train.csv", "a", newline="") as file:
            csv.writer(file).writerows(rows)
        return read_layout(rsna, "rsna 2019", None)

    def test_repeated_rows_are_tolerated(self, rsna):
        layout = self.append(rsna, *rsna_rows(ID_1b={"epidural", "subdural"}))
        assert len(layout.rows) == 3 and layout.problems == ()

    def test_contradicting_rows_are_a_problem(self, rsna):
        layout = self.append(rsna, ("ID_1b_epidural", 0))
        assert [row.path.stem for row in layout.rows] == ["ID_0a", "ID_2c"]
        assert reasons(layout) == {
            "stage_2_train.csv row 20": "says 0 of ID_1b_epidural, and an earlier row the opposite"
        }

    @pytest.mark.parametrize("label", ["2", "yes", "", "-1", "0.5", "nan"])
    def test_label_outside_the_classes(self, rsna, label):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        rows = rsna_rows(ID_3d={"epidural"})
        rows[2] = (rows[2][0], label)
        layout = self.append(rsna, *rows)
        assert len(layout.rows) == 3
        assert reasons(layout) == {
            "stage_2_train.csv row 22": f"the label {label!r} of ID_3d_intraventricular is "
            "neither 0 nor 1"
        }

    @pytest.mark.parametrize("identifier", ["ID_3d_stroke", "ID", "", "_any"])
    def test_id_without_slice_or_finding(self, rsna, identifier):
        (problem,) = self.append(rsna, (identifier, 1)).problems
        assert problem.path == "stage_2_train.csv row 20"
        assert repr(identifier) in problem.reason

    def test_slice_without_all_its_rows(self, rsna):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        layout = self.append(rsna, *rsna_rows(ID_3d={"epidural"})[:4])
        assert len(layout.rows) == 3
        assert reasons(layout) == {"stage_2_train.csv ID_3d": "has no row for any, subdural"}

    def test_kind_of_hemorrhage_without_hemorrhage(self, rsna):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        rows = rsna_rows(ID_3d={"epidural"})
        rows[-1] = ("ID_3d_any", 0)
        layout = self.append(rsna, *rows)
        assert len(layout.rows) == 3
        assert "none of any kind" in reasons(layout)["stage_2_train.csv ID_3d"]

    def test_row_of_another_width(self, rsna):
        layout = self.append(rsna, ("ID_3d_any", 0, 1))
        assert reasons(layout) == {"stage_2_train.csv row 20": "has 3 cells, not 2"}

    def test_hundreds_of_bad_rows_are_one_problem(self, rsna):
        layout = self.append(rsna, *((f"ID_{number}_any", "x") for number in range(500)))
        (problem,) = layout.problems
        assert problem.reason == (
            "500 rows with a label that is neither 0 nor 1, the first: stage_2_train.csv row 20, "
            "stage_2_train.csv row 21, stage_2_train.csv row 22"
        )

    def test_table_as_other_programs_write_it(self, rsna):
        lines = [
            f'1.0,"{name}"\r\n' if label else f" 0 , {name.upper()}\r\n"
            for name, label in (
                (f"ID_1B_{finding}", finding in ("any", "epidural")) for finding in TARGETS
            )
        ]
        touch(rsna / "stage_2_train", "ID_1B.dcm")
        (rsna / "stage_2_train" / "ID_1b.dcm").unlink()
        write(rsna / "stage_2_train.csv", "\ufeff LABEL ,Id\r\n\r\n" + "".join(lines))
        assert recognize(rsna) == "rsna 2019"
        (row,) = read_layout(rsna, "rsna 2019", None).rows
        assert row.path.name == "ID_1B.dcm" and row.columns == ("1", "1", "0", "0", "0", "0")

    def test_100_000_rows_take_little_memory(self, tmp_path):
        count = 100_000 // 6
        places = [f"ID_{number:09x}" for number in range(count)]
        (tmp_path / "stage_2_train").mkdir()
        with open(tmp_path / "stage_2_train.csv", "w") as file:
            file.write("ID,Label\n")
            for number, place in enumerate(places):
                for finding in (*SUBTYPES, "any"):
                    file.write(f"{place}_{finding},{number % 3 // 2}\n")
        for place in places:
            os.close(os.open(tmp_path / "stage_2_train" / f"{place}.dcm", os.O_CREAT, 0o644))
        tracemalloc.start()
        try:
            layout = read_layout(tmp_path, "rsna 2019", None)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(layout.rows) == count and layout.problems == ()
        assert len({id(row.columns) for row in layout.rows}) == 2
        # Measured: 400 and 520 bytes a slice; for all 752,803 that makes 0.3 and 0.4 GB.
        # The bounds leave room for deeper folders, of which each path keeps a list.
        assert kept / count < 600
        assert peak / count < 800


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
        else:
            names = ("049/brain/1", "049/brain/2", "050/brain/1", "131/brain/7")
            assert paths == [f"Patients_CT/{name}.jpg" for name in names]
            assert frames == [None] * 4
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

    def test_unknown_target(self, ct_ich):
        with pytest.raises(
            OptionError, match="--target no_hemorrhage: accepted are any, .*fracture"
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
    def test_other_demographics_are_left_alone(self, ct_ich, text):
        write(ct_ich / "Patient_demographics.csv", text)
        assert read_layout(ct_ich, "ct-ich").columns == (*TARGETS, "fracture")

    def test_columns_in_any_order_and_case(self, ct_ich):
        names = CT_ICH_HEADER.split(",")[::-1]
        rows = [row.split(",")[::-1] for row in CT_ICH_ROWS]
        expected = read_layout(ct_ich, "ct-ich", None)
        write_table(ct_ich_table(ct_ich), [[f" {name.upper()} " for name in names], *rows])
        assert recognize(ct_ich) == "ct-ich"
        assert read_layout(ct_ich, "ct-ich", None) == expected

    @pytest.mark.parametrize(
        "row, reason",
        [
            ("49,3,0,0,0,0,2,0,0", "neither 0 nor 1: subdural '2'"),
            ("49,3,0,x,0,0,0,,0", "neither 0 nor 1: no_hemorrhage '', intraparenchymal 'x'"),
            ("49,3,0,1,0,0,0,1,0", "names a kind of hemorrhage, and says that there is none"),
            ("49,1,0,0,0,0,0,1,0", "slice 1 of patient 49 stands in an earlier row too"),
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
        assert list(reasons(layout)) == [f"{table.name} row 6"]
        assert reason in reasons(layout)[f"{table.name} row 6"]

    def test_a_hemorrhage_of_no_named_kind_is_one(self, ct_ich):
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
        assert reasons(layout) == {
            str(ct_ich / place / names[place]): f"has no row in {ct_ich_table(ct_ich).name}"
        }

    def test_lacking_columns_are_named(self, ct_ich):
        write(ct_ich_table(ct_ich), "PatientNumber,SliceNumber,No_Hemorrhage,Epidural\n1,1,1,0\n")
        with pytest.raises(
            DataError, match="lacks the columns intraparenchymal, .*fracture_yes_no"
        ):
            read_layout(ct_ich, "ct-ich", None)


CQ500_KINDS = (
    "ICH IPH IVH SDH EDH SAH BleedLocation-Left BleedLocation-Right ChronicBleed Fracture "
    "CalvarialFracture OtherFracture MassEffect MidlineShift"
).split()


def cq500_row(name, *readers, category="B1"):
    """A row of reads.csv; for each reader the findings that he or she sees, or None if blank."""
    cells = [name, category]
    for found in readers:
        cells += ["" if found is None else int(kind in found) for kind in CQ500_KINDS]
    return cells


CQ500_HEADER = [
    "name",
    "Category",
    *(f"R{reader}:{kind}" for reader in (1, 2, 3) for kind in CQ500_KINDS),
]


@pytest.fixture
def cq500(tmp_path):
    write_table(
        tmp_path / "reads.csv",
        [
            CQ500_HEADER,
            cq500_row("CQ500-CT-0", {"ICH", "SDH"}, {"ICH", "SDH", "Fracture"}, {"MassEffect"}),
            cq500_row("CQ500-CT-12", (), {"ICH", "SAH"}, {"Fracture"}, category="B2"),
        ],
    )
    study = "CQ500CT0 CQ500CT0/Unknown Study"
    touch(
        tmp_path,
        f"{study}/CT PLAIN THIN/CT000001.dcm",
        f"{study}/CT PLAIN THIN/CT000000.dcm",
        f"{study}/CT 4cc sec 150cc D3D on/CT000000.dcm",
        "CQ500CT12 CQ500CT12/Unknown Study/CT Plain/CT000000.dcm",
    )
    return tmp_path


class TestCq500:
    def test_recognized_and_listed(self, cq500):
        assert recognize(cq500) == "cq500"
        layout = read_layout(cq500, "cq500", None)
        assert layout.level == "scan" and layout.problems == () and layout.missing == 0
        found = [
            (row.path.relative_to(cq500).parts[-2:], row.label, row.patient, row.frame)
            for row in layout.rows
        ]
        assert found == [
            (("CT 4cc sec 150cc D3D on", "CT000000.dcm"), 1, "CQ500-CT-0", None),
            (("CT PLAIN THIN", "CT000000.dcm"), 1, "CQ500-CT-0", None),
            (("CT PLAIN THIN", "CT000001.dcm"), 1, "CQ500-CT-0", None),
            (("CT Plain", "CT000000.dcm"), 0, "CQ500-CT-12", None),
        ]
        assert columns_of(layout, layout.rows[1]) == {
            "any": "1",
            "epidural": "0",
            "intraparenchymal": "0",
            "intraventricular": "0",
            "subarachnoid": "0",
            "subdural": "1",
            "bleedlocation-left": "0",
            "bleedlocation-right": "0",
            "chronicbleed": "0",
            "fracture": "0",
            "calvarialfracture": "0",
            "otherfracture": "0",
            "masseffect": "0",
            "midlineshift": "0",
            "category": "B1",
            "series": "CT PLAIN THIN",
        }
        assert layout.targets == layout.columns[:-2]

    @pytest.mark.parametrize(
        "place",
        [
            "CQ500-CT-7/CQ500CT7 CQ500CT7/Unknown Study/CT Thin",
            "qct03/CQ500CT7 CQ500CT7/Unknown Study/CT Thin",
            "CQ500CT7_CQ500CT7/Unknown_Study/CT Thin",
            "cq500ct07/CT Thin",
        ],
    )
    def test_how_archives_may_be_unpacked(self, tmp_path, place):
        write_table(tmp_path / "reads.csv", [CQ500_HEADER, cq500_row("CQ500-CT-7", (), (), ())])
        touch(tmp_path / place, "CT000000.DCM", ".hidden.dcm", "notes.txt")
        touch(tmp_path / "__MACOSX" / place, "CT000000.dcm")
        (row,) = read_layout(tmp_path, "cq500", None).rows
        assert row.path == tmp_path / place / "CT000000.DCM" and row.columns[-1] == "CT Thin"

    @pytest.mark.parametrize(
        "readers, label",
        [
            (((), (), ()), 0),
            (({"ICH"}, (), ()), 0),
            (({"ICH"}, (), {"ICH"}), 1),
            (({"ICH"}, {"ICH"}, {"ICH"}), 1),
            (({"ICH"}, {"ICH"}, None), 1),
            (((), None, ()), 0),
            ((None, None, {"ICH"}), 1),
        ],
    )
    def test_the_majority_of_those_who_read_decides(self, cq500, readers, label):
        write_table(cq500 / "reads.csv", [CQ500_HEADER, cq500_row("CQ500-CT-12", *readers)])
        layout = read_layout(cq500, "cq500", None)
        assert [row.label for row in layout.rows] == [label]

    @pytest.mark.parametrize("readers", [({"ICH"}, (), None), (None, None, None)])
    def test_no_majority_is_a_problem(self, cq500, readers):
        rows = [cq500_row("CQ500-CT-0", (), (), ()), cq500_row("CQ500-CT-12", *readers)]
        write_table(cq500 / "reads.csv", [CQ500_HEADER, *rows])
        layout = read_layout(cq500, "cq500", None)
        assert {row.patient for row in layout.rows} == {"CQ500-CT-0"}
        assert reasons(layout) == {
            "reads.csv row 3": "the readers of CQ500-CT-12 give no majority for or against any"
        }

    def test_no_majority_for_another_finding_is_blank(self, cq500):
        row = cq500_row("CQ500-CT-12", {"ICH", "SDH"}, {"ICH"}, None)
        write_table(cq500 / "reads.csv", [CQ500_HEADER, row])
        layout = read_layout(cq500, "cq500", None)
        assert columns_of(layout, layout.rows[0])["subdural"] == ""
        assert layout.rows[0].label == 1

    def test_target(self, cq500):
        touch(cq500, "CQ500CT12 CQ500CT12/Unknown Study/CT Plain/CT000001.dcm")
        layout = read_layout(cq500, "cq500", "subdural")
        assert [row.label for row in layout.rows] == [1, 1, 1, 0, 0]
        with pytest.raises(OptionError, match="--target category: accepted are any, epidural, "):
            read_layout(cq500, "cq500", "category")

    @pytest.mark.parametrize(
        "column, value, reason",
        [
            (2, "2", "neither 0 nor 1: r1:ich '2'"),
            (43, "yes", "neither 0 nor 1: r3:midlineshift 'yes'"),
            (0, "patient 9", "the name 'patient 9' is not CQ500-CT-number"),
            (0, "CQ500-CT-0", "CQ500-CT-0 stands in an earlier row too"),
        ],
    )
    def test_bad_rows_are_left_out_and_named(self, cq500, column, value, reason):
        row = cq500_row("CQ500-CT-12", (), (), ())
        row[column] = value
        first = cq500_row("CQ500-CT-0", (), (), ())
        write_table(cq500 / "reads.csv", [CQ500_HEADER, first, row])
        layout = read_layout(cq500, "cq500", None)
        assert {row.patient for row in layout.rows} == {"CQ500-CT-0"}
        assert reasons(layout)["reads.csv row 3"] == reason

    def test_scans_without_images_are_counted_those_without_rows_are_problems(self, cq500):
        write_table(
            cq500 / "reads.csv",
            [CQ500_HEADER, *(cq500_row(f"CQ500-CT-{number}", (), (), ()) for number in (0, 1, 2))],
        )
        layout = read_layout(cq500, "cq500", None)
        assert len(layout.rows) == 3 and layout.missing == 2
        path = cq500 / "CQ500CT12 CQ500CT12" / "Unknown Study" / "CT Plain" / "CT000000.dcm"
        assert reasons(layout) == {str(path): "has no row in reads.csv"}

    def test_without_category_and_in_another_order(self, cq500):
        write(cq500 / "reads.csv", '\ufeffr2:ich , "R1:ICH",R3: Fracture,Name\n1,1,1,CQ500-CT-12\n')
        assert recognize(cq500) == "cq500"
        layout = read_layout(cq500, "cq500", "fracture")
        assert layout.columns == ("any", "fracture", "series")
        assert layout.targets == ("any", "fracture")
        assert [row.columns for row in layout.rows] == [("1", "1", "CT Plain")]

    def test_none_of_the_images_is_an_error(self, cq500):
        empty = cq500 / "empty"
        empty.mkdir()
        (cq500 / "reads.csv").rename(empty / "reads.csv")
        with pytest.raises(DataError, match="none of the 2 scans that it names has an image"):
            read_layout(empty, "cq500", None)


class TestRecognition:
    def test_other_folders(self, tmp_path, kaggle_folder):
        assert recognize(tmp_path) is None
        assert recognize(tmp_path / "missing") is None
        assert recognize(kaggle_folder) is None

    @pytest.mark.parametrize("name", ["stage_2_train.csv", "hemorrhage_diagnosis.csv", "reads.csv"])
    @pytest.mark.parametrize("content", [b"", b"\n\n", b"a,b\n1,2\n", b"\xff\xfe\0", b"\0,\0"])
    def test_the_name_alone_is_not_enough(self, tmp_path, name, content):
        write(tmp_path / name, content)
        assert recognize(tmp_path) is None

    @pytest.mark.parametrize("name", ["rsna 2019", "ct-ich", "cq500"])
    def test_reading_without_a_table(self, tmp_path, name):
        with pytest.raises(DataError, match=f"holds none of the tables of {name}: "):
            read_layout(tmp_path, name, None)

    @pytest.mark.parametrize("name", ["rsna", "ct_ich", "cq500"])
    def test_table_without_rows(self, request, name):
        folder = request.getfixturevalue("ct_ich_empty" if name == "ct_ich" else name)
        for table in folder.glob("*.csv"):
            header = table.read_text().splitlines()[0]
            table.write_text(header + "\n")
        for image in [*folder.rglob("*.dcm")]:
            image.unlink()
        with pytest.raises(DataError, match="has a header and no rows"):
            read_layout(folder, recognize(folder), None)

    @pytest.fixture
    def ct_ich_empty(self, tmp_path):
        write(tmp_path / "hemorrhage_diagnosis.csv", CT_ICH_HEADER)
        return tmp_path

    def test_damage_further_down_is_an_error(self, rsna):
        with open(rsna / "stage_2_train.csv", "ab") as file:
            file.write(b"x" * 10_000 + b"\n\xff\xfe\n")
        with pytest.raises(DataError, match="cannot be read as CSV .*Save it as UTF-8"):
            read_layout(rsna, "rsna 2019", None)
