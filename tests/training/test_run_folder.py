from __future__ import annotations

import csv
import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.models.run_files import RUN_FILES, is_run_folder, training_hashes
from hemorrhage_tf.training.folds import Fold
from hemorrhage_tf.training.run_folder import (
    check_output,
    write_csv,
    write_json,
    write_tables,
    writing,
)


def make_run(path: Path, text: str = "old") -> Path:
    path.mkdir(parents=True)
    for name in RUN_FILES:
        (path / name).write_text(text)
    return path


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestCheckOutput:
    def test_a_new_place_is_fine_and_stays_clean(self, tmp_path):
        check_output(tmp_path / "runs" / "first", overwrite=False)
        assert [path.name for path in tmp_path.rglob("*")] == ["runs"]

    @pytest.mark.parametrize("make", [make_run, Path.mkdir], ids=["a run", "an empty folder"])
    def test_exists(self, tmp_path, make):
        path = tmp_path / "run"
        make(path)
        with pytest.raises(OutputError, match="run: exists. .*--overwrite") as caught:
            check_output(path, overwrite=False)
        assert f"--out {path}" in str(caught.value)
        check_output(path, overwrite=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_that_is_no_run_is_never_replaced(self, tmp_path, overwrite):
        path = make_run(tmp_path / "run")
        (path / RUN_FILES[0]).unlink()
        with pytest.raises(OutputError, match="exists and is no run folder.*Name another folder"):
            check_output(path, overwrite)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_file_is_never_replaced(self, tmp_path, overwrite):
        path = tmp_path / "run"
        path.write_text("notes")
        with pytest.raises(OutputError, match="exists and is no run folder"):
            check_output(path, overwrite)
        assert path.read_text() == "notes"

    def test_a_dangling_link_is_not_replaced(self, tmp_path):
        path = tmp_path / "run"
        path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(OutputError, match="exists"):
            check_output(path, overwrite=True)

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            check_output(tmp_path / "file" / "run", overwrite=False)

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_below_a_folder_without_permission(self, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(OutputError, match="cannot be written .Permission denied"):
            check_output(closed / "run", overwrite=False)

    def test_on_a_full_disk(self, tmp_path, monkeypatch):
        def full(*arguments, **keywords):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("tempfile.mkdtemp", full)
        with pytest.raises(OutputError, match="cannot be written .the disk is full"):
            check_output(tmp_path / "run", overwrite=False)


class TestIsRunFolder:
    def test_holds_every_file(self, tmp_path):
        assert is_run_folder(make_run(tmp_path / "run"))
        for name in RUN_FILES:
            other = make_run(tmp_path / f"without {name}")
            (other / name).unlink()
            assert not is_run_folder(other)
        assert not is_run_folder(tmp_path / "nothing")


class TestWriting:
    def test_the_folder_appears_whole(self, tmp_path):
        path = tmp_path / "run"
        with writing(path, overwrite=False) as folder:
            (folder / "a.txt").write_text("a")
            assert not path.exists()
            assert folder.parent == path.parent  # on the same file system
        assert content(tmp_path) == {"run/a.txt": "a"}
        assert os.listdir(tmp_path) == ["run"]

    def test_has_the_permissions_of_the_umask(self, tmp_path):
        with writing(tmp_path / "run", overwrite=False) as folder:
            (folder / "a.txt").touch()
        (tmp_path / "other").mkdir()
        modes = [(tmp_path / name).stat().st_mode for name in ("run", "other")]
        assert modes[0] == modes[1]

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
    def test_an_exception_leaves_nothing_behind_and_the_old_run_intact(self, tmp_path, error):
        path = make_run(tmp_path / "run")
        before = content(tmp_path)
        with pytest.raises(type(error)), writing(path, overwrite=True) as folder:
            (folder / "a.txt").write_text("half")
            raise error
        assert content(tmp_path) == before
        assert os.listdir(tmp_path) == ["run"]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk(self, tmp_path, number):
        path = make_run(tmp_path / "run")
        before = content(tmp_path)
        with (
            pytest.raises(OutputError, match="cannot be written .the disk is full.*no run was"),
            writing(path, overwrite=True) as folder,
        ):
            (folder / "a.txt").write_text("half")
            raise OSError(number, os.strerror(number))
        assert content(tmp_path) == before
        assert os.listdir(tmp_path) == ["run"]

    def test_another_error_of_the_system_says_which(self, tmp_path):
        with (
            pytest.raises(OutputError, match="Input/output error"),
            writing(tmp_path / "run", overwrite=False),
        ):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        assert not os.listdir(tmp_path)

    def test_overwrite_replaces(self, tmp_path):
        path = make_run(tmp_path / "run")
        with writing(path, overwrite=True) as folder:
            (folder / "a.txt").write_text("new")
            assert content(path)[RUN_FILES[0]] == "old"
        assert content(tmp_path) == {"run/a.txt": "new"}
        assert os.listdir(tmp_path) == ["run"]

    def test_what_another_process_made_meanwhile_is_kept(self, tmp_path):
        path = tmp_path / "run"
        with pytest.raises(OutputError, match="was made by another process"):
            with writing(path, overwrite=False) as folder:
                (folder / "a.txt").write_text("mine")
                make_run(path, "theirs")
        assert set(content(path).values()) == {"theirs"}
        assert os.listdir(tmp_path) == ["run"]

    def test_the_old_run_still_stands_where_the_last_rename_fails(self, tmp_path, monkeypatch):
        path = make_run(tmp_path / "run")
        rename = os.rename

        def fails_once_the_old_one_is_away(source, target):
            if Path(target) == path and Path(source).name.endswith(".part"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, target)

        monkeypatch.setattr(os, "rename", fails_once_the_old_one_is_away)
        with pytest.raises(OutputError, match="cannot be written"):
            with writing(path, overwrite=True) as folder:
                (folder / "a.txt").write_text("new")
        assert os.listdir(tmp_path) == ["run"]
        assert set(content(path).values()) == {"old"}

    def test_the_parent_is_gone(self, tmp_path):
        with pytest.raises(OutputError, match="No such file"):
            with writing(tmp_path / "gone" / "run", overwrite=False):
                pass


class TestWriteJson:
    def test_is_sorted_and_comes_back(self, tmp_path):
        value = {"b": [1, 2.5, None], "a": {"ä": "text"}}
        write_json(tmp_path / "x.json", value)
        text = (tmp_path / "x.json").read_text(encoding="utf-8")
        assert json.loads(text) == value
        assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_refuses_what_is_no_json_and_writes_nothing(self, tmp_path, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "x.json", {"a": [value]})
        assert not (tmp_path / "x.json").exists()


class TestWriteCsv:
    def test_missing_cells_stay_empty(self, tmp_path):
        write_csv(tmp_path / "x.csv", [{"a": 1}, {"b": "x,y"}], ("a", "b"))
        assert (tmp_path / "x.csv").read_bytes() == b'a,b\n1,\n,"x,y"\n'


def make_slices(count: int = 6, is_anonymous: bool = True) -> SliceIndex:
    root = Path("/data")
    records = tuple(Record(root / f"{i}.png", i % 2, f"patient {i}") for i in range(count))
    hashes = tuple(f"hash{i}" for i in range(count))
    manifest = Manifest(records, root, "csv", is_anonymous=is_anonymous)
    pictures = np.zeros(count, bool)
    return SliceIndex(manifest, hashes, pictures, np.arange(count), (), (), (), b"key")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class TestTables:
    def test_one_split(self, tmp_path):
        fold = Fold(1, 1, np.arange(4), np.array([4, 5]))
        epoch = {"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.75}
        found, called = [np.array([0.5, 0.25])], [np.array([True, False])]
        write_tables(tmp_path, make_slices(), [fold], found, [[epoch]], called)
        split = rows(tmp_path / "split.csv")
        assert [row["part"] for row in split] == ["train"] * 4 + ["test"] * 2
        assert list(split[0]) == [
            *("path", "frame", "content_hash", "label", "patient", "group", "part"),
        ]
        assert {row["frame"] for row in split} == {""}
        assert training_hashes(tmp_path) == {"hash0", "hash1", "hash2", "hash3"}
        predictions = rows(tmp_path / "predictions.csv")
        assert [row["path"] for row in predictions] == ["4.png", "5.png"]
        assert [row["probability"] for row in predictions] == ["0.5", "0.25"]
        assert [row["hemorrhage"] for row in predictions] == ["1", "0"]
        [history] = rows(tmp_path / "history.csv")
        assert (history["fold"], history["loss"], history["validation_loss"]) == ("1", "0.5", "")
        # Patients are told apart, and not named.
        assert len({row["patient"] for row in split}) == 6
        assert all(re.fullmatch("[0-9a-f]{16}", row["patient"]) for row in split)
        assert "patient 0" not in "".join(path.read_text() for path in tmp_path.iterdir())

    def test_patients_are_named_where_asked(self, tmp_path):
        fold = Fold(1, 1, np.arange(4), np.array([4, 5]))
        slices = make_slices(is_anonymous=False)
        write_tables(tmp_path, slices, [fold], [np.zeros(2)], [[]], [np.zeros(2, bool)])
        assert [row["patient"] for row in rows(tmp_path / "split.csv")] == [
            f"patient {index}" for index in range(6)
        ]

    def test_a_frame_has_a_column_of_its_own(self, tmp_path):
        root = Path("/data")
        records = tuple(Record(root / "a.nii.gz", 1, frame=index) for index in range(6))
        slices = replace(make_slices(), manifest=Manifest(records, root, "csv"))
        fold = Fold(1, 1, np.arange(4), np.array([4, 5]))
        write_tables(tmp_path, slices, [fold], [np.zeros(2)], [[]], [np.zeros(2, bool)])
        for name, frames in (("split.csv", "012345"), ("predictions.csv", "45")):
            found = [(row["path"], row["frame"]) for row in rows(tmp_path / name)]
            assert found == [("a.nii.gz", frame) for frame in frames]
        assert {row["patient"] for row in rows(tmp_path / "split.csv")} == {""}

    def test_folds_and_the_training_on_all(self, tmp_path):
        everything = np.arange(6)
        tests = [np.array(test) for test in ([0, 1, 2], [3, 4, 5], [0, 2, 4], [1, 3, 5])]
        plan = [
            Fold(1 + index // 2, 1 + index % 2, np.setdiff1d(everything, test), test)
            for index, test in enumerate(tests)
        ]
        epoch = {"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.75}
        found = [np.full(3, index / 10) for index in range(4)]
        called = [each >= 0.15 for each in found]
        write_tables(tmp_path, make_slices(), plan, found, [[epoch]] * 5, called)
        split = rows(tmp_path / "split.csv")
        assert [row["repeat_1"] for row in split] == list("111222")
        assert [row["repeat_2"] for row in split] == list("121212")
        # The model that is saved was trained on all.
        assert training_hashes(tmp_path) == {f"hash{index}" for index in range(6)}
        predictions = rows(tmp_path / "predictions.csv")
        assert len(predictions) == 12
        assert [row["hemorrhage"] for row in predictions] == ["0"] * 6 + ["1"] * 6
        history = rows(tmp_path / "history.csv")
        assert [(row["repeat"], row["fold"]) for row in history] == [
            *(("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")),
            ("", "all"),
        ]
