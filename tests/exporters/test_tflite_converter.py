from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import hemorrhage_tf
from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.exporters.tflite_converter import convert_signatures

PACKAGE = Path(hemorrhage_tf.__file__).parent


class Doubler(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(np.full(1024, 2, np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 1024), name="x")])
    def any_count(self, x):
        return {"y": x * self.factor}

    @tf.function(input_signature=[tf.TensorSpec((1, 1024), name="x")])
    def one(self, x):
        return {"y": x * self.factor}


def test_the_converter_is_used_in_one_file_only():
    users = [path for path in PACKAGE.rglob("*.py") if "tf.lite" in path.read_text()]
    assert [path.name for path in users] == ["tflite_converter.py"]


def test_the_installed_tensorflow_has_it():
    # Where this fails, TensorFlow has dropped `tf.lite`: see the plan in docs/decisions.md.
    assert hasattr(tf, "lite") and hasattr(tf.lite, "TFLiteConverter")


def test_says_what_to_install_where_tensorflow_has_none(monkeypatch):
    monkeypatch.delattr(tf, "lite")
    with pytest.raises(ModelError, match="has no TFLite converter.*tensorflow<2.22"):
        convert_signatures(Doubler(), {})


def test_signatures_share_their_weights():
    from ai_edge_litert.interpreter import Interpreter

    module = Doubler()
    model = convert_signatures(module, {"a": module.any_count, "b": module.one})
    assert len(model) < 2 * 4 * 1024
    interpreter = Interpreter(model_content=model)
    x = np.ones((1, 1024), np.float32)
    for name in "ab":
        assert (interpreter.get_signature_runner(name)(x=x)["y"] == 2).all()
