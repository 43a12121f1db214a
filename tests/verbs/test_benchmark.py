from __future__ import annotations

import pytest

import hemorrhage_tf as htf


@pytest.mark.parametrize("images", ["slice.png", ["slice.png"]])
def test_a_single_model_and_a_single_image_are_lists_of_one(monkeypatch, images):
    calls = []

    def measure(models, **options):
        calls.append((models, options["images"], options["threads"]))
        return []

    monkeypatch.setattr("hemorrhage_tf.verbs.benchmark.measure", measure)
    assert htf.benchmark("phantomnet", images=images, threads=2, quiet=True) == []
    assert htf.benchmark(["a", "b"], quiet=True) == []
    assert calls == [(["phantomnet"], ["slice.png"], 2), (["a", "b"], None, 1)]
