from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recorder
from built_sources import source_of
from PIL import Image

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.readers import content_hash, read_slice
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features import extraction
from hemorrhage_tf.training.features.cache_location import CACHE_VARIABLE
from hemorrhage_tf.training.features.extraction import BATCH_SIZE, SliceViews, compute_features
from hemorrhage_tf.training.features.source import FeatureSource

SIZE = 16
INPUT = ModelInput(SIZE)
MORE_THAN_A_BATCH = BATCH_SIZE + 8


class Recorder(recorder.Recorder):
    """Also records how many views were computed each time."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[int] = []

    @contextmanager
    def track(self, description, total):
        self.computed.append(total)
        yield lambda steps: None


@pytest.fixture(scope="module")
def source() -> FeatureSource:
    backbone = build_backbone("tiny", "none", SIZE, None, 0)
    spec = backbone_spec("tiny")
    return source_of(spec, backbone, None, INPUT)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    """Images of noise, of different sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(MORE_THAN_A_BATCH)]
    for index, path in enumerate(paths):
        pixels = rng.integers(0, 256, (20 + index % 5, 18), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def slice_views(paths, views, names=("noise",)) -> SliceViews:
    hashes = [content_hash(read_slice(path)) for path in paths]
    return SliceViews(paths, hashes, views, Augmentation(names, 0))


def compute(source, paths, cache_folder, views=(0,), progress=None, names=("noise",)):
    requested = slice_views(paths, [list(views)] * len(paths), names)
    progress = progress or Progress(quiet=True)
    return list(compute_features(source, requested, SINGLE, progress, cache_folder))


@pytest.fixture(scope="module")
def features(source, paths) -> np.ndarray:
    """The features of all images, computed together without a cache."""
    return np.stack(compute(source, paths, None))


@pytest.fixture(scope="module")
def cached(source, paths, tmp_path_factory) -> Path:
    """A cache with the features of the first three images; tests must not change it."""
    folder = tmp_path_factory.mktemp("cached")
    compute(source, paths[:3], folder)
    return folder


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
    def test_features_are_the_pooled_backbone_output(self, source, paths, features):
        for path, rows in zip(paths[:3], features, strict=False):
            image = INPUT(read_slice(path))
            feature_map = source.backbone(image[np.newaxis] / 127.5 - 1).numpy()[0]
            expected = np.concatenate([feature_map.mean(axis=(0, 1)), feature_map.max(axis=(0, 1))])
            assert rows.shape == (1, source.width) and rows.dtype == np.float32
            np.testing.assert_allclose(rows[0], expected, rtol=1e-3, atol=1e-4)

    def test_resizes_images_to_the_input_size_of_the_backbone(self, source, paths):
        import tensorflow as tf

        model_input = ModelInput(2 * SIZE)
        features = compute(replace(source, model_input=model_input), paths[:3], None)
        for path, rows in zip(paths, features, strict=False):
            image = tf.image.resize(model_input(read_slice(path)), (SIZE, SIZE))
            feature_map = source.backbone(image[np.newaxis] / 127.5 - 1).numpy()[0]
            expected = np.concatenate([feature_map.mean(axis=(0, 1)), feature_map.max(axis=(0, 1))])
            np.testing.assert_allclose(rows[0], expected, rtol=1e-3, atol=1e-4)

    def test_cached_features_equal_uncached_ones_and_are_not_computed_again(
        self, source, paths, cache, monkeypatch
    ):
        paths = paths[:5]
        uncached = compute(source, paths, None, (0, 1, 2))
        first = compute(source, paths, cache, (0, 1, 2))
        monkeypatch.setattr(FeatureSource, "forward", fail)
        second = compute(source, paths[::-1], cache, (2, 0))[::-1]
        for a, b, c in zip(uncached, first, second, strict=True):
            assert len({row.tobytes() for row in a}) == 3  # the views differ
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a[[2, 0]], c)

    def test_features_do_not_depend_on_the_others_in_the_batch(self, source, paths, features):
        alone = compute(source, paths[7:10], None)
        np.testing.assert_array_equal(alone, features[7:10])

    @pytest.mark.parametrize("damage", [truncated, flipped, replaced_by_text])
    def test_computes_a_damaged_shard_again(self, source, paths, cached, cache, features, damage):
        shutil.copytree(cached, cache, dirs_exist_ok=True)
        [path] = shards(cache)
        damage(path)
        progress = Recorder()
        again = compute(source, paths[:3], cache, progress=progress)
        np.testing.assert_array_equal(again, features[:3])
        assert len(progress.warnings) == 1 and "damaged" in progress.warnings[0]
        assert progress.computed == [3]
        assert len(shards(cache)) == 1 and path not in shards(cache)

    def test_warns_once_if_the_cache_cannot_be_written(
        self, source, paths, features, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(extraction, "FLUSH_SECONDS", -1.0)  # a shard for each batch
        blocked = tmp_path / "file"
        blocked.touch()
        progress = Recorder()
        np.testing.assert_array_equal(compute(source, paths, blocked, progress=progress), features)
        assert len(progress.warnings) == 1
        assert "cannot be written" in progress.warnings[0]
        assert "--cache" in progress.warnings[0] and CACHE_VARIABLE in progress.warnings[0]

    def test_computes_equal_images_once(self, source, paths, tmp_path):
        copies = []
        for index in range(MORE_THAN_A_BATCH):
            # The same pixels in another mode and under another name.
            copies.append(tmp_path / f"{index}.png")
            Image.open(paths[0]).convert("RGB" if index % 2 else "L").save(copies[-1])
        progress = Recorder()
        features = compute(source, [*copies, paths[1]], None, (0, 1), progress)
        assert progress.computed == [4]
        assert len({rows.tobytes() for rows in features}) == 2

    def test_computes_one_view_without_augmentation(self, source, paths, cache):
        progress = Recorder()
        features = compute(source, paths[:2], cache, (0, 1, 2), progress, names=())
        assert progress.computed == [2]
        assert all(len({row.tobytes() for row in rows}) == 1 for rows in features)

    def test_computes_only_missing_features(self, source, paths, cached, cache):
        shutil.copytree(cached, cache, dirs_exist_ok=True)
        progress = Recorder()
        compute(source, paths[:5], cache, (0, 1), progress)
        assert progress.computed == [3 + 2 * 2]

    def test_slices_may_differ_in_their_number_of_views(self, source, paths):
        requested = slice_views(paths[:3], [[], [0], [2, 0, 1]])
        features = compute_features(source, requested, SINGLE, Progress(quiet=True), None)
        assert [rows.shape for rows in features] == [(n, source.width) for n in (0, 1, 3)]

    def test_stores_features_that_were_computed_before_an_exception(
        self, source, paths, features, cache, monkeypatch
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
                compute(source, paths, cache)
        progress = Recorder()
        again = compute(source, paths, cache, progress=progress)
        assert progress.computed == [MORE_THAN_A_BATCH - BATCH_SIZE]
        assert not progress.warnings
        np.testing.assert_array_equal(again, features)
