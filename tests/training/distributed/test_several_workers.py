"""A whole fit on several workers of this machine, beside the same fit in one process."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError

LOCAL = Path(__file__).parents[3] / "examples" / "cluster" / "local.py"
SETTINGS = {
    "backbone": "tiny",
    "weights": "none",
    "image_size": 32,
    "folds": 2,
    "solver": "adam",
    "epochs": 3,
    "batch_size": 7,  # so that neither a batch nor an epoch divides evenly
}


def options() -> list[str]:
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in SETTINGS.items()]
    return [part for pair in pairs for part in pair]


def probabilities(run: Path) -> np.ndarray:
    with open(run / "predictions.csv", newline="") as file:
        return np.array([float(row["probability"]) for row in csv.DictReader(file)])


def weights(run: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:

        def keep(name, each):
            if isinstance(each, h5py.Dataset):
                found[name] = each[()]

        file.visititems(keep)
    return found


def numbers(value, name=""):
    """Gives all numbers of a nested dictionary, by their path."""
    if isinstance(value, dict):
        return {
            k: v for key, each in value.items() for k, v in numbers(each, f"{name}/{key}").items()
        }
    return {name: float(value)} if isinstance(value, int | float) else {}


def test_two_workers_give_what_one_process_gives(tmp_path):
    # More slices than one worker's batch of features, and an odd number for the two.
    data = htf.phantoms(tmp_path / "data", 25, 5, size=64, quiet=True)
    one = htf.fit(
        data, out=tmp_path / "one", audit=False, cache=tmp_path / "c1", quiet=True, **SETTINGS
    )
    command = [sys.executable, str(LOCAL), "2", str(data), "--no-audit", *options()]
    command += ["--strategy", "multiworker", "--out", str(tmp_path / "two")]
    command += ["--cache", str(tmp_path / "c2"), "--log-json", str(tmp_path / "log.jsonl")]
    command += ["--tensorboard", str(tmp_path / "board")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    two = tmp_path / "two"
    for name in ("log.jsonl", "log.worker-1.jsonl"):  # each of its own
        events = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert events[0]["event"] == "start" and events[-1]["event"] == "result"
        assert len({event.get("process") for event in events} - {None}) == 1
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["two"]  # the chief's alone
    assert sorted(each.name for each in tmp_path.glob("two*")) == ["two"]
    np.testing.assert_allclose(probabilities(two), probabilities(one.path), atol=1e-5)
    of_two = weights(two)
    for name, value in weights(one.path).items():
        np.testing.assert_allclose(of_two[name], value, atol=1e-5, err_msg=name)
    figures = numbers(json.loads((two / "metrics.json").read_text()))
    expected = numbers(one.metrics)
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-5), name
    # Both computed features into one cache, none of them twice, and only the chief printed.
    rows = [entry.rows for entry in htf.cache_info(tmp_path / "c2").entries]
    assert rows == [entry.rows for entry in htf.cache_info(tmp_path / "c1").entries]
    assert "[0] Run folder" in done.stdout and "[1] Worker 1: done" in done.stdout


def test_without_the_variable_or_a_run_folder(tmp_path, monkeypatch):
    data = htf.phantoms(tmp_path / "data", 8, 5, size=64, quiet=True)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    given = {"strategy": "multiworker", "quiet": True, "backbone": "tiny"}
    with pytest.raises(OptionError, match="TF_CONFIG"):
        htf.fit(data, out=tmp_path / "run", **given)
    workers = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps({**workers, "task": {"type": "worker", "index": 1}}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="Name it with --out"):
        htf.fit(data, **given)
    assert not list(tmp_path.glob("**/*.checkpoint")) and not (tmp_path / "run").exists()
