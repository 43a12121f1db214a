import numpy as np
import pytest
from pretraining_samples import QUIET, noise_samples, small_samples

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.phantomnet import EVIDENCE
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.training.pretraining import samples as samples_module
from hemorrhage_tf.training.pretraining.samples import SampleStore, draw_sample, to_rgb_float


@pytest.fixture(scope="module")
def samples():
    return small_samples()


class TestDrawSample:
    def test_maps_lie_where_the_blood_is(self, samples):
        for index in range(len(samples)):
            blood = np.unpackbits(samples.pointable[index], axis=-1)
            cells = blood.reshape(24, 8, 24, 8).mean(axis=(1, 3))
            any_map = samples.maps[index, :, :, EVIDENCE.index("any")] / 255
            # A cell counts as covered from a third on.
            np.testing.assert_allclose(any_map, np.minimum(cells * 3, 1), atol=0.45)
            assert np.abs(any_map - np.minimum(cells * 3, 1)).mean() < 0.03

    def test_labels_subtypes_and_maps_agree(self, samples):
        assert samples.labels.tolist() == (samples.blood > 0).astype(int).tolist()
        assert 0 < samples.labels.mean() < 1
        for bit, name in enumerate(SUBTYPES):
            covered = samples.maps[..., EVIDENCE.index(name)].any(axis=(1, 2))
            assert (covered <= (samples.blood >> bit & 1).astype(bool)).all()

    def test_the_same_seed_and_index_give_the_same_bytes(self):
        first, second = draw_sample(3, 5), draw_sample(3, 5)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
        assert first["images"].tobytes() != draw_sample(3, 6)["images"].tobytes()


def drawn(folder, seed, count):
    """Return samples of a store, and the stages that it reports."""
    progress = Progress(quiet=True)
    return SampleStore(folder, 1, progress).samples(seed, count), list(progress.seconds)


class TestSampleStore:
    def test_samples_are_drawn_once_and_rounded_up_to_whole_shards(self, tmp_path, monkeypatch):
        monkeypatch.setattr(samples_module, "SHARD_SIZE", 3)
        results = [drawn(tmp_path, 1, count) for count in (2, 4, 6)]
        assert [len(samples) for samples, _ in results] == [3, 6, 6]
        assert [names for _, names in results] == [["Drawing phantoms"], ["Drawing phantoms"], []]
        expected = draw_sample(1, 4)
        np.testing.assert_array_equal(results[-1][0].images[4], expected["images"])

    @pytest.mark.slow
    def test_several_processes_draw_the_same(self, tmp_path):
        two = SampleStore(tmp_path / "two", 2, QUIET).samples(0, 501)  # two shards of 500
        one = SampleStore(tmp_path / "one", 1, QUIET).samples(0, 500)
        assert len(two) == 1000
        np.testing.assert_array_equal(two.images[:500], one.images)


def test_the_kind_of_a_sample_is_its_mimic_or_first_subtype():
    samples = noise_samples(5, 32)
    samples.maps[..., EVIDENCE.index("mimic")] = 0
    samples.maps[[1, 3], 2, 1, EVIDENCE.index("mimic")] = 255
    samples.blood[:] = [0, 0, 0b00001, 0b10000, 0b01010]  # one bit for each subtype
    assert samples.kinds.tolist() == [0, 1, 2, 6, 3]


def test_gray_images_become_rgb():
    gray = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    rgb = to_rgb_float(gray)
    assert rgb.shape == (2, 2, 2, 3) and rgb.dtype == np.float32
    assert (rgb == gray[..., np.newaxis]).all()
