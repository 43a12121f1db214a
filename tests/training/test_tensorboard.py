from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys

import pytest
from recorder import Recorder

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training import tensorboard
from hemorrhage_tf.training.tensorboard import TensorBoardLog
from hemorrhage_tf.training.trainer import Trainer

QUICK = {"backbone": "tiny", "image_size": 32, "views": 1, "audit": False, "quiet": True}
ROW = {"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.75}


def values(folder):
    """Read tag, step, plugin and value from a folder's own event files."""
    import tensorflow as tf

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                content = tf.make_ndarray(value.tensor).item()
                yield value.tag, event.step, value.metadata.plugin_data.plugin_name, content


def curve(folder, tag):
    return [(step, value) for name, step, _, value in values(folder) if name == tag]


@pytest.fixture
def log(tmp_path):
    log = TensorBoardLog(tmp_path / "board", "first", Progress())
    yield log
    log.close()


class TestTensorBoardLog:
    def test_epochs_reach_the_disk_while_it_trains(self, log, monkeypatch):
        monkeypatch.setattr(tensorboard, "FLUSH_MILLISECONDS", 0)
        on_epoch = log.start_training("fold 1")
        on_epoch({**ROW, "validation_loss": 0.25, "validation_accuracy": 1.0})
        assert list(values(log.folder / "fold 1")) == [
            ("head/loss", 1, "scalars", 0.5),
            ("head/accuracy", 1, "scalars", 0.75),
            ("head/validation_loss", 1, "scalars", 0.25),
            ("head/validation_accuracy", 1, "scalars", 1.0),
        ]

    def test_each_training_has_a_folder(self, log):
        for name in ("fold 1", "fold 2"):
            on_epoch = log.start_training(name)
            for epoch in (1, 2):
                on_epoch({**ROW, "epoch": epoch})
            on_epoch({**ROW, "stage": "fine-tune", "epoch": 1})
        log.close()
        for name in ("fold 1", "fold 2"):
            assert curve(log.folder / name, "head/loss") == [(1, 0.5), (2, 0.5)]
            assert curve(log.folder / name, "fine-tune/accuracy") == [(1, 0.75)]

    def test_settings_are_a_table(self, log):
        log.write_settings({"window": ("brain", "bone"), "backbone": "a|b"})
        log.close()
        ((tag, step, plugin, text),) = values(log.folder)
        assert (tag, step, plugin) == ("settings", 0, "text")
        assert text.decode().splitlines() == [
            "| setting | value |",
            "|---|---|",
            "| backbone | a\\|b |",
            "| window | brain, bone |",
        ]

    def test_metrics_have_intervals_and_stages_have_seconds(self, log):
        area = {"estimate": 0.5, "low": 0.25, "high": 0.75, "n": 8}
        log.finish({"roc_auc": area, "ppv": None}, {"Reading slices": 2.5})
        assert [(tag, value) for tag, _, _, value in values(log.folder)] == [
            ("metrics/roc_auc", 0.5),
            ("intervals/roc_auc low", 0.25),
            ("intervals/roc_auc high", 0.75),
            ("seconds/Reading slices", 2.5),
        ]

    def test_a_second_fit_has_a_new_folder_and_a_resumed_one_the_last(self, log):
        names = [
            TensorBoardLog(log.folder.parent, "first", Progress(), resumed).folder.name
            for resumed in (False, False, True)
        ]
        assert names == ["first 2", "first 3", "first 3"]

    def test_without_a_folder_it_writes_nothing_and_imports_no_tensorflow(self):
        code = """
import sys
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.tensorboard import TensorBoardLog
log = TensorBoardLog(None, "first", Progress())
log.write_settings({"folds": 5})
log.start_training("fold 1")({"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.5})
log.finish({}, {"Reading": 1.0})
assert "tensorflow" not in sys.modules
"""
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_failing_writer_is_reported_once(self, tmp_path, monkeypatch):
        import tensorflow as tf

        progress = Recorder()
        log = TensorBoardLog(tmp_path, "first", progress)

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tf.summary, "write", fail)
        on_epoch = log.start_training("fold 1")
        for _ in range(2):
            on_epoch(ROW)
        log.finish({}, {"Reading slices": 1.0})
        [warning] = progress.warnings
        assert "No space left on device" in warning
        assert "The fit continues without writing there" in warning and log.folder is None

    @pytest.mark.parametrize("place", ["a file", "a file/below", "/proc"])
    def test_rejects_a_folder_that_cannot_be_written(self, tmp_path, place):
        (tmp_path / "a file").touch()
        with pytest.raises(OutputError, match=r"--tensorboard .*: cannot be written \(.*Name a f"):
            TensorBoardLog(tmp_path / place, "first", Progress())

    @pytest.mark.slow
    def test_a_full_disk_is_reported_once(self, tmp_path):
        code = """
import resource, sys
import tensorflow as tf
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.tensorboard import TensorBoardLog
log = TensorBoardLog(sys.argv[1], "first", Progress())
on_epoch = log.start_training("fold 1")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for epoch in range(3000):
    on_epoch({"stage": "head", "epoch": epoch, "loss": 0.5, "accuracy": 0.5})
log.finish({"brier": {"estimate": 0.5, "low": 0.25, "high": 0.75}}, {})
print("continued")
"""
        if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
            pytest.skip("files are limited already")
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], capture_output=True, text=True
        )
        assert done.stdout == "continued\n"
        assert done.stderr.count("Warning: --tensorboard") == 1
        assert "The fit continues without writing there" in done.stderr


