from __future__ import annotations

import json
import shutil

import pytest
from words import words

import hemorrhage_tf as htf


@pytest.fixture(scope="module")
def printed(run, run_folder, kaggle_once, tmp_path_factory):
    """What the command printed, and the run folder that it wrote."""
    out = tmp_path_factory.mktemp("recalibrated") / "here"
    result = run(
        *("recalibrate", kaggle_once, "--model", run_folder, "--out", out),
        *("--operating-point", "sensitivity=0.9", "--repeats", 2, "--seed", 3),
    )
    assert result.exit_code == 0, result.output
    return result, out


def test_prints_the_metrics_before_and_after(printed, run_folder, kaggle_once):
    result, out = printed
    text = words(result.stdout)
    assert text.startswith(f"{run_folder} on {kaggle_once} Slices alone: 24, 12 with hemorrhage")
    before, after = htf.load(run_folder).threshold, htf.load(out).threshold
    assert f"threshold {before:.3g} {after:.3g}" in text
    metrics = json.loads((out / "metrics.json").read_text())
    cells = [one["sensitivity"]["estimate"] for one in (metrics["before"], metrics)]
    row = next(line for line in result.stdout.splitlines() if "sensitivity " in line)
    assert all(f"{estimate:.1%}" in row for estimate in cells)
    assert "48 slices with hemorrhage for the sensitivity (now 12)" in text
    assert "out of fold (5 folds of whole patients, 2 times)" in text
    assert text.endswith(f"Recalibrated model: {out}")


def test_tables_fit_into_80_columns(printed):
    result, _ = printed
    rows = [line.rstrip() for line in result.stdout.splitlines() if line.startswith(" ")]
    assert rows and max(map(len, rows)) <= 80


def test_warns_of_slices_that_the_model_was_trained_on(printed):
    result, _ = printed
    assert "of the 24 slices were trained on" in words(result.stderr)


def test_json_holds_before_and_after(run, run_folder, kaggle_once, tmp_path):
    result = run(
        *("recalibrate", kaggle_once, "--model", run_folder, "--out", tmp_path / "out"),
        *("--repeats", 1, "--json"),
    )
    values = json.loads(result.stdout)
    assert set(values) == {"path", "before", "after", "needed_for_half", "recalibration"}
    assert values["after"]["threshold"] == values["recalibration"]["fitted"]["slices"]["threshold"]


def test_an_existing_result_is_replaced_only_on_request(
    run, printed, run_folder, kaggle_once, tmp_path
):
    out = tmp_path / "out"
    shutil.copytree(printed[1], out)
    command = ("recalibrate", kaggle_once, "--model", run_folder, "--out", out, "--repeats", 1)
    refused = run(*command)
    assert refused.exit_code == 1
    assert "exists. Name another folder, or replace it with --overwrite" in refused.stderr
    assert run(*command, "--overwrite").exit_code == 0
    assert htf.load(out).threshold != htf.load(printed[1]).threshold


def test_an_invalid_criterion_is_a_usage_error(run, kaggle_once, tmp_path):
    result = run("recalibrate", kaggle_once, "--out", tmp_path / "out", "--operating-point", "best")
    assert result.exit_code == 2
    assert "--operating-point best: must be balanced" in result.stderr
