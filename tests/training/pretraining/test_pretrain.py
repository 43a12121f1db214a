import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.phantomnet import EVIDENCE
from hemorrhage_tf.synthesis import SUBTYPES
from hemorrhage_tf.training.pretraining import pretrain, samples
from hemorrhage_tf.training.pretraining.pretrain import PretrainingSettings
from hemorrhage_tf.training.pretraining.samples import (
    Samples,
    ScanSamples,
    draw_sample,
    draw_samples,
    draw_scan_samples,
)

QUIET = Progress(quiet=True)
SMALL = PretrainingSettings(
    count=12,
    epochs=3,
    hard_from=1,
    head_count=12,
    test_count=12,
    batch_size=4,
    warmup=1,
    specificity=0.5,
    scan_count=4,
    test_scan_count=4,
    scan_specificity=0.5,
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "SHARD", 6)
        return draw_in_one(tmp_path_factory.mktemp("drawn"), 0, 12)


def draw_in_one(folder, seed, count):
    """Draws without other processes, which would not see the small shards."""
    at = folder / f"samples-v{samples.GENERATOR_VERSION}-s{seed}"
    at.mkdir(parents=True, exist_ok=True)
    for number in range(-(-count // samples.SHARD)):
        samples._write_shard(at, seed, number)
    return draw_samples(folder, seed, count, 1, QUIET)


class TestSamples:
    def test_maps_lie_where_the_blood_is(self, drawn):
        for index in range(len(drawn)):
            blood = np.unpackbits(drawn.pointable[index], axis=-1)
            cells = blood.reshape(24, 8, 24, 8).mean(axis=(1, 3))
            any_map = drawn.maps[index, :, :, EVIDENCE.index("any")] / 255
            # A third of a cell counts as all of it.
            np.testing.assert_allclose(any_map, np.minimum(cells * 3, 1), atol=0.45)
            assert np.abs(any_map - np.minimum(cells * 3, 1)).mean() < 0.03

    def test_labels_and_subtypes_say_the_same(self, drawn):
        assert drawn.labels.tolist() == (drawn.blood > 0).astype(int).tolist()
        assert 0 < drawn.labels.mean() < 1
        for bit, name in enumerate(SUBTYPES):
            covered = drawn.maps[..., EVIDENCE.index(name)].any(axis=(1, 2))
            assert (covered <= (drawn.blood >> bit & 1).astype(bool)).all()

    def test_the_same_seed_and_index_give_the_same(self):
        first, second = draw_sample(3, 5), draw_sample(3, 5)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
        assert first["images"].tobytes() != draw_sample(3, 6)["images"].tobytes()

    def test_what_is_there_is_not_drawn_again(self, tmp_path, monkeypatch):
        draw_in_one(tmp_path, 1, 6)
        monkeypatch.setattr(samples, "drawing_processes", None)  # would fail if asked
        assert len(draw_samples(tmp_path, 1, 6, 2, QUIET)) == 6


class TestScanSamples:
    def test_slices_of_whole_scans_are_kept_and_not_drawn_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(samples, "SCAN_SHARD", 1)
        at = tmp_path / f"scans-v{samples.GENERATOR_VERSION}-s3"
        at.mkdir()
        for number in range(2):  # here, since other processes would not see the small shards
            samples._write_scan_shard(at, 3, number)
        monkeypatch.setattr(samples, "draw_phantom_scan", None)
        found = draw_scan_samples(tmp_path, 3, 2, 1, QUIET)
        assert found.images.shape == (len(found.scans), 192, 192)
        assert found.images.dtype == np.uint8
        assert np.unique(found.scans).tolist() == [0, 1]
        assert [bool(found.labels[found.scans == scan].any()) for scan in (0, 1)] == [False, True]


class TestOrderOfPass:
    def test_every_sample_comes_once_in_the_first_passes(self):
        settings, losses = replace(SMALL, hard_from=2), np.zeros(12, np.float32)
        first, second = (pretrain.order_of_pass(settings, epoch, losses) for epoch in (0, 1))
        assert sorted(first) == sorted(second) == list(range(12))
        assert first.tolist() != second.tolist()

    def test_later_every_second_one_is_of_the_hardest_quarter(self):
        losses = np.random.default_rng(0).random(40).astype(np.float32)
        settings = replace(SMALL, count=40, hard_from=1)
        order = pretrain.order_of_pass(settings, 1, losses)
        assert len(order) == 40
        hardest = set(np.argsort(losses)[-10:].tolist())
        others, again = order[::2].tolist(), order[1::2].tolist()
        assert sorted(again) == sorted([*hardest, *hardest])
        assert len(set(others)) == 20 and not set(others) <= hardest

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
    def test_any_count_gives_as_many(self, count):
        settings = replace(SMALL, count=count, hard_from=1)
        order = pretrain.order_of_pass(settings, 1, np.arange(count, dtype=np.float32))
        assert len(order) == count and set(order) <= set(range(count))


class TestTrain:
    def test_the_rate_rises_and_falls(self):
        settings = PretrainingSettings(count=3200, epochs=4, warmup=20)
        rate = pretrain.learning_rate(settings)
        found = np.array([float(rate(step)) for step in range(settings.steps)])
        assert settings.steps == 400
        assert found[20] == found.max() == pytest.approx(settings.learning_rate)
        assert found[10] == pytest.approx(settings.learning_rate / 2)
        # Half of the way down a cosine is at half of the height.
        assert found[20 + 190] == pytest.approx(settings.learning_rate / 2, rel=1e-3)
        assert found[399] < 1e-6

    def test_it_starts_from_given_weights(self, drawn, tmp_path):
        still = replace(SMALL, learning_rate=0.0, weight_decay=0.0)
        first = pretrain.train(lambda: drawn, still, _folder(tmp_path / "first"), QUIET)
        kernels = [weights for weights in first.get_weights() if weights.ndim == 4]
        given = tmp_path / "given.weights.h5"
        other = pretrain.build_trainee()[0]
        other.save_weights(given)
        expected = [weights for weights in other.get_weights() if weights.ndim == 4]
        started = pretrain.train(lambda: drawn, still, _folder(tmp_path / "second"), QUIET, given)
        found = [weights for weights in started.get_weights() if weights.ndim == 4]
        for one, another, unlike in zip(found, expected, kernels, strict=True):
            np.testing.assert_array_equal(one, another)
            assert (one != unlike).any()

    def test_a_stopped_training_ends_as_one_that_was_not(self, drawn, tmp_path, monkeypatch):
        whole = pretrain.train(lambda: drawn, SMALL, _folder(tmp_path / "whole"), QUIET)

        class Stop(Exception):
            pass

        batch_of, done = pretrain.batch_of, []

        def stopping(*arguments):
            if len(done) == 4:  # within a pass whose order depends on the losses
                raise Stop
            done.append(1)
            return batch_of(*arguments)

        folder = _folder(tmp_path / "stopped")
        with monkeypatch.context() as patch:
            patch.setattr(pretrain, "batch_of", stopping)
            patch.setattr(pretrain, "_CHECKPOINT_SECONDS", 0.0)
            with pytest.raises(Stop):
                pretrain.train(lambda: drawn, SMALL, folder, QUIET)
        with open(folder / "history.csv", "a", encoding="utf-8") as history:
            history.write("5,9.9,9.9,0.5\n")  # told, but killed before it was kept
        resumed = pretrain.train(lambda: drawn, SMALL, folder, QUIET)
        for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
        assert [row[0] for row in rows] == ["step", "1", "2", "3", "4", "6", "9"]
        assert all(0 <= float(row[3]) <= 1 and 0 < float(row[1]) < 9 for row in rows[1:])

    def test_what_is_trained_needs_no_phantoms(self, drawn, tmp_path):
        folder = _folder(tmp_path / "done")
        trained = pretrain.train(lambda: drawn, SMALL, folder, QUIET)

        def not_asked():
            raise AssertionError("the training is done")

        again = pretrain.train(not_asked, SMALL, folder, QUIET)
        for one, other in zip(trained.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_training_on_jax_goes_on_with_tensorflow(self, drawn, tmp_path):
        pytest.importorskip("jax")
        folder = _folder(tmp_path / "jax")
        np.savez(tmp_path / "drawn.npz", **vars(drawn))
        program = textwrap.dedent(
            """
            import sys
            from pathlib import Path
            import numpy as np
            from hemorrhage_tf.verb_progress import Progress
            from hemorrhage_tf.training.pretraining.samples import Samples
            from hemorrhage_tf.training.pretraining.pretrain import PretrainingSettings, train
            settings = PretrainingSettings(count=12, epochs=2, batch_size=4, warmup=1)
            drawn = Samples(**np.load(sys.argv[1]))
            backbone = train(lambda: drawn, settings, Path(sys.argv[2]), Progress(quiet=True))
            np.savez(sys.argv[3], *backbone.get_weights())
            """
        )
        arguments = [tmp_path / "drawn.npz", folder, tmp_path / "weights.npz"]
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        run = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        settings = PretrainingSettings(count=12, epochs=2, batch_size=4, warmup=1)
        backbone = pretrain.train(lambda: None, settings, folder, QUIET)
        with np.load(tmp_path / "weights.npz") as kept:
            for name, weights in zip(kept.files, backbone.get_weights(), strict=True):
                np.testing.assert_array_equal(kept[name], weights)

    def test_other_settings_are_another_training(self, tmp_path):
        first = pretrain._work_folder(tmp_path, SMALL)
        assert first == pretrain._work_folder(tmp_path, SMALL)
        assert first != pretrain._work_folder(tmp_path, PretrainingSettings())

    def test_other_phantoms_are_another_training(self, tmp_path, monkeypatch):
        first = pretrain._work_folder(tmp_path, SMALL)
        monkeypatch.setattr(pretrain, "GENERATOR_VERSION", samples.GENERATOR_VERSION + 1)
        assert first != pretrain._work_folder(tmp_path, SMALL)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--count", "20"], "--count 20, --batch-size 32, --epochs 5: less than a step"),
            (["--epochs", "0"], "0 is not in the range x>=1"),
            (["--batch-size", "-1"], "-1 is not in the range x>=1"),
        ],
    )
    def test_what_cannot_be_trained_is_refused_before_anything_is_drawn(
        self, tmp_path, arguments, message
    ):
        work = tmp_path / "work"
        result = CliRunner().invoke(pretrain.main, ["--work", str(work), *arguments])
        assert result.exit_code == 2 and message in " ".join(result.output.split())
        assert not work.exists()

    @pytest.mark.parametrize(("backend", "extra"), [("jax", []), ("torch", ["--train-only"])])
    def test_another_backend_is_refused(self, tmp_path, monkeypatch, backend, extra):
        monkeypatch.setattr("keras.backend.backend", lambda: backend)
        work = tmp_path / "work"
        result = CliRunner().invoke(pretrain.main, ["--work", str(work), *extra])
        assert result.exit_code == 2
        printed = " ".join(result.output.split())
        assert f"KERAS_BACKEND={backend}: not a backend" in printed
        assert "Accepted: tensorflow, and with --train-only also jax." in printed
        assert not work.exists()


def _folder(path):
    path.mkdir()
    return path


class TestFigures:
    def test_threshold_leaves_the_share_below_it(self):
        probabilities = np.linspace(0, 0.99, 100)
        threshold = pretrain.threshold_for(probabilities, 0.97)
        assert (probabilities < threshold).mean() == pytest.approx(0.97)
        assert pretrain.threshold_for(probabilities, 1.0) == 1.0

    def test_subtypes_are_measured_against_those_without_blood(self, drawn):
        labels = drawn.labels.astype(float)
        figures = pretrain.measure(np.where(labels, 0.9, 0.1), _with_all_subtypes(drawn), 0.5)
        assert figures["roc_auc"] == figures["accuracy"] == 1
        assert figures["sensitivity"] == figures["specificity"] == 1
        assert figures["subtypes"].keys() == set(SUBTYPES)
        assert all(each["roc_auc"] == 1 for each in figures["subtypes"].values())

    def test_scans_are_measured_by_their_three_highest(self):
        samples = ScanSamples(
            np.zeros((10, 1, 1), np.uint8),
            np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 0], np.uint8),
            np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2]),
        )
        probabilities = np.array([0.9, 0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6, 0.2])
        figures, labels = pretrain.scan_scores(probabilities, samples)
        np.testing.assert_allclose(figures, [0.4, 0.8, 0.4])
        assert labels.tolist() == [False, True, False]
        found = pretrain.measure_scans(probabilities, samples, 0.5, 0.5)
        assert found == {
            "n": 3, "roc_auc": 1.0, "sensitivity": 1.0, "specificity": 1.0, "flagged": 2 / 6,
        }  # fmt: skip
        assert pretrain.measure_scans(probabilities, samples, 0.5, 0.4)["specificity"] == 0.0

    def test_pointing_hits_where_the_maximums_cell_holds_blood(self):
        blood = np.zeros((3, 8, 8), bool)
        blood[:, 3, 4] = True  # in the second row and third column of cells of two pixels
        cams = np.zeros((3, 4, 4), np.float32)
        cams[0, 1, 2] = cams[1, 1, 1] = cams[2, 2, 2] = 5
        assert pretrain.pointing_hits(cams, blood).tolist() == [True, False, False]


def _with_all_subtypes(samples):
    """The samples, each subtype among them, so that a figure of each is there."""
    blood = samples.blood.copy()
    blood[np.flatnonzero(samples.labels)[:2]] |= 31
    return Samples(samples.images, samples.maps, samples.labels, blood, samples.pointable)
