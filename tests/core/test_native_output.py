from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hemorrhage_tf.core.native_output import silence_native_output


def test_hides_native_output(capfd):
    with silence_native_output(1, 2):
        os.write(1, b"hidden")
        os.write(2, b"hidden")
    os.write(2, b"visible")
    assert capfd.readouterr() == ("", "visible")


def test_prints_native_output_if_the_block_fails(capfd):
    with pytest.raises(ImportError), silence_native_output(2):
        os.write(2, b"the reason")
        raise ImportError("no tensorflow")
    assert capfd.readouterr().err == "the reason"


@pytest.mark.slow
def test_imports_tensorflow_without_log_lines():
    code = "from hemorrhage_tf.core.native_output import import_tensorflow; import_tensorflow()"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('ok')"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")
