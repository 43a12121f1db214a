from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image
from plain_phantoms import draw_phantom


@pytest.fixture
def slice_file(tmp_path):
    path = tmp_path / "slice.png"
    Image.fromarray(draw_phantom(0, 0, 1)).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("fit nowhere", 1, "nowhere"),
        ("fit nowhere --folds 1", 2, "--folds 1"),
        ("fit nowhere --backbone vgg", 2, "--backbone vgg: "),
        ("fit nowhere --backbone tiny+tiny", 2, "tiny is repeated"),
        ("fit nowhere --augment zoom", 2, "--augment zoom: "),
        ("fit nowhere --window lung", 2, "--window lung: "),
        ("fit nowhere --no-crop-head --upright", 2, "--upright"),
        ("fit nowhere --seed x", 2, "'x' is not a valid integer"),
        ("predict", 2, "no images were passed. Pass files, folders or globs."),
        ("predict nowhere.png", 1, "nowhere.png"),
        ("predict x.png --json --csv", 2, "--json and --csv exclude each other"),
        ("predict phantomnet", 2, "phantomnet: this is a model, not an image. Pass it as --model"),
        ("predict x.png --model nowhere", 1, "nowhere: there is no model. Pass a run folder"),
        ("evaluate", 2, "Missing argument 'DATA'"),
        ("evaluate phantomnet", 2, "phantomnet: this is a model, not labeled data. Pass it as"),
        ("evaluate a b", 2, "unexpected extra argument"),
        ("export phantomnet x.foo", 2, "x.foo"),
        ("export nowhere x.tflite", 1, "nowhere: there is no model. Pass a run folder"),
        ("audit nowhere", 1, "nowhere"),
        ("phantoms x --size 600", 2, "--size 600: "),
        ("phantoms x --count 0", 2, "--count 0: "),
        ("phantoms x --seed -1", 2, "--seed -1: "),
        ("cache prune --limit much", 2, "much"),
        ("benchmark nowhere", 1, "nowhere"),
        ("find", 2, "No such command 'find'"),
    ],
)
def test_a_mistake_is_an_error_without_a_traceback(
    run, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_system_is_a_message(run, tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied", "labels.csv")

    monkeypatch.setattr("hemorrhage_tf.verbs.fit.read_manifest", refuse)
    result = run("fit", tmp_path, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (1, "Error: labels.csv: Permission denied\n")


def test_ctrl_c_is_a_message_and_its_exit_code(run, tmp_path, monkeypatch):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("hemorrhage_tf.verbs.fit.read_manifest", stop)
    result = run("fit", tmp_path, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert result.stderr == "Stopped.\n"


def test_lists_commands_in_the_order_of_use(run):
    commands = run("--help").stdout.split("Commands:")[1]
    names = [line[2:].split()[0] for line in commands.splitlines() if line[2:3].strip()]
    assert names == [
        "fit",
        "evaluate",
        "predict",
        "recalibrate",
        "export",
        "audit",
        "phantoms",
        "cache",
        "benchmark",
        "explain",
    ]


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_no_command(argument):
    code = f"""
import sys
from hemorrhage_tf.cli.main import main
main([{argument!r}], standalone_mode=False)
loaded = {{name for name in sys.modules if name.startswith("hemorrhage_tf.cli.")}}
assert loaded == {{"hemorrhage_tf.cli.commands", "hemorrhage_tf.cli.main"}}, loaded
assert not {{"numpy", "PIL", "rich"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_predict_imports_no_training_and_no_reports(slice_file):
    code = f"""
import sys
from hemorrhage_tf.cli.main import main
main(["predict", {str(slice_file)!r}], standalone_mode=False)
for name in ("training", "reports", "exporters", "evaluation.metrics"):
    assert "hemorrhage_tf." + name not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
