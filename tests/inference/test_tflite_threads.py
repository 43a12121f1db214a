"""Batches of a small `.tflite` file run in threads, with the results of one thread."""

from __future__ import annotations

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.inference import tflite_model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (7, 192, 192, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(images):
    model = htf.load("phantomnet", threads=1)
    parts = [model.run_outputs(images[i : i + 1], cam=True) for i in range(len(images))]
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


@pytest.mark.parametrize("limit", [0, tflite_model.MAX_BYTES_PER_THREAD])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_matter(images, expected, threads, limit, monkeypatch):
    monkeypatch.setattr(tflite_model, "MAX_BYTES_PER_THREAD", limit)
    outputs = htf.load("phantomnet", threads=threads).run_outputs(images, cam=True)
    assert outputs.keys() == expected.keys()
    for name, values in outputs.items():
        np.testing.assert_array_equal(values, expected[name])
