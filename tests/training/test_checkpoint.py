from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recorder import Recorder

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.training import checkpoint as checkpoint_module
from hemorrhage_tf.training.checkpoint import (
    CheckpointHeader,
    FitCheckpoint,
    checkpoint_folder,
    pack,
    read_checkpoint_header,
    run_folder_of,
    unpack,
)

OPTIONS, IDENTITY = {"data": "slices"}, {"--seed": 0, "slices": "abc"}

OPEN_IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.checkpoint import FitCheckpoint
try:
    FitCheckpoint(Path(sys.argv[1]), Progress(quiet=True)).open(*json.loads(sys.argv[2]))
except OutputError as error:
    print(error)
"""

VALUES = {
    "probabilities": np.linspace(0, 1, 5, dtype=np.float32),
    "weights": [np.eye(3), np.float32(2), np.array([], np.int64)],
    "history": [{"stage": "head", "epoch": 1, "loss": 0.25}],
    "best": [],
    "best_loss": None,
    "stopped": True,
}


@pytest.fixture
def progress() -> Recorder:
    return Recorder()


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


def open_checkpoint(run: Path, progress, identity=IDENTITY, writes: bool = True) -> FitCheckpoint:
    checkpoint = FitCheckpoint(run, progress)
    checkpoint.open(OPTIONS, identity, writes)
    return checkpoint


def check_values(values) -> None:
    assert values.keys() == VALUES.keys()
    np.testing.assert_array_equal(values["probabilities"], VALUES["probabilities"])
    for one, other in zip(values["weights"], VALUES["weights"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name in ("history", "best", "best_loss", "stopped"):
        assert values[name] == VALUES[name]


def test_checkpoint_folder_and_run_folder_name_each_other(run):
    folder = run.with_name("run.checkpoint")
    assert checkpoint_folder(run) == folder == checkpoint_folder(folder)
    assert run_folder_of(run) == run == run_folder_of(folder)


class TestReadCheckpointHeader:
    def test_no_checkpoint(self, run):
        assert read_checkpoint_header(run) is None

    def test_holds_id_options_and_identity(self, run, progress):
        with open_checkpoint(run, progress) as checkpoint:
            header = CheckpointHeader(checkpoint.id, OPTIONS, IDENTITY)
            assert read_checkpoint_header(run) == header
            assert read_checkpoint_header(checkpoint.folder) == header

    @pytest.mark.parametrize("content", ["{", "[]", '{"id": "1", "asked": {}, "identity": {}}'])
    def test_a_damaged_header_names_the_next_step(self, run, progress, content):
        open_checkpoint(run, progress).close()
        (checkpoint_folder(run) / "fit.json").write_text(content)
        with pytest.raises(OutputError, match="cannot be resumed. Remove .*start the fit again"):
            open_checkpoint(run, progress)


class TestFitCheckpoint:
    def test_the_next_process_gets_finished_trainings(self, run, progress):
        with open_checkpoint(run, progress) as checkpoint:
            assert checkpoint.finished_training("fold") is None
            checkpoint.save_training("fold", VALUES)
        with open_checkpoint(run, progress) as other:
            check_values(other.finished_training("fold"))
            assert other.id == checkpoint.id
        assert not progress.warnings

    def test_saving_a_training_removes_its_epochs(self, run, progress):
        checkpoint = open_checkpoint(run, progress)
        store = checkpoint.epoch_checkpoint("fold", "head")
        assert store.restore() is None
        store.save(lambda: VALUES, last=True)
        check_values(checkpoint.epoch_checkpoint("fold", "head").restore())
        assert checkpoint.epoch_checkpoint("fold", "fine-tune").restore() is None
        checkpoint.save_training("fold", VALUES)
        assert checkpoint.epoch_checkpoint("fold", "head").restore() is None

    def test_epochs_are_saved_every_few_seconds(self, run, progress, monkeypatch):
        store = open_checkpoint(run, progress).epoch_checkpoint("fold", "head")
        calls = []
        store.save(lambda: calls.append(1) or VALUES, last=False)
        assert not calls and store.restore() is None
        monkeypatch.setattr(checkpoint_module, "SAVE_SECONDS", -1.0)
        store.save(lambda: calls.append(1) or VALUES, last=False)
        assert calls
        check_values(store.restore())

    def test_remove_leaves_nothing(self, run, progress):
        checkpoint = open_checkpoint(run, progress)
        checkpoint.save_training("fold", VALUES)
        checkpoint.remove()
        assert not list(run.parent.iterdir())

    def test_restart_discards_trainings_and_differences(self, run, progress):
        with open_checkpoint(run, progress) as checkpoint:
            checkpoint.save_training("fold", VALUES)
        other = FitCheckpoint(run, progress)
        other.open(OPTIONS, {"--seed": 1}, restart=True)
        assert other.finished_training("fold") is None
        assert read_checkpoint_header(run).identity == {"--seed": 1}

    @pytest.mark.parametrize("saves", [False, True])
    def test_a_mistake_of_the_user_removes_an_empty_checkpoint(self, run, progress, saves):
        with pytest.raises(OptionError), open_checkpoint(run, progress) as checkpoint:
            if saves:
                checkpoint.save_training("fold", VALUES)
            raise OptionError("mistake")
        assert checkpoint.folder.exists() is saves

    def test_rejects_another_identity_and_lists_the_differences(self, run, progress):
        open_checkpoint(run, progress).close()
        with pytest.raises(OptionError, match="started with different settings") as caught:
            open_checkpoint(run, progress, {**IDENTITY, "--seed": 1, "--l2": 0.5})
        message = str(caught.value)
        assert "--seed: 0 before, 1 now" in message and "--l2: nothing before, 0.5 now" in message
        assert "slices:" not in message and "run.checkpoint" in message

    def test_removes_partial_files_of_a_killed_process(self, run, progress):
        with open_checkpoint(run, progress) as checkpoint:
            partial = checkpoint.folder / "trainings" / ".fold.npz.1.part"
            partial.write_bytes(b"half")
            (checkpoint.folder / ".run.1.part").mkdir()
        open_checkpoint(run, progress)
        assert not list(checkpoint.folder.rglob("*.part"))

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_a_damaged_file_is_reported_and_computed_again(self, run, progress, share):
        checkpoint = open_checkpoint(run, progress)
        checkpoint.save_training("fold", VALUES)
        path = checkpoint.folder / "trainings" / "fold.npz"
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert checkpoint.finished_training("fold") is None
        assert len(progress.warnings) == 1 and "computed again" in progress.warnings[0]

    def test_a_full_disk_is_reported_once(self, run, progress):
        checkpoint = open_checkpoint(run, progress)
        for folder in ("trainings", "epochs"):
            (checkpoint.folder / folder).rmdir()
            (checkpoint.folder / folder).touch()  # so that nothing can be written below
        checkpoint.save_training("fold", VALUES)
        checkpoint.epoch_checkpoint("fold", "head").save(lambda: VALUES, last=True)
        assert len(progress.warnings) == 1 and "The fit continues" in progress.warnings[0]

    def test_a_worker_that_does_not_write_leaves_nothing(self, run, progress):
        checkpoint = open_checkpoint(run, progress, writes=False)
        checkpoint.save_training("fold", VALUES)
        checkpoint.epoch_checkpoint("fold", "head").save(lambda: VALUES, last=True)
        checkpoint.remove()
        assert not list(run.parent.iterdir())

    def test_rejects_a_second_process(self, run, progress):
        with open_checkpoint(run, progress):
            arguments = [str(run), json.dumps([OPTIONS, IDENTITY])]
            done = subprocess.run(
                [sys.executable, "-c", OPEN_IN_ANOTHER_PROCESS, *arguments],
                capture_output=True,
                text=True,
            )
        assert "another process is working on this run" in done.stdout


class TestPack:
    @settings(max_examples=30)
    @given(arrays.arrays(st.sampled_from([np.float32, np.int64]), arrays.array_shapes()))
    def test_unpack_returns_any_array(self, array):
        values = unpack(pack({"a": array, "b": [array]}))
        np.testing.assert_array_equal(values["a"], array)
        np.testing.assert_array_equal(values["b"][0], array)

    def test_unpack_returns_lists_and_plain_values(self):
        check_values(unpack(pack(VALUES)))
