from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recorder import Recorder

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training import checkpoint
from hemorrhage_tf.training.checkpoint import Checkpoint, folder_of, read_request, run_of

ASKED, IDENTITY = {"data": "slices"}, {"--seed": 0, "slices": "abc"}


BEGIN = """
import json, sys
from pathlib import Path
from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.verb_progress import Progress
from hemorrhage_tf.training.checkpoint import Checkpoint
try:
    Checkpoint(Path(sys.argv[1]), Progress(quiet=True)).begin(*json.loads(sys.argv[2]))
except OutputError as error:
    print(error)
"""


@pytest.fixture
def progress() -> Recorder:
    return Recorder()


def begun(run: Path, progress: Progress, identity=IDENTITY, writes: bool = True) -> Checkpoint:
    state = Checkpoint(run, progress)
    state.begin(ASKED, identity, writes)
    return state


VALUES = {
    "probabilities": np.linspace(0, 1, 5, dtype=np.float32),
    "weights": [np.eye(3), np.float32(2), np.array([], np.int64)],
    "history": [{"stage": "head", "epoch": 1, "loss": 0.25}],
    "best": [],
    "best_loss": None,
    "stopped": True,
}


def check(found) -> None:
    assert found.keys() == VALUES.keys()
    np.testing.assert_array_equal(found["probabilities"], VALUES["probabilities"])
    for one, other in zip(found["weights"], VALUES["weights"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name in ("history", "best", "best_loss", "stopped"):
        assert found[name] == VALUES[name]


class TestNames:
    def test_beside_the_run(self, tmp_path):
        run = tmp_path / "first"
        assert folder_of(run) == tmp_path / "first.checkpoint" == folder_of(folder_of(run))
        assert run_of(run) == run == run_of(folder_of(run))


class TestUnfinished:
    def test_what_is_done_is_there_for_the_next_process(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        assert state.done("fold") is None
        state.finish("fold", VALUES)
        state.close()
        other = begun(tmp_path / "run", progress)
        check(other.done("fold"))
        assert other.id == state.id
        assert read_request(tmp_path / "run")["asked"] == ASKED
        assert not progress.warnings

    def test_epochs_go_when_their_training_is_done(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        epoch_checkpoint = state.epoch_checkpoint("fold", "head")
        assert epoch_checkpoint.restore() is None
        epoch_checkpoint.keep(lambda: VALUES, last=True)
        check(state.epoch_checkpoint("fold", "head").restore())
        assert state.epoch_checkpoint("fold", "fine-tune").restore() is None
        state.finish("fold", VALUES)
        assert state.epoch_checkpoint("fold", "head").restore() is None

    def test_states_are_kept_every_few_seconds(self, tmp_path, progress, monkeypatch):
        epoch_checkpoint = begun(tmp_path / "run", progress).epoch_checkpoint("fold", "head")
        asked = []
        epoch_checkpoint.keep(lambda: asked.append(1) or VALUES, last=False)
        assert not asked and epoch_checkpoint.restore() is None
        monkeypatch.setattr(checkpoint, "_KEEP_SECONDS", -1.0)
        epoch_checkpoint.keep(lambda: asked.append(1) or VALUES, last=False)
        assert asked
        check(epoch_checkpoint.restore())

    def test_remove_leaves_nothing(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        state.finish("fold", VALUES)
        state.remove()
        assert not list(tmp_path.iterdir())

    def test_something_else_is_refused_with_the_difference(self, tmp_path, progress):
        begun(tmp_path / "run", progress).close()
        with pytest.raises(OptionError) as error:
            begun(tmp_path / "run", progress, {**IDENTITY, "--seed": 1, "--l2": 0.5})
        message = str(error.value)
        assert "--seed: 0 before, 1 now" in message and "--l2: nothing before, 0.5 now" in message
        assert "slices:" not in message and "run.checkpoint" in message

    def test_what_a_killed_process_left_half_written_goes(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        partial = state.folder / "trainings" / ".fold.npz.1.part"
        partial.write_bytes(b"half")
        (state.folder / ".run.1.part").mkdir()
        state.close()
        begun(tmp_path / "run", progress)
        assert not partial.exists() and not (state.folder / ".run.1.part").exists()

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_a_damaged_file_is_told_and_done_again(self, tmp_path, progress, share):
        state = begun(tmp_path / "run", progress)
        state.finish("fold", VALUES)
        path = state.folder / "trainings" / "fold.npz"
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert state.done("fold") is None
        assert len(progress.warnings) == 1 and "done again" in progress.warnings[0]

    def test_a_damaged_request_names_the_next_step(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        state.close()
        (state.folder / "fit.json").write_text("{")
        with pytest.raises(OutputError, match="start it anew"):
            begun(tmp_path / "run", progress)

    def test_a_disk_that_takes_no_more_is_told_once(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        for folder in ("trainings", "epochs"):
            (state.folder / folder).rmdir()
            (state.folder / folder).touch()  # so that nothing can be written below
        state.finish("fold", VALUES)
        state.epoch_checkpoint("fold", "head").keep(lambda: VALUES, last=True)
        assert len(progress.warnings) == 1 and "goes on" in progress.warnings[0]

    def test_a_worker_that_does_not_write_leaves_nothing(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress, writes=False)
        state.finish("fold", VALUES)
        state.epoch_checkpoint("fold", "head").keep(lambda: VALUES, last=True)
        state.remove()
        assert not list(tmp_path.iterdir())

    def test_another_process_is_kept_out(self, tmp_path, progress):
        state = begun(tmp_path / "run", progress)
        done = subprocess.run(
            [sys.executable, "-c", BEGIN, str(tmp_path / "run"), json.dumps([ASKED, IDENTITY])],
            capture_output=True,
            text=True,
        )
        assert "another process works on this run" in done.stdout
        state.close()

    @given(arrays.arrays(st.sampled_from([np.float32, np.int64]), arrays.array_shapes()))
    def test_any_array_comes_back(self, array):
        found = checkpoint._unpacked(checkpoint._packed({"a": array, "b": [array]}))
        np.testing.assert_array_equal(found["a"], array)
        np.testing.assert_array_equal(found["b"][0], array)
