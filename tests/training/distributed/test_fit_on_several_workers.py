"""A fit on two workers of this machine, compared with the same fit in one process."""

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


def read_probabilities(run: Path) -> np.ndarray:
    with open(run / "predictions.csv", newline="") as file:
        return np.array([float(row["probability"]) for row in csv.DictReader(file)])


def read_weights(run: Path) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(run / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:

        def add(name, each):
            if isinstance(each, h5py.Dataset):
                weights[name] = each[()]

        file.visititems(add)
    return weights


def numbers(value, name=""):
    """Return all numbers of a nested dictionary, by their path."""
    if isinstance(value, dict):
        return {
            k: v for key, each in value.items() for k, v in numbers(each, f"{name}/{key}").items()
        }
    return {name: float(value)} if isinstance(value, int | float) else {}


@pytest.mark.slow
def test_two_workers_equal_one_process(tmp_path):
    # More slices than a worker's batch of features, and an odd number for two workers.
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
    for name in ("log.jsonl", "log.worker-1.jsonl"):  # one for each worker
        events = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert events[0]["event"] == "start" and events[-1]["event"] == "result"
        assert len({event.get("process") for event in events} - {None}) == 1
    assert [path.name for path in (tmp_path / "board").iterdir()] == [
        "two"
    ]  # written by the chief only
    assert sorted(each.name for each in tmp_path.glob("two*")) == ["two"]
    # Both read a part of the slices, and have the hashes, groups and folds of one process.
    assert (two / "split.csv").read_bytes() == (one.path / "split.csv").read_bytes()
    np.testing.assert_allclose(read_probabilities(two), read_probabilities(one.path), atol=1e-5)
    of_two = read_weights(two)
    for name, value in read_weights(one.path).items():
        np.testing.assert_allclose(of_two[name], value, atol=1e-5, err_msg=name)
    metrics = numbers(json.loads((two / "metrics.json").read_text()))
    expected = numbers(one.metrics)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-5), name
    # Both wrote features to one cache, none of them twice, and only the chief printed the result.
    rows = [entry.rows for entry in htf.cache_info(tmp_path / "c2").entries]
    assert rows == [entry.rows for entry in htf.cache_info(tmp_path / "c1").entries]
    assert "[0] Run folder" in done.stdout and "[1] Worker 1: done" in done.stdout


def test_rejects_a_missing_variable_or_run_folder(tmp_path, monkeypatch):
    data = htf.phantoms(tmp_path / "data", 8, 5, size=64, quiet=True)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    settings = {"strategy": "multiworker", "quiet": True, "backbone": "tiny"}
    with pytest.raises(OptionError, match="TF_CONFIG"):
        htf.fit(data, out=tmp_path / "run", **settings)
    workers = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps({**workers, "task": {"type": "worker", "index": 1}}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="--out"):
        htf.fit(data, **settings)
    assert not list(tmp_path.glob("**/*.checkpoint")) and not (tmp_path / "run").exists()
