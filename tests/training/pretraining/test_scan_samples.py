import numpy as np
import pytest

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.draw_scan import draw_phantom_scan
from hemorrhage_tf.training.pretraining import scan_samples as scan_samples_module
from hemorrhage_tf.training.pretraining.samples import gray_model_input
from hemorrhage_tf.training.pretraining.scan_samples import (
    ScanFeatures,
    ScanFeatureStore,
    draw_scan_samples,
)


@pytest.fixture(autouse=True)
def short_scans(monkeypatch):
    """Draw few small slices."""
    monkeypatch.setattr(scan_samples_module, "FEWEST_SLICES", 9)
    monkeypatch.setattr(scan_samples_module, "MOST_SLICES", 14)
    monkeypatch.setattr(scan_samples_module, "DRAWN_SIZE", 64)
    monkeypatch.setattr(scan_samples_module, "SHARD_SIZE", 2)


def mean_gray(images):
    return images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


def store(folder, compute=mean_gray, workers=1):
    return ScanFeatureStore(folder, compute, "0123456789", workers, Progress(quiet=True))


class TestDrawScanSamples:
    def test_every_head_gives_a_normal_and_a_bleeding_scan(self):
        drawn = draw_scan_samples(1, range(2))
        assert np.unique(drawn["scans"]).tolist() == [0, 1, 2, 3]
        for scan in range(4):
            own = drawn["scans"] == scan
            assert drawn["labels"][own].any() == bool(scan % 2)
            assert (np.diff(drawn["positions"][own]) > 0).all()
            assert len(np.unique(drawn["display"][own])) == 1
        for head in (0, 2):
            normal, bleeding = (drawn["scans"] == scan for scan in (head, head + 1))
            shared = drawn["rows"][normal] == drawn["rows"][bleeding]
            assert (drawn["labels"][bleeding] <= ~shared).all()
            assert 0 < (~shared).sum() < len(shared)
        assert sorted(np.unique(drawn["rows"])) == list(range(len(drawn["images"])))

    def test_slices_in_hounsfield_units_are_those_of_the_phantom_scan(self, monkeypatch):
        monkeypatch.setattr(scan_samples_module, "HOUNSFIELD_SHARE", 1.0)
        drawn = draw_scan_samples(1, range(3, 4))
        positions = drawn["positions"][drawn["scans"] == 7]
        apart = round(float(positions[1] - positions[0]), 9)
        scan = draw_phantom_scan(1, 3, 1, size=64, thickness=apart, count=len(positions))
        expected = np.stack([gray_model_input(phantom.hounsfield) for phantom in scan])
        found = drawn["images"][drawn["rows"][drawn["scans"] == 7]]
        # A distance of positions is the thickness except for rounding.
        assert np.abs(found.astype(int) - expected).mean() < 0.05
        assert [phantom.label for phantom in scan] == drawn["labels"][drawn["scans"] == 7].tolist()


class TestScanFeatureStore:
    def test_features_are_computed_once(self, tmp_path):
        calls = []

        def compute(images):
            calls.append(len(images))
            return mean_gray(images)

        for count in (1, 4, 3):
            scans = store(tmp_path, compute).scans(2, count)
        assert len(calls) == 2  # shards of two scans
        assert len(scans.members) == 4 and scans.scan_labels.tolist() == [0, 1, 0, 1]
        drawn = draw_scan_samples(2, range(1))
        first = scans.features[: len(drawn["rows"])]
        np.testing.assert_array_equal(first, mean_gray(drawn["images"])[drawn["rows"]])

    def test_other_weights_have_other_features(self, tmp_path):
        store(tmp_path).scans(2, 1)
        other = ScanFeatureStore(tmp_path, mean_gray, "abcdefghij", 1, Progress(quiet=True))
        other.scans(2, 1)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.slow
    def test_several_processes_draw_the_same(self, tmp_path, monkeypatch):
        monkeypatch.undo()  # other processes draw scans of the usual lengths
        monkeypatch.setattr(scan_samples_module, "SHARD_SIZE", 2)
        two = store(tmp_path / "two", workers=2).scans(4, 4)
        one = store(tmp_path / "one").scans(4, 4)
        assert one.features.tobytes() == two.features.tobytes()


def test_members_are_the_slices_of_each_scan():
    scans = np.array([4, 4, 5, 5, 5])
    features = ScanFeatures(
        features=np.zeros((5, 2), np.float32),
        positions=np.arange(5.0),
        labels=np.array([0, 0, 0, 1, 0], np.uint8),
        scans=scans,
        display=np.zeros(5, bool),
    )
    assert [members.tolist() for members in features.members] == [[0, 1], [2, 3, 4]]
    assert features.scan_labels.tolist() == [0, 1]
