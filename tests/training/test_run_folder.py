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
from hemorrhage_tf.models.run_files import RUN_FILES, training_hashes
from hemorrhage_tf.training.folds import Fold, FoldResult
from hemorrhage_tf.training.run_folder import (
    atomic_run_folder,
    check_output,
    write_csv,
    write_json,
    write_tables,
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
    def test_a_new_path_is_accepted_without_a_trace(self, tmp_path):
        check_output(tmp_path / "runs" / "first", overwrite=False)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("make", [make_run, Path.mkdir], ids=["a run", "an empty folder"])
    def test_rejects_an_existing_run_without_overwrite(self, tmp_path, make):
        path = tmp_path / "run"
        make(path)
        with pytest.raises(OutputError, match="run: exists. .*--overwrite") as caught:
            check_output(path, overwrite=False)
        assert f"--out {path}" in str(caught.value)
        check_output(path, overwrite=True)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_never_replaces_a_folder_that_is_not_a_run(self, tmp_path, overwrite):
        path = make_run(tmp_path / "run")
        (path / RUN_FILES[0]).unlink()
        with pytest.raises(
            OutputError, match="exists and is not a run folder.*Name another folder"
        ):
            check_output(path, overwrite)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_never_replaces_a_file(self, tmp_path, overwrite):
        path = tmp_path / "run"
        path.write_text("notes")
        with pytest.raises(OutputError, match="exists and is not a run folder"):
            check_output(path, overwrite)
        assert path.read_text() == "notes"

    def test_never_replaces_a_dangling_link(self, tmp_path):
        path = tmp_path / "run"
        path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(OutputError, match="exists"):
            check_output(path, overwrite=True)

    def test_rejects_a_path_below_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            check_output(tmp_path / "file" / "run", overwrite=False)

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_rejects_a_parent_without_permission(self, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(OutputError, match="cannot be written .Permission denied"):
            check_output(closed / "run", overwrite=False)

    def test_rejects_a_full_disk(self, tmp_path, monkeypatch):
        def full(*arguments, **keywords):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("tempfile.mkdtemp", full)
        with pytest.raises(OutputError, match="cannot be written .the disk is full"):
            check_output(tmp_path / "run", overwrite=False)


class TestAtomicRunFolder:
    def test_the_folder_appears_complete(self, tmp_path):
        path = tmp_path / "run"
        with atomic_run_folder(path, overwrite=False) as folder:
            (folder / "a.txt").write_text("a")
            assert not path.exists()
            assert folder.parent == path.parent  # on the same file system
        assert content(tmp_path) == {"run/a.txt": "a"}
        assert os.listdir(tmp_path) == ["run"]

    def test_has_the_permissions_of_the_umask(self, tmp_path):
        with atomic_run_folder(tmp_path / "run", overwrite=False) as folder:
            (folder / "a.txt").touch()
        (tmp_path / "other").mkdir()
        modes = [(tmp_path / name).stat().st_mode for name in ("run", "other")]
        assert modes[0] == modes[1]

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
    def test_an_exception_keeps_the_old_run_and_nothing_else(self, tmp_path, error):
        path = make_run(tmp_path / "run")
        before = content(tmp_path)
        with pytest.raises(type(error)), atomic_run_folder(path, overwrite=True) as folder:
            (folder / "a.txt").write_text("half")
            raise error
        assert content(tmp_path) == before
        assert os.listdir(tmp_path) == ["run"]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_keeps_the_old_run(self, tmp_path, number):
        path = make_run(tmp_path / "run")
        before = content(tmp_path)
        with (
            pytest.raises(
                OutputError, match="cannot be written .the disk is full.*No run was left"
            ),
            atomic_run_folder(path, overwrite=True) as folder,
        ):
            (folder / "a.txt").write_text("half")
            raise OSError(number, os.strerror(number))
        assert content(tmp_path) == before
        assert os.listdir(tmp_path) == ["run"]

    def test_names_another_error_of_the_system(self, tmp_path):
        with (
            pytest.raises(OutputError, match="Input/output error"),
            atomic_run_folder(tmp_path / "run", overwrite=False),
        ):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        assert not os.listdir(tmp_path)

    def test_overwrite_replaces_a_run(self, tmp_path):
        path = make_run(tmp_path / "run")
        with atomic_run_folder(path, overwrite=True) as folder:
            (folder / "a.txt").write_text("new")
            assert content(path)[RUN_FILES[0]] == "old"
        assert content(tmp_path) == {"run/a.txt": "new"}
        assert os.listdir(tmp_path) == ["run"]

    def test_keeps_a_run_that_another_process_created(self, tmp_path):
        path = tmp_path / "run"
        with pytest.raises(OutputError, match="was created by another process"):
            with atomic_run_folder(path, overwrite=False) as folder:
                (folder / "a.txt").write_text("mine")
                make_run(path, "theirs")
        assert set(content(path).values()) == {"theirs"}
        assert os.listdir(tmp_path) == ["run"]

    def test_keeps_the_old_run_if_the_last_rename_fails(self, tmp_path, monkeypatch):
        path = make_run(tmp_path / "run")
        rename = os.rename

        def fail_for_the_new_run(source, target):
            if Path(target) == path and Path(source).name.endswith(".part"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rename(source, target)

        monkeypatch.setattr(os, "rename", fail_for_the_new_run)
        with pytest.raises(OutputError, match="cannot be written"):
            with atomic_run_folder(path, overwrite=True) as folder:
                (folder / "a.txt").write_text("new")
        assert os.listdir(tmp_path) == ["run"]
        assert set(content(path).values()) == {"old"}

    def test_reports_a_missing_parent(self, tmp_path):
        with pytest.raises(OutputError, match="No such file"):
            with atomic_run_folder(tmp_path / "gone" / "run", overwrite=False):
                pass


class TestWriteJson:
    def test_is_sorted_and_valid(self, tmp_path):
        value = {"b": [1, 2.5, None], "a": {"ä": "text"}}
        write_json(tmp_path / "x.json", value)
        text = (tmp_path / "x.json").read_text(encoding="utf-8")
        assert json.loads(text) == value
        assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_rejects_numbers_that_json_lacks(self, tmp_path, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "x.json", {"a": [value]})
        assert not (tmp_path / "x.json").exists()


class TestWriteCsv:
    def test_missing_cells_are_empty(self, tmp_path):
        write_csv(tmp_path / "x.csv", [{"a": 1}, {"b": "x,y"}], ("a", "b"))
        assert (tmp_path / "x.csv").read_bytes() == b'a,b\n1,\n,"x,y"\n'


def make_slices(count: int = 6, is_anonymous: bool = True) -> SliceIndex:
    root = Path("/data")
    records = tuple(Record(root / f"{i}.png", i % 2, f"patient {i}") for i in range(count))
    hashes = tuple(f"hash{i}" for i in range(count))
    manifest = Manifest(records, root, "csv", is_anonymous=is_anonymous)
    is_hounsfield = np.zeros(count, bool)
    return SliceIndex(manifest, hashes, is_hounsfield, np.arange(count), (), (), (), b"key")


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


EPOCH = {"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.75}


def make_split(history=()) -> FoldResult:
    """Make the result of a single split of six slices."""
    fold = Fold(1, 1, np.arange(4), np.array([4, 5]))
    return FoldResult(fold, np.array([0.5, 0.25]), np.array([True, False]), list(history))


class TestWriteTables:
    def test_single_split(self, tmp_path):
        write_tables(tmp_path, make_slices(), [make_split([EPOCH])])
        split = rows(tmp_path / "split.csv")
        assert [row["part"] for row in split] == ["train"] * 4 + ["test"] * 2
        assert list(split[0]) == [
            "path",
            "frame",
            "content_hash",
            "label",
            "patient",
            "group",
            "part",
        ]
        assert {row["frame"] for row in split} == {""}
        assert training_hashes(tmp_path) == {"hash0", "hash1", "hash2", "hash3"}
        predictions = rows(tmp_path / "predictions.csv")
        assert [row["path"] for row in predictions] == ["4.png", "5.png"]
        assert [row["probability"] for row in predictions] == ["0.5", "0.25"]
        assert [row["hemorrhage"] for row in predictions] == ["1", "0"]
        [history] = rows(tmp_path / "history.csv")
        assert (history["fold"], history["loss"], history["validation_loss"]) == ("1", "0.5", "")

    def test_patients_are_hashed(self, tmp_path):
        write_tables(tmp_path, make_slices(), [make_split()])
        patients = [row["patient"] for row in rows(tmp_path / "split.csv")]
        assert len(set(patients)) == 6
        assert all(re.fullmatch("[0-9a-f]{16}", patient) for patient in patients)
        assert "patient 0" not in "".join(path.read_text() for path in tmp_path.iterdir())

    def test_patients_are_named_on_request(self, tmp_path):
        write_tables(tmp_path, make_slices(is_anonymous=False), [make_split()])
        assert [row["patient"] for row in rows(tmp_path / "split.csv")] == [
            f"patient {index}" for index in range(6)
        ]

    def test_frames_have_a_column(self, tmp_path):
        root = Path("/data")
        records = tuple(Record(root / "a.nii.gz", 1, frame=index) for index in range(6))
        slices = replace(make_slices(), manifest=Manifest(records, root, "csv"))
        write_tables(tmp_path, slices, [make_split()])
        for name, frames in (("split.csv", "012345"), ("predictions.csv", "45")):
            places = [(row["path"], row["frame"]) for row in rows(tmp_path / name)]
            assert places == [("a.nii.gz", frame) for frame in frames]
        assert {row["patient"] for row in rows(tmp_path / "split.csv")} == {""}

    def test_cross_validation_and_the_training_on_all_slices(self, tmp_path):
        tests = [np.array(test) for test in ([0, 1, 2], [3, 4, 5], [0, 2, 4], [1, 3, 5])]
        results = [
            FoldResult(
                Fold(1 + index // 2, 1 + index % 2, np.setdiff1d(np.arange(6), test), test),
                np.full(3, index / 10),
                np.full(3, index >= 2),
                [EPOCH],
            )
            for index, test in enumerate(tests)
        ]
        write_tables(tmp_path, make_slices(), results, final_history=[EPOCH])
        split = rows(tmp_path / "split.csv")
        assert [row["repeat_1"] for row in split] == list("111222")
        assert [row["repeat_2"] for row in split] == list("121212")
        # The saved model is trained on all slices.
        assert training_hashes(tmp_path) == {f"hash{index}" for index in range(6)}
        predictions = rows(tmp_path / "predictions.csv")
        assert len(predictions) == 12
        assert [row["hemorrhage"] for row in predictions] == ["0"] * 6 + ["1"] * 6
        history = rows(tmp_path / "history.csv")
        assert [(row["repeat"], row["fold"]) for row in history] == [
            ("1", "1"),
            ("1", "2"),
            ("2", "1"),
            ("2", "2"),
            ("", "all"),
        ]
