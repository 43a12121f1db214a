import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label as connected_parts
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.data.manifest import read_manifest
from hemorrhage_tf.data.phantoms import SIZE, draw_phantom, phantom_set


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestDrawPhantom:
    def test_shape_and_type(self):
        pixels = draw_phantom(0, 0, 1)
        assert pixels.shape == (SIZE, SIZE)
        assert pixels.dtype == np.uint8

    @pytest.mark.parametrize("label", [0, 1])
    def test_same_arguments_same_bytes(self, label):
        np.testing.assert_array_equal(draw_phantom(5, 3, label), draw_phantom(5, 3, label))

    def test_seed_index_and_label_each_change_it(self):
        drawn = [draw_phantom(*each) for each in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
        assert len({pixels.tobytes() for pixels in drawn}) == 4

    @pytest.mark.parametrize("index", range(8))
    def test_hemorrhage_is_one_bright_blob_and_nothing_else_changes(self, index):
        with_blood, without = (draw_phantom(2, index, label).astype(int) for label in (1, 0))
        difference = with_blood - without
        _, parts = connected_parts(difference > 40)
        assert parts == 1
        blob = difference > 40
        assert 100 < blob.sum() < SIZE * SIZE / 8
        assert with_blood[blob].mean() > without[blob].mean() + 50
        assert with_blood[blob].mean() > 140
        rows, columns = np.nonzero(blob)
        around = np.zeros_like(blob)
        around[rows.min() - 6 : rows.max() + 7, columns.min() - 6 : columns.max() + 7] = True
        assert not difference[~around].any()

    def test_brightness_alone_does_not_tell_the_label(self):
        labels = np.arange(120) % 2
        drawn = np.stack([draw_phantom(4, index, label) for index, label in enumerate(labels)])
        for figure in (drawn.mean(axis=(1, 2)), drawn.max(axis=(1, 2))):
            assert 0.35 < roc_auc_score(labels, figure) < 0.75


class TestPhantomSet:
    def test_half_have_a_hemorrhage_and_the_manifest_says_which(self, tmp_path):
        folder = phantom_set(tmp_path, 10, seed=3)
        manifest = read_manifest(folder)
        assert manifest.problems == ()
        assert len(manifest) == 10
        assert manifest.labels.sum() == 5
        for index, record in enumerate(manifest.records):
            with Image.open(record.path) as image:
                np.testing.assert_array_equal(
                    np.asarray(image), draw_phantom(3, index, record.label)
                )

    def test_same_seed_same_bytes_in_another_place(self, tmp_path):
        first = contents(phantom_set(tmp_path / "a", 4, seed=0))
        assert first == contents(phantom_set(tmp_path / "b" / "c", 4, seed=0))
        assert len(first) == 5

    def test_drawn_once(self, tmp_path):
        folder = phantom_set(tmp_path, 4, seed=0)
        times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert phantom_set(tmp_path, 4, seed=0) == folder
        assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times

    def test_seeds_and_counts_lie_beside_each_other(self, tmp_path):
        folders = {phantom_set(tmp_path, count, seed) for count, seed in ((2, 0), (4, 0), (2, 1))}
        assert len(folders) == 3
        assert set(tmp_path.iterdir()) == folders

    def test_failure_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise OSError("No space left on device")

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            phantom_set(tmp_path, 2, seed=0)
        assert list(tmp_path.iterdir()) == []

    def test_set_drawn_meanwhile_by_another_process_is_used(self, tmp_path, monkeypatch):
        import os

        rename = os.rename

        def late(source, target):
            phantom = next(source.glob("*.png"))
            target.mkdir()
            rename(phantom, target / "theirs.png")
            raise FileExistsError(target)

        monkeypatch.setattr(os, "rename", late)
        folder = phantom_set(tmp_path, 2, seed=0)
        assert [path.name for path in folder.iterdir()] == ["theirs.png"]
        assert list(tmp_path.iterdir()) == [folder]
