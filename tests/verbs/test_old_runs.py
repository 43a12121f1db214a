"""Run folders of the previous version, which names some entries differently."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError

METADATA_FILE = "hemorrhage_tf.json"


def to_old_metadata(metadata):
    """Return the metadata of a model in format version 3."""
    old = {**metadata, "format_version": 3, "canonical": metadata["crop_head"]}
    del old["crop_head"]
    return old


@pytest.fixture(scope="module")
def old_run(fit_once, tmp_path_factory):
    """A run folder of today, rewritten into the previous version's form."""
    run = shutil.copytree(fit_once(), tmp_path_factory.mktemp("old") / "run")
    config = json.loads((run / "config.json").read_text())
    config["training_look"] = config.pop("training_profile")
    config["settings"]["canonical"] = config["settings"].pop("crop_head")
    config["model"] = to_old_metadata(config["model"])
    (run / "config.json").write_text(json.dumps(config))
    with zipfile.ZipFile(fit_once() / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = to_old_metadata(json.loads(members[METADATA_FILE]))
    members[METADATA_FILE] = json.dumps(metadata).encode()
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return run


def test_load_reads_the_old_names(old_run, fit_once):
    old, new = htf.load(old_run), htf.load(fit_once())
    assert old.metadata == new.metadata and old.metadata.crop_head
    assert old.training_profile() == new.training_profile() is not None
    assert old.training_hashes() == new.training_hashes()


def test_predict_is_the_same(old_run, fit_once, kaggle_once):
    expected = htf.predict(kaggle_once, model=fit_once(), quiet=True)
    assert htf.predict(kaggle_once, model=old_run, quiet=True) == expected


def test_evaluate_is_the_same(old_run, fit_once, dicom_once):
    # These slices differ from the training slices, of which the old run has the profile.
    expected, evaluation = (
        htf.evaluate(dicom_once, model=run, quiet=True) for run in (fit_once(), old_run)
    )
    assert any("look different" in warning for warning in expected.metrics["warnings"])
    assert evaluation.metrics == expected.metrics
    assert evaluation.predictions == expected.predictions


def test_a_finished_old_run_is_not_fitted_again(old_run, fit_once):
    run = htf.fit(resume=old_run, quiet=True)
    assert run.path == old_run and run.config["settings"]["canonical"]
    assert run.summary == htf.fit(resume=fit_once(), quiet=True).summary


def test_export_verifies_on_the_slices_of_the_old_run(old_run, tmp_path):
    export = htf.export(old_run, tmp_path / "a.tflite", quiet=True)
    assert export.verifications["serving_default"].changed == 0


def test_a_fit_that_an_earlier_version_left_behind_must_be_started_again(tmp_path):
    (tmp_path / "run.unfinished").mkdir()
    with pytest.raises(OptionError, match="from an earlier version and cannot be resumed. Remove"):
        htf.fit(resume=tmp_path / "run")
