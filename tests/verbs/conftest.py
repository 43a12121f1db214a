"""Fixtures for the verbs: reading tables, settings of a small fit, a fit that is stopped."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.training.trainer import Trainer


@pytest.fixture(scope="session")
def quick() -> dict[str, object]:
    """Settings of a small fit, those of `fit_once`."""
    return {"backbone": "tiny", "image_size": 32, "views": 1, "audit": False, "quiet": True}


@pytest.fixture(scope="session")
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    """Read a table of a run folder, one dictionary for each row."""

    def read(path: Path) -> list[dict[str, str]]:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def check_model_repeats(read_rows) -> Callable[..., list[float]]:
    """Check that the saved model of a single split predicts what `predictions.csv` holds."""

    def check(run: Path, data: Path) -> list[float]:
        rows = read_rows(run / "predictions.csv")
        prediction = htf.predict([data / row["path"] for row in rows], model=run, quiet=True)
        probabilities = {one.path: one.probability for one in prediction}
        written = [float(row["probability"]) for row in rows]
        predicted = [probabilities[str(data / row["path"])] for row in rows]
        assert predicted == pytest.approx(written, abs=1e-5)
        return written

    return check


class Stopped(BaseException):
    """Ends a fit as a kill does: nothing below catches it."""


@pytest.fixture
def stop_after(monkeypatch) -> Callable[..., None]:
    """Run a fit that is stopped after some trainings, or before it builds the saved model."""

    def run(trainings: int, *arguments, **settings) -> None:
        original, calls = Trainer.train, []

        def train(self, task):
            if len(calls) == trainings:
                raise Stopped
            calls.append(task)
            return original(self, task)

        def build_classifier(self):
            raise Stopped

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Trainer, "train", train)
            patch.setattr(Trainer, "build_classifier", build_classifier)
            htf.fit(*arguments, **settings)

    return run
