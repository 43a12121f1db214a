import csv
import os
import tracemalloc

import pytest
from dataset_files import add_table, columns_of, reasons, touch, write

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES, TARGETS
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize


def rsna_rows(**findings):
    """The six rows of each slice: `rsna_rows(ID_a={"epidural"})`."""
    return [
        (f"{identifier}_{finding}", int(finding in found or (finding == "any" and bool(found))))
        for identifier, found in findings.items()
        for finding in (*SUBTYPES, "any")
    ]


@pytest.fixture
def rsna(tmp_path):
    add_table(
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

    def test_rejects_an_unknown_target(self, rsna):
        with pytest.raises(OptionError) as error:
            read_layout(rsna, "rsna 2019", "stroke")
        assert (
            str(error.value) == f"--target stroke: no such label. Pass one of {', '.join(TARGETS)}."
        )

    @pytest.mark.parametrize(
        "place", ["stage_2_train_images", "stage_1_train", "stage_1_train_images", "."]
    )
    @pytest.mark.parametrize("suffix", [".dcm", ".png", ".DCM"])
    def test_finds_images_in_every_known_folder(self, rsna, place, suffix):
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
        with pytest.raises(DataError, match="none of its 3 slices has an image"):
            read_layout(rsna, "rsna 2019", None)

    def test_images_without_rows_are_problems(self, rsna):
        touch(rsna / "stage_2_train", "ID_9f.dcm", "readme.txt", "example.png", ".ID_8.dcm")
        layout = read_layout(rsna, "rsna 2019", None)
        path = str(rsna / "stage_2_train" / "ID_9f.dcm")
        assert reasons(layout.problems) == {path: "has no row in stage_2_train.csv"}

    def test_hundreds_of_images_without_rows_are_one_problem(self, rsna):
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
        assert reasons(layout.problems) == {
            "stage_2_train.csv row 20": "has 0 for ID_1b_epidural, and an earlier row has "
            "the opposite"
        }

    @pytest.mark.parametrize("label", ["2", "yes", "", "-1", "0.5", "nan"])
    def test_reports_a_label_outside_the_classes(self, rsna, label):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        rows = rsna_rows(ID_3d={"epidural"})
        rows[2] = (rows[2][0], label)
        layout = self.append(rsna, *rows)
        assert len(layout.rows) == 3
        assert reasons(layout.problems) == {
            "stage_2_train.csv row 22": f"the label {label!r} of ID_3d_intraventricular is "
            "neither 0 nor 1"
        }

    @pytest.mark.parametrize("identifier", ["ID_3d_stroke", "ID", "", "_any"])
    def test_reports_an_id_without_slice_or_finding(self, rsna, identifier):
        (problem,) = self.append(rsna, (identifier, 1)).problems
        assert problem.path == "stage_2_train.csv row 20"
        assert repr(identifier) in problem.reason

    def test_reports_a_slice_without_all_its_rows(self, rsna):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        layout = self.append(rsna, *rsna_rows(ID_3d={"epidural"})[:4])
        assert len(layout.rows) == 3
        assert reasons(layout.problems) == {
            "stage_2_train.csv ID_3d": "has no row for any, subdural"
        }

    def test_reports_a_subtype_without_hemorrhage(self, rsna):
        touch(rsna / "stage_2_train", "ID_3d.dcm")
        rows = rsna_rows(ID_3d={"epidural"})
        rows[-1] = ("ID_3d_any", 0)
        layout = self.append(rsna, *rows)
        assert len(layout.rows) == 3
        assert (
            "states that there is no hemorrhage"
            in reasons(layout.problems)["stage_2_train.csv ID_3d"]
        )

    def test_reports_a_row_of_another_width(self, rsna):
        layout = self.append(rsna, ("ID_3d_any", 0, 1))
        assert reasons(layout.problems) == {"stage_2_train.csv row 20": "has 3 cells, not 2"}

    def test_hundreds_of_bad_rows_are_one_problem(self, rsna):
        layout = self.append(rsna, *((f"ID_{number}_any", "x") for number in range(500)))
        (problem,) = layout.problems
        assert problem.reason == (
            "500 rows with a label that is neither 0 nor 1, the first: stage_2_train.csv row 20, "
            "stage_2_train.csv row 21, stage_2_train.csv row 22"
        )

    def test_accepts_tables_written_by_other_programs(self, rsna):
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

    def test_needs_little_memory(self, tmp_path):
        count = 2_000
        places = [f"ID_{number:09x}" for number in range(count)]
        (tmp_path / "stage_2_train").mkdir()
        with open(tmp_path / "stage_2_train.csv", "w") as file:
            file.write("ID,Label\n")
            for number, place in enumerate(places):
                for finding in (*SUBTYPES, "any"):
                    file.write(f"{place}_{finding},{number % 3 // 2}\n")
        for place in places:
            os.close(os.open(tmp_path / "stage_2_train" / f"{place}.dcm", os.O_CREAT, 0o644))
        # Paths intern their parts: the table of all interned texts must not grow while tracing.
        first = read_layout(tmp_path, "rsna 2019", None)
        tracemalloc.start()
        try:
            layout = read_layout(tmp_path, "rsna 2019", None)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(layout.rows) == len(first.rows) == count and layout.problems == ()
        assert len({id(row.columns) for row in layout.rows}) == 2
        # The full data set has 752,803 slices.
        assert kept / count < 600
        assert peak / count < 800
