from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from hemorrhage_tf.core import native_output
from hemorrhage_tf.core.native_output import (
    is_tensorflow_imported,
    silence_native_output,
    start_importing_tensorflow,
)


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


def test_messages_during_an_import_in_a_thread_go_where_the_caller_sees_them(monkeypatch):
    begun, done = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert done.wait(30)

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(native_output, "import_tensorflow", wait)
    cell = io.StringIO()  # as in a notebook
    with contextlib.redirect_stderr(cell):
        start_importing_tensorflow()
        assert begun.wait(30)
        print("a message", file=sys.stderr)
        done.set()
    assert cell.getvalue() == "a message\n"


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_tensorflow_computes_with_onednn_unless_told_otherwise(tmp_path, given, expected):
    (tmp_path / "tensorflow.py").write_text("import os; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    if given is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    code = "from hemorrhage_tf.core.native_output import import_tensorflow; import_tensorflow()"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == expected


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_the_import_as_before(tmp_path, enabled):
    (tmp_path / "tensorflow.py").write_text("import gc; print(gc.isenabled())")
    code = f"""
import gc
from hemorrhage_tf.core.native_output import import_tensorflow
{"" if enabled else "gc.disable()"}
import_tensorflow()
print(gc.isenabled())
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", str(enabled)]


def test_the_exit_does_not_search_what_was_imported_for_garbage(tmp_path):
    (tmp_path / "tensorflow.py").write_text("")
    code = """
import atexit, gc
from hemorrhage_tf.core.native_output import import_tensorflow
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # runs after those registered later
print(gc.get_freeze_count())
import_tensorflow()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["0", "True"]


@pytest.mark.parametrize("is_alive", [True, False])
def test_tensorflow_is_not_imported_while_a_thread_imports_it(monkeypatch, is_alive):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    thread = SimpleNamespace(is_alive=lambda: is_alive)
    monkeypatch.setattr(native_output, "_importing", [thread])
    assert is_tensorflow_imported() != is_alive
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert not is_tensorflow_imported()


@pytest.mark.slow
def test_imports_tensorflow_without_log_lines():
    code = "from hemorrhage_tf.core.native_output import import_tensorflow; import_tensorflow()"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('ok')"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")
