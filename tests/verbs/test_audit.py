from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError, OutputError


@pytest.fixture
def table(kaggle_once, tmp_path):
    """Four slices with two columns of labels."""
    images = sorted((kaggle_once / "head_ct" / "head_ct").iterdir())[:4]
    lines = [f"{path},{index % 2},{int(index == 3)}" for index, path in enumerate(images)]
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "slices.csv"
    path.write_text("\n".join(["path,label,subdural", *lines]))
    return path


def test_writes_a_page(table, tmp_path):
    audit = htf.audit(table, html=tmp_path / "audit.html", quiet=True)
    assert (audit.slices, audit.hemorrhage) == (4, 2)
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert f"<title>Data audit of {table.parent.name}" in page and "<script" not in page


def test_a_page_that_cannot_be_written_is_an_error(table, tmp_path):
    (tmp_path / "page").mkdir()
    with pytest.raises(OutputError, match="page"):
        htf.audit(table, html=tmp_path / "page", quiet=True)


def test_target_chooses_the_labels(table):
    assert htf.audit(table, target="subdural", quiet=True).hemorrhage == 1
    with pytest.raises(OptionError, match="--target epidural"):
        htf.audit(table, target="epidural", quiet=True)


def test_positive_names_the_class(kaggle_once, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(kaggle_once / "head_ct" / "head_ct" / "001.png", tmp_path / name / "1.png")
    shutil.copy(kaggle_once / "head_ct" / "head_ct" / "003.png", tmp_path / "b" / "3.png")
    assert htf.audit(tmp_path, positive="b", quiet=True).hemorrhage == 2
    assert htf.audit(tmp_path, positive="a", quiet=True).hemorrhage == 1


def test_a_model_in_place_of_data_is_an_error(fit_once):
    with pytest.raises(OptionError, match="this is a model, not labeled data"):
        htf.audit(fit_once(), quiet=True)


def test_an_audit_of_unchanged_files_reads_and_compares_nothing_again(kaggle_folder, monkeypatch):
    images = sorted((kaggle_folder / "head_ct" / "head_ct").iterdir())
    Image.open(images[3]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images[5])
    for path in images:
        os.utime(path, (10**9, 10**9))
    first = htf.audit(kaggle_folder, quiet=True)
    assert "flipped left to right" in [pair.relation for pair in first.pairs][0]
    monkeypatch.setattr("hemorrhage_tf.datasets.slice_reading.read_slice_and_format", None)
    monkeypatch.setattr("hemorrhage_tf.auditing.audit.find_duplicate_pairs", None)
    assert htf.audit(kaggle_folder, quiet=True).to_dict() == first.to_dict()
