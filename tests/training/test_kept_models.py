"""Classifiers written from those that earlier fits kept, against Keras' own files."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from hemorrhage_tf.models.backbone_options import parse_backbone_options
from hemorrhage_tf.models.backbones import BackboneFacts, build_backbone
from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head
from hemorrhage_tf.synthesis.phantom_sets import PhantomSet, write_phantoms
from hemorrhage_tf.training.features.source import backbone_facts
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.kept_models import (
    MOST_CLASSIFIERS,
    KeptModels,
    classifier_key,
)

(OPTIONS,) = parse_backbone_options("tiny", image_size=16)


def draw_head(seed: int, width: int, outputs: int = 1) -> HeadWeights:
    rng = np.random.default_rng(seed)
    return HeadWeights(
        mean=rng.normal(size=width).astype(np.float32),
        variance=rng.uniform(1, 2, width).astype(np.float32),
        kernel=rng.normal(size=(width, outputs)).astype(np.float32),
        bias=rng.normal(size=outputs).astype(np.float32),
    )


@pytest.fixture(scope="module", params=[("tiny", 1), ("tiny", 6), ("tiny+phantomnet", 1)], ids=str)
def saved(request, tmp_path_factory):
    """Return two heads, and the file that Keras saves of the classifier with each."""
    names, outputs = request.param
    branches = [
        Branch(each.spec, build_backbone(each.spec.name, each.weights, 32))
        for each in parse_backbone_options(names, image_size=32)
    ]
    classifier = build_classifier(branches, "avg_max", subtypes=outputs - 1)
    width = classifier.get_layer("standardization").input.shape[-1]
    folder = tmp_path_factory.mktemp("saved")
    heads, paths = [], []
    for seed in range(2):
        head = draw_head(seed, width, outputs)
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        paths.append(folder / f"{seed}.keras")
        classifier.save(paths[-1])
        heads.append(head)
    return heads, paths


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


class TestWriteClassifier:
    def test_writes_the_bytes_that_keras_writes(self, saved, tmp_path):
        heads, paths = saved
        kept = KeptModels(tmp_path)
        kept.keep_classifier("key", paths[0], heads[0])
        assert kept.write_classifier("key", tmp_path / "written.keras", heads[1])
        written, expected = members(tmp_path / "written.keras"), members(paths[1])
        assert list(written) == list(expected)
        assert written["model.weights.h5"] == expected["model.weights.h5"]
        keys = [json.loads(each["metadata.json"]).keys() for each in (written, expected)]
        assert keys[0] == keys[1]

    def test_the_file_loads_in_safe_mode(self, saved, tmp_path):
        import keras

        heads, paths = saved
        kept = KeptModels(tmp_path)
        kept.keep_classifier("key", paths[0], heads[0])
        kept.write_classifier("key", tmp_path / "written.keras", heads[1])
        models = [
            keras.saving.load_model(path, safe_mode=True)
            for path in (tmp_path / "written.keras", paths[1])
        ]
        image = np.random.default_rng(0).uniform(0, 255, (2, *models[0].input.shape[1:]))
        outputs = [model.predict(image, verbose=0) for model in models]
        for one, other in zip(*map(_arrays, outputs), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_nothing_is_written_without_a_kept_one(self, tmp_path):
        for kept in (KeptModels(tmp_path), KeptModels(None)):
            assert not kept.write_classifier("key", tmp_path / "x.keras", draw_head(0, 4))
        assert not (tmp_path / "x.keras").exists()

    @pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "check.json"])
    @pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
    def test_a_damaged_one_is_removed(self, saved, tmp_path, name, damage):
        heads, paths = saved
        kept = KeptModels(tmp_path)
        kept.keep_classifier("key", paths[0], heads[0])
        path = tmp_path / "models" / "key" / name
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
        elif damage == "truncated":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.unlink()
        assert not kept.write_classifier("key", tmp_path / "x.keras", heads[1])
        assert not path.parent.exists() and not (tmp_path / "x.keras").exists()

    def test_a_head_of_another_shape_is_refused(self, saved, tmp_path):
        heads, paths = saved
        kept = KeptModels(tmp_path)
        kept.keep_classifier("key", paths[0], heads[0])
        assert not kept.write_classifier("key", tmp_path / "x.keras", draw_head(0, 5))

    def test_a_file_that_holds_another_head_is_not_kept(self, saved, tmp_path):
        heads, paths = saved
        KeptModels(tmp_path).keep_classifier("key", paths[0], heads[1])
        assert not (tmp_path / "models" / "key").exists()

    def test_the_last_used_are_kept(self, saved, tmp_path):
        heads, paths = saved
        kept = KeptModels(tmp_path)
        for number in range(MOST_CLASSIFIERS + 2):
            kept.keep_classifier(f"key {number}", paths[0], heads[0])
        names = {path.name for path in (tmp_path / "models").iterdir()}
        assert names == {f"key {number}" for number in range(2, MOST_CLASSIFIERS + 2)}


def _arrays(outputs) -> list[np.ndarray]:
    return [outputs[name] for name in sorted(outputs)] if isinstance(outputs, dict) else [outputs]


class TestFacts:
    def test_are_those_that_were_kept(self, tmp_path):
        facts = backbone_facts(build_backbone("tiny", "none", 16))
        assert (facts.image_size, facts.channels) == (16, 64)
        kept = KeptModels(tmp_path)
        assert kept.facts(OPTIONS, 0) is None
        kept.keep_facts(OPTIONS, 0, facts)
        assert KeptModels(tmp_path).facts(OPTIONS, 0) == facts

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"weights_hash": 3, "image_size": 16, "channels": 64}', "\x00"]
    )
    def test_damaged_ones_are_ignored(self, tmp_path, text):
        kept = KeptModels(tmp_path)
        kept.keep_facts(OPTIONS, 0, BackboneFacts("abc", 16, 64))
        [path] = (tmp_path / "models").iterdir()
        path.write_text(text)
        assert kept.facts(OPTIONS, 0) is None

    def test_belong_to_all_that_decides_the_weights(self, tmp_path):
        weights = tmp_path / "a.weights.h5"
        weights.write_bytes(b"one")
        file = replace(OPTIONS, weights=str(weights))
        keys = [
            classifier_key([(options, seed)], pooling="avg")
            for options, seed in (
                (OPTIONS, 0),
                (OPTIONS, 1),
                (replace(OPTIONS, image_size=32), 0),
                (replace(OPTIONS, feature_layer="block2_out"), 0),
                (file, 0),
            )
        ]
        keys += [classifier_key([(OPTIONS, 0)] * 2, pooling="avg")]
        keys += [classifier_key([(OPTIONS, 0)], pooling="max")]
        assert len(set(keys)) == len(keys)
        # Weights from a file do not depend on the seed, nor on its name.
        copied = tmp_path / "b.weights.h5"
        copied.write_bytes(b"one")
        same = classifier_key([(replace(file, weights=str(copied)), 3)], pooling="avg")
        assert same == keys[4]
        copied.write_bytes(b"another")
        changed = classifier_key([(replace(file, weights=str(copied)), 3)], pooling="avg")
        assert changed != keys[4]


@pytest.mark.slow
def test_a_fit_on_cached_features_imports_no_tensorflow_and_writes_the_same_weights(tmp_path):
    script = (
        "import sys\n"
        "import hemorrhage_tf as htf\n"
        "data, out, cache = sys.argv[1:]\n"
        "htf.fit(data, backbone='tiny', image_size=32, views=2, folds=2, out=out, cache=cache)\n"
        "print('tensorflow' in sys.modules)\n"
    )
    data = write_phantoms(tmp_path / "data", PhantomSet(24, size=64))
    imported = []
    for number in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, data, tmp_path / f"run {number}", tmp_path / "cache"],
            capture_output=True,
            text=True,
            check=True,
        )
        imported.append(done.stdout.strip())
    assert imported == ["True", "False"]
    first, second = (tmp_path / f"run {number}" for number in range(2))
    for name in ("metrics.json", "predictions.csv", "history.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    weights = [members(run / "model.keras")["model.weights.h5"] for run in (first, second)]
    assert weights[0] == weights[1]
