from __future__ import annotations

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError


def test_rejects_an_unknown_setting(tmp_path):
    with pytest.raises(OptionError, match="quantise: no such setting. Pass some of quantize"):
        htf.export("phantomnet", tmp_path / "a.tflite", quantise="int8")


def test_rejects_an_unknown_ending(tmp_path):
    with pytest.raises(OptionError, match="the ending .foo"):
        htf.export("phantomnet", tmp_path / "a.foo", quiet=True)


def test_accepts_the_result_of_a_fit(fit_once, kaggle_once, tmp_path):
    run = htf.fit(resume=fit_once(), quiet=True)
    export = htf.export(run, tmp_path / "a.tflite", verify=kaggle_once, quiet=True)
    assert export.form == "tflite none"
    assert export.verifications["serving_default"].slices == 24
