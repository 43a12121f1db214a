from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.exporters.benchmark_worker import measure


@pytest.fixture
def request_for_phantoms(exports_once):
    return {
        "model": str(exports_once / "a.tflite"),
        "format": "tflite",
        "images": None,
        "threads": 1,
        "batch_size": 16,
        "rounds": 2,
    }


def test_measures_every_phantom_once(request_for_phantoms):
    answer = measure(request_for_phantoms)
    assert len(answer["probabilities"]) == 64
    assert all(0 <= value <= 1 for value in answer["probabilities"])
    assert answer["throughput"] > 0 and answer["peak_mib"] > 0


def test_fewer_images_than_a_batch_are_counted_once(request_for_phantoms, kaggle_once):
    paths = sorted(kaggle_once.rglob("*.png"))[:3]
    answer = measure({**request_for_phantoms, "images": [(str(path), None) for path in paths]})
    assert len(answer["probabilities"]) == 3


def test_raises_the_librarys_errors(request_for_phantoms, tmp_path):
    with pytest.raises(DataError, match="gone.png"):
        measure({**request_for_phantoms, "images": [(str(tmp_path / "gone.png"), None)]})


def test_process_answers_with_json_alone_and_without_tensorflow(request_for_phantoms):
    code = (
        "import sys\n"
        "from hemorrhage_tf.exporters.benchmark_worker import main\n"
        "main()\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-u", "-c", code],
        input=json.dumps(request_for_phantoms),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["probabilities"]) == 64
