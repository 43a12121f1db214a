from __future__ import annotations

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError


@pytest.mark.parametrize("form", ["png", "dicom", "nifti"])
def test_writes_data_that_can_be_read_again(tmp_path, form):
    folder = htf.phantoms(tmp_path / "set", count=2, seed=7, form=form, size=64, quiet=True)
    assert folder == tmp_path / "set"
    assert htf.read_manifest(folder).labels.tolist() == [0, 1]


def test_rejects_an_unknown_form(tmp_path):
    with pytest.raises(OptionError, match="jpeg"):
        htf.phantoms(tmp_path / "set", count=2, form="jpeg", quiet=True)
    assert not (tmp_path / "set").exists()
