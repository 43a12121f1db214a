import pytest
from dataset_files import write

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize


class TestRecognition:
    def test_recognizes_no_other_folders(self, tmp_path, kaggle_once):
        assert recognize(tmp_path) is None
        assert recognize(tmp_path / "missing") is None
        assert recognize(kaggle_once) is None

    @pytest.mark.parametrize("name", ["stage_2_train.csv", "hemorrhage_diagnosis.csv", "reads.csv"])
    @pytest.mark.parametrize("content", [b"", b"\n\n", b"a,b\n1,2\n", b"\xff\xfe\0", b"\0,\0"])
    def test_the_name_alone_is_not_enough(self, tmp_path, name, content):
        write(tmp_path / name, content)
        assert recognize(tmp_path) is None

    @pytest.mark.parametrize("name", ["rsna 2019", "ct-ich", "cq500"])
    def test_rejects_a_folder_without_a_table(self, tmp_path, name):
        with pytest.raises(DataError, match=f"contains no table of {name} "):
            read_layout(tmp_path, name, None)

    @pytest.mark.parametrize(
        ("table", "header"),
        [
            ("stage_2_train.csv", "ID,Label"),
            ("reads.csv", "name,R1:ICH"),
            (
                "hemorrhage_diagnosis.csv",
                "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,"
                "Epidural,Subdural,No_Hemorrhage,Fracture_Yes_No",
            ),
        ],
    )
    def test_rejects_a_table_without_rows(self, tmp_path, table, header):
        write(tmp_path / table, header + "\n")
        with pytest.raises(DataError, match="has a header, but no rows"):
            read_layout(tmp_path, recognize(tmp_path))

    def test_rejects_a_table_damaged_further_down(self, tmp_path):
        content = b"ID,Label\nID_a_any,0\n" + b"x" * 10_000 + b"\n\xff\xfe\n"
        write(tmp_path / "stage_2_train.csv", content)
        with pytest.raises(DataError, match="cannot be read as CSV .*Save it as UTF-8"):
            read_layout(tmp_path, "rsna 2019")
