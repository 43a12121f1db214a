from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recorder
from PIL import Image

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.readers import content_hash, read_slice
from hemorrhage_tf.models.backbone_options import parse_backbone_options
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
from hemorrhage_tf.pipeline import model_input as model_input_module
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features.cache_location import CACHE_VARIABLE
from hemorrhage_tf.training.features.extraction import (
    BATCH_SIZE,
    FeatureSource,
    build_source,
    compute_features,
)
from hemorrhage_tf.training.features.extraction import extraction as features_module

SIZE = 16
INPUT = ModelInput(SIZE)
MORE_THAN_A_BATCH = BATCH_SIZE + 8


class Recorder(recorder.Recorder):
    """Also keeps how many views were computed each time."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[int] = []

    @contextmanager
    def progress(self, description, total):
        self.computed.append(total)
        yield lambda steps: None


def make_source(seed: int = 0, layer: str | None = None, policy: str = "float32") -> FeatureSource:
    backbone = build_backbone("tiny", "none", SIZE, layer, seed)
    spec = backbone_spec("tiny")
    return FeatureSource(spec, backbone, weights_hash(backbone), layer, INPUT, policy)


@pytest.fixture(scope="module")
def source() -> FeatureSource:
    return make_source()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Pictures of noise, of different sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(MORE_THAN_A_BATCH)]
    for index, path in enumerate(paths):
        pixels = rng.integers(0, 256, (20 + index % 5, 18), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def compute(source, paths, cache_at, views=(0,), progress=None, names=("noise",)):
    found = compute_features(
        source,
        paths,
        [content_hash(read_slice(path)) for path in paths],
        [list(views)] * len(paths),
        Augmentation(names, 0),
        SINGLE,
        progress or Progress(quiet=True),
        cache_at,
    )
    return list(found)


def fail(*arguments):
    raise AssertionError("features were computed that are in the cache")


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 255  # among the rows, which are most of the file
    path.write_bytes(content)


def replaced_by_text(path: Path) -> None:
    path.write_text("not an archive\n")


class TestComputeFeatures:
    def test_are_the_pooled_backbone_output(self, source, pictures):
        found = compute(source, pictures[:3], None)
        for path, features in zip(pictures, found, strict=False):
            image = INPUT(read_slice(path))
            feature_map = source.backbone(image[np.newaxis] / 127.5 - 1).numpy()[0]
            expected = np.concatenate([feature_map.mean(axis=(0, 1)), feature_map.max(axis=(0, 1))])
            assert features.shape == (1, source.width) and features.dtype == np.float32
            np.testing.assert_allclose(features[0], expected, rtol=1e-3, atol=1e-4)

    def test_of_a_backbone_of_another_size_are_of_resized_pictures(self, source, pictures):
        import tensorflow as tf

        model_input = ModelInput(2 * SIZE)
        found = compute(replace(source, model_input=model_input), pictures[:3], None)
        for path, features in zip(pictures, found, strict=False):
            image = tf.image.resize(model_input(read_slice(path)), (SIZE, SIZE))
            feature_map = source.backbone(image[np.newaxis] / 127.5 - 1).numpy()[0]
            expected = np.concatenate([feature_map.mean(axis=(0, 1)), feature_map.max(axis=(0, 1))])
            np.testing.assert_allclose(features[0], expected, rtol=1e-3, atol=1e-4)

    def test_cached_equal_uncached_and_nothing_is_computed_twice(
        self, source, pictures, cache, monkeypatch
    ):
        paths = pictures[:5]
        uncached = compute(source, paths, None, (0, 1, 2))
        first = compute(source, paths, cache, (0, 1, 2))
        monkeypatch.setattr(FeatureSource, "forward", fail)
        second = compute(source, paths[::-1], cache, (2, 0))[::-1]
        for a, b, c in zip(uncached, first, second, strict=True):
            assert len({row.tobytes() for row in a}) == 3  # the views differ
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a[[2, 0]], c)

    def test_do_not_depend_on_what_else_is_missing(self, source, pictures):
        alone = compute(source, pictures[7:10], None)
        among = compute(source, pictures, None)[7:10]
        np.testing.assert_array_equal(alone, among)

    @pytest.mark.parametrize("damage", [truncated, flipped, replaced_by_text])
    def test_a_damaged_shard_is_computed_again(self, source, pictures, cache, damage):
        expected = compute(source, pictures[:3], cache)
        [path] = shards(cache)
        damage(path)
        progress = Recorder()
        found = compute(source, pictures[:3], cache, progress=progress)
        np.testing.assert_array_equal(found, expected)
        assert len(progress.warnings) == 1 and "damaged" in progress.warnings[0]
        assert progress.computed == [3]
        assert len(shards(cache)) == 1 and path not in shards(cache)

    def test_a_cache_that_cannot_be_written_is_told_once(
        self, source, pictures, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(features_module, "_FLUSH_SECONDS", -1.0)  # a shard for each batch
        blocked = tmp_path / "file"
        blocked.touch()
        progress = Recorder()
        found = compute(source, pictures, blocked, progress=progress)
        np.testing.assert_array_equal(found, compute(source, pictures, None))
        assert len(progress.warnings) == 1
        assert "cannot be written" in progress.warnings[0]
        assert "--cache" in progress.warnings[0] and CACHE_VARIABLE in progress.warnings[0]

    def test_a_picture_that_occurs_twice_is_computed_once(self, source, pictures, tmp_path):
        copies = []
        for index in range(MORE_THAN_A_BATCH):
            # The same pixels in another mode and under another name.
            copies.append(tmp_path / f"{index}.png")
            Image.open(pictures[0]).convert("RGB" if index % 2 else "L").save(copies[-1])
        progress = Recorder()
        found = compute(source, [*copies, pictures[1]], None, (0, 1), progress)
        assert progress.computed == [4]
        assert len({features.tobytes() for features in found}) == 2

    def test_views_are_one_without_augmentation(self, source, pictures, cache):
        progress = Recorder()
        found = compute(source, pictures[:2], cache, (0, 1, 2), progress, names=())
        assert progress.computed == [2]
        assert all(len({row.tobytes() for row in features}) == 1 for features in found)

    def test_only_what_is_missing_is_computed(self, source, pictures, cache):
        compute(source, pictures[:4], cache, (0,))
        progress = Recorder()
        compute(source, pictures[:6], cache, (0, 1), progress)
        assert progress.computed == [4 + 2 * 2]

    def test_different_numbers_of_views(self, source, pictures):
        hashes = [content_hash(read_slice(path)) for path in pictures[:3]]
        found = compute_features(
            source,
            pictures[:3],
            hashes,
            [[], [0], [2, 0, 1]],
            Augmentation(("noise",), 0),
            SINGLE,
            Progress(quiet=True),
            None,
        )
        assert [features.shape for features in found] == [(n, source.width) for n in (0, 1, 3)]

    def test_what_was_computed_before_an_exception_is_kept(
        self, source, pictures, cache, monkeypatch
    ):
        original = FeatureSource.forward

        def forward(self, strategy):
            compute_batch, done = original(self, strategy), []

            def once(images):
                if done:
                    raise KeyboardInterrupt
                done.append(1)
                return compute_batch(images)

            return once

        with monkeypatch.context() as patch:
            patch.setattr(FeatureSource, "forward", forward)
            with pytest.raises(KeyboardInterrupt):
                compute(source, pictures, cache)
        progress = Recorder()
        found = compute(source, pictures, cache, progress=progress)
        assert progress.computed == [MORE_THAN_A_BATCH - BATCH_SIZE]
        assert not progress.warnings
        np.testing.assert_array_equal(found, compute(source, pictures, None))


class TestFingerprint:
    def test_is_that_of_an_equal_source(self, source):
        assert make_source().fingerprint == source.fingerprint
        # Without a window, and with the default one, the same pixels come out.
        named = replace(source, model_input=ModelInput(SIZE, ("brain",)))
        assert named.fingerprint == source.fingerprint

    INPUTS = (
        ModelInput(SIZE, ("subdural",)),
        ModelInput(SIZE, ("brain", "subdural", "bone")),
        ModelInput(SIZE, crop_head=False),
        ModelInput(SIZE, upright=True),
    )

    def test_changes_with_all_that_decides_the_values(self, source):
        backbone = build_backbone("tiny", "none", 32)
        others = [
            make_source(seed=1),
            make_source(layer="block2_out"),
            make_source(policy="mixed_bfloat16"),
            replace(source, backbone=backbone, model_input=ModelInput(32)),
            *(replace(source, model_input=each) for each in self.INPUTS),
            replace(source, spec=replace(source.spec, normalization="torch")),
            replace(source, spec=backbone_spec("mobilenet_v2")),
        ]
        assert len({each.fingerprint for each in [source, *others]}) == 1 + len(others)

    def test_changes_with_the_version_of_the_model_input(self, source, monkeypatch):
        before = source.fingerprint
        monkeypatch.setattr(model_input_module, "VERSION", -1)
        assert source.fingerprint != before

    def test_is_that_of_the_backbone_alone_unless_pictures_are_resized_for_it(self, source):
        larger = replace(source, model_input=ModelInput(2 * SIZE))
        alone = build_source(
            parse_backbone_options("tiny", image_size=2 * SIZE)[0], ModelInput(2 * SIZE), 0
        )
        both = parse_backbone_options("tiny+phantomnet", "none", image_size=2 * SIZE)
        among = build_source(both[0], ModelInput(2 * SIZE), 0)
        assert among.fingerprint == alone.fingerprint
        assert len({each.fingerprint for each in (source, larger, alone)}) == 3

    def test_width_is_that_of_both_poolings(self, source):
        assert source.width == 128
        assert make_source(layer="block2_out").width == 64
