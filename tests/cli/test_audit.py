from __future__ import annotations

import json

import numpy as np
import pytest
from audit_sets import draw_textured_head as head
from audit_sets import write_set
from click.testing import CliRunner
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.auditing import shortcuts
from hemorrhage_tf.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    """Use small forests, so that the tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "TREES", 10)
        patch.setattr(shortcuts, "REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Write eight slices, too few for shortcut baselines."""
    images = [head(index) for index in range(8)]
    return write_set(tmp_path_factory.mktemp("small"), images, [0, 1] * 4)


def test_json_is_the_whole_audit_without_nan(small):
    def refuse(name):
        raise AssertionError(name)

    result = run("audit", small, "--json", "--strict")
    assert result.exit_code == 0
    audit = json.loads(result.stdout, parse_constant=refuse)
    assert audit == json.loads(json.dumps(htf.audit(small, quiet=True).to_dict()))


def test_tables_and_conclusions(small):
    text = run("audit", small).stdout
    for part in ("8 slices", "nearest neighbors", "p (Holm)", "The manifest names no patients"):
        assert part in text


def test_strict_fails_if_a_property_other_than_anatomy_predicts_the_label(tmp_path):
    labels = np.arange(40) % 2
    images = [head(i, size=60 + 20 * int(label)) for i, label in enumerate(labels)]
    path = write_set(tmp_path, images, labels)
    result = run("audit", path, "--strict")
    assert result.exit_code == 1
    assert "Size, mode and format alone predict the label: AUC" in result.stdout


def test_class_folders_need_a_named_positive_class(tmp_path):
    for index, name in enumerate(["this", "that"] * 3):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(head(index)).save(tmp_path / name / f"{index}.png")
    assert run("audit", tmp_path).exit_code == 2
    audit = json.loads(run("audit", tmp_path, "--positive", "that", "--json").stdout)
    assert (audit["hemorrhage"], audit["layout"]) == (3, "class folders")


def test_prints_paths_with_markup_unchanged(tmp_path):
    path = write_set(tmp_path, [head(0), head(0)], [1, 1])
    (tmp_path / "001.png").rename(tmp_path / "[red].png")
    path.write_text(path.read_text().replace("001.png", "[red].png"))
    assert "[red].png" in run("audit", path).stdout


def test_data_that_do_not_exist(tmp_path):
    result = run("audit", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "no such file or folder" in result.stderr and result.stdout == ""


def test_no_readable_slice_is_a_result(tmp_path):
    path = write_set(tmp_path, [head(0), head(1)], [0, 1])
    for image in tmp_path.glob("*.png"):
        image.write_text("no image")
    result = run("audit", path)
    assert result.exit_code == 0
    assert "001.png" in result.stdout and "2 files or rows cannot be used" in result.stdout