class TestFit:
    def test_curves_match_the_history(self, kaggle_once, tmp_path):
        settings = QUICK | {"epochs": 2, "folds": 2, "early_stopping": 2}
        board = tmp_path / "board"
        run = htf.fit(kaggle_once, out=tmp_path / "run", tensorboard=board, **settings)
        with open(run.path / "history.csv", newline="") as file:
            history = list(csv.DictReader(file))
        trainings = {"1": "fold 1", "2": "fold 2", "all": "all slices"}
        assert {path.name for path in (board / "run").glob("*/")} == set(trainings.values())
        for fold, name in trainings.items():
            for column in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
                expected = [
                    (int(row["epoch"]), pytest.approx(float(row[column]), rel=1e-6))
                    for row in history
                    if row["fold"] == fold
                ]
                assert curve(board / "run" / name, f"head/{column}") == expected
        own = {tag: value for tag, _, _, value in values(board / "run")}
        for name in ("accuracy", "roc_auc"):
            metric = run.metrics[name]
            assert own[f"metrics/{name}"] == pytest.approx(metric["estimate"], rel=1e-6)
            assert own[f"intervals/{name} low"] == pytest.approx(metric["low"], rel=1e-6)
        assert own["seconds/Training"] > 0
        assert "| folds | 2 |" in own["settings"].decode()
        assert str(kaggle_once) not in own["settings"].decode()

    @pytest.mark.slow
    def test_a_resumed_fit_continues_in_its_folder_and_its_log(
        self, kaggle_once, tmp_path, monkeypatch
    ):
        class Stop(BaseException):
            pass

        board, log = tmp_path / "board", tmp_path / "log.jsonl"
        logs = {"tensorboard": board, "log_json": log}
        settings = QUICK | {"solver": "adam", "epochs": 2, "folds": 2}
        original, trainings = Trainer.train, []

        def train(self, task):
            trainings.append(1)
            if len(trainings) == 2:
                raise Stop
            return original(self, task)

        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(Trainer, "train", train)
            htf.fit(kaggle_once, out=tmp_path / "run", **logs, **settings)
        run = htf.fit(resume=tmp_path / "run", quiet=True, **logs)
        assert [path.name for path in board.iterdir()] == ["run"]
        for name in ("fold 1", "fold 2", "all slices"):
            assert [step for step, _ in curve(board / "run" / name, "head/loss")] == [1, 2]
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        starts = [line["settings"] for line in lines if line["event"] == "start"]
        assert [each["resumed"] for each in starts] == [False, True]
        assert starts[1]["epochs"] == 2 and str(kaggle_once) not in log.read_text()
        assert lines[-1]["metrics"]["roc_auc"] == run.metrics["roc_auc"]
        htf.fit(resume=tmp_path / "run", log_json=log, quiet=True)  # finished
        last = json.loads(log.read_text().splitlines()[-1])
        assert last["event"] == "result" and last["path"] == str(tmp_path / "run")

    @pytest.mark.parametrize("below", ["", "run", "run/board", "run.checkpoint"])
    def test_rejects_a_place_in_the_run_folder(self, kaggle_once, tmp_path, below):
        with pytest.raises(OptionError, match="--tensorboard .* is inside the run folder"):
            htf.fit(kaggle_once, out=tmp_path / "run", tensorboard=tmp_path / below, **QUICK)
        assert not (tmp_path / "run").exists()
