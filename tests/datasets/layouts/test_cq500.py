import pytest
from dataset_files import add_table, columns_of, reasons, touch, write

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize

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
    add_table(
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
    def test_accepts_archives_however_they_are_unpacked(self, tmp_path, place):
        add_table(tmp_path / "reads.csv", [CQ500_HEADER, cq500_row("CQ500-CT-7", (), (), ())])
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
    def test_the_majority_of_the_readers_decides(self, cq500, readers, label):
        add_table(cq500 / "reads.csv", [CQ500_HEADER, cq500_row("CQ500-CT-12", *readers)])
        layout = read_layout(cq500, "cq500", None)
        assert [row.label for row in layout.rows] == [label]

    @pytest.mark.parametrize("readers", [({"ICH"}, (), None), (None, None, None)])
    def test_no_majority_is_a_problem(self, cq500, readers):
        rows = [cq500_row("CQ500-CT-0", (), (), ()), cq500_row("CQ500-CT-12", *readers)]
        add_table(cq500 / "reads.csv", [CQ500_HEADER, *rows])
        layout = read_layout(cq500, "cq500", None)
        assert {row.patient for row in layout.rows} == {"CQ500-CT-0"}
        assert reasons(layout.problems) == {
            "reads.csv row 3": "the readers of CQ500-CT-12 have no majority for or against any"
        }

    def test_a_finding_without_a_majority_is_blank(self, cq500):
        row = cq500_row("CQ500-CT-12", {"ICH", "SDH"}, {"ICH"}, None)
        add_table(cq500 / "reads.csv", [CQ500_HEADER, row])
        layout = read_layout(cq500, "cq500", None)
        assert columns_of(layout, layout.rows[0])["subdural"] == ""
        assert layout.rows[0].label == 1

    def test_target(self, cq500):
        touch(cq500, "CQ500CT12 CQ500CT12/Unknown Study/CT Plain/CT000001.dcm")
        layout = read_layout(cq500, "cq500", "subdural")
        assert [row.label for row in layout.rows] == [1, 1, 1, 0, 0]
        with pytest.raises(
            OptionError, match="--target category: no such label. Pass one of any, "
        ):
            read_layout(cq500, "cq500", "category")

    @pytest.mark.parametrize(
        "column, value, reason",
        [
            (2, "2", "neither 0 nor 1: r1:ich '2'"),
            (43, "yes", "neither 0 nor 1: r3:midlineshift 'yes'"),
            (0, "patient 9", "the name 'patient 9' is not CQ500-CT-number"),
            (0, "CQ500-CT-0", "CQ500-CT-0 has an earlier row"),
        ],
    )
    def test_bad_rows_are_left_out_and_named(self, cq500, column, value, reason):
        row = cq500_row("CQ500-CT-12", (), (), ())
        row[column] = value
        first = cq500_row("CQ500-CT-0", (), (), ())
        add_table(cq500 / "reads.csv", [CQ500_HEADER, first, row])
        layout = read_layout(cq500, "cq500", None)
        assert {row.patient for row in layout.rows} == {"CQ500-CT-0"}
        assert reasons(layout.problems)["reads.csv row 3"] == reason

    def test_scans_without_images_are_counted_those_without_rows_are_problems(self, cq500):
        add_table(
            cq500 / "reads.csv",
            [CQ500_HEADER, *(cq500_row(f"CQ500-CT-{number}", (), (), ()) for number in (0, 1, 2))],
        )
        layout = read_layout(cq500, "cq500", None)
        assert len(layout.rows) == 3 and layout.missing == 2
        path = cq500 / "CQ500CT12 CQ500CT12" / "Unknown Study" / "CT Plain" / "CT000000.dcm"
        assert reasons(layout.problems) == {str(path): "has no row in reads.csv"}

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
        with pytest.raises(DataError, match="none of its 2 scans has an image"):
            read_layout(empty, "cq500", None)
