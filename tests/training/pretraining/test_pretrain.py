import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from pretraining_samples import QUIET, SMALL

from hemorrhage_tf.training.pretraining import pretrain, samples, scan_samples, settings
from hemorrhage_tf.training.pretraining.samples import SampleStore
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings


class TestWorkFolder:
    def test_other_settings_have_another_folder(self, tmp_path):
        first = pretrain.work_folder(tmp_path, SMALL)
        assert first == pretrain.work_folder(tmp_path, SMALL)
        assert first != pretrain.work_folder(tmp_path, PretrainingSettings())

    def test_another_head_continues_with_the_same_training(self, tmp_path):
        first = pretrain.work_folder(tmp_path, SMALL)
        other = replace(SMALL, head_scans=20, l2=1.0, specificity=0.9, test_count=5)
        assert first == pretrain.work_folder(tmp_path, other)

    def test_other_phantoms_have_another_folder(self, tmp_path, monkeypatch):
        first = pretrain.work_folder(tmp_path, SMALL)
        monkeypatch.setattr(settings, "GENERATOR_VERSION", settings.GENERATOR_VERSION + 1)
        assert first != pretrain.work_folder(tmp_path, SMALL)


class TestPretrain:
    @pytest.mark.slow
    def test_writes_the_files_of_an_embedded_model(self, tmp_path, monkeypatch):
        monkeypatch.setattr(samples, "SHARD_SIZE", 40)
        monkeypatch.setattr(scan_samples, "MOST_SLICES", 22)
        small = replace(SMALL, count=40, epochs=1, head_scans=10, test_count=40, batch_size=20)
        store = SampleStore(tmp_path / "work", 1, QUIET)
        assert pretrain.pretrain(small, store, tmp_path / "out", train_only=True) is None
        assert not (tmp_path / "out").exists()
        description = pretrain.pretrain(small, store, tmp_path / "out")
        written = json.loads((tmp_path / "out" / "phantomnet.json").read_text())
        assert written["pretraining"] == json.loads(json.dumps(description))
        assert written["pretraining"].keys() == {"settings", "figures", "maps"}
        assert 0 <= written["pretraining"]["figures"]["roc_auc"] <= 1
        assert 0 < written["metadata"]["threshold"] <= 1
        assert np.shape(written["head"]["kernel"]) == (2 * 79,)


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--count", "20"], "--count 20, --batch-size 32: less than one batch."),
            (["--epochs", "0"], "0 is not in the range x>=1"),
            (["--batch-size", "-1"], "-1 is not in the range x>=1"),
        ],
    )
    def test_rejects_settings_before_anything_is_drawn(self, tmp_path, arguments, message):
        work = tmp_path / "work"
        result = CliRunner().invoke(pretrain.main, ["--work", str(work), *arguments])
        assert result.exit_code == 2 and message in " ".join(result.output.split())
        assert not work.exists()

    @pytest.mark.parametrize(("backend", "extra"), [("jax", []), ("torch", ["--train-only"])])
    def test_rejects_other_backends(self, tmp_path, monkeypatch, backend, extra):
        monkeypatch.setattr("keras.backend.backend", lambda: backend)
        work = tmp_path / "work"
        result = CliRunner().invoke(pretrain.main, ["--work", str(work), *extra])
        assert result.exit_code == 2
        printed = " ".join(result.output.split())
        assert f"KERAS_BACKEND={backend}: not supported here." in printed
        assert "Set it to tensorflow, or to jax with --train-only." in printed
        assert not work.exists()

    def test_every_option_has_help(self):
        assert all(option.help for option in pretrain.main.params)
        result = CliRunner().invoke(pretrain.main, ["--help"], terminal_width=80)
        assert result.exit_code == 0 and "Pretrain PhantomNet on phantoms alone" in result.output
