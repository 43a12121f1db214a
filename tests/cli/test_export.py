from __future__ import annotations


def test_prints_the_verification(run, run_folder, tmp_path):
    target = tmp_path / "saved_models" / "a.tflite"
    result = run("export", run_folder, target)
    assert result.exit_code == 0, result.output
    assert f"{target} (tflite none)" in result.stdout
    assert "largest difference" in result.stdout and "Size: " in result.stdout
    assert target.is_file()


def test_rejects_an_unknown_ending(run, tmp_path):
    result = run("export", "phantomnet", tmp_path / "x.foo")
    assert result.exit_code == 2
    for text in ("x.foo", ".tflite", "SavedModel"):
        assert text in result.stderr
    assert not (tmp_path / "x.foo").exists()
