from __future__ import annotations

import json


def test_prints_tables_and_conclusions(run, kaggle_once, tmp_path):
    page = tmp_path / "audit.html"
    result = run("audit", kaggle_once, "--html", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("24 slices (12 with hemorrhage), kaggle")
    assert "File formats" in result.stdout
    assert result.stdout.endswith(f"Page: {page}\n")
    assert page.read_text().startswith("<!")


def test_strict_exits_with_1_for_a_shortcut(run, tmp_path, kaggle_once):
    from PIL import Image

    for index, path in enumerate(sorted(kaggle_once.rglob("*.png"))):
        name = tmp_path / "data" / ("normal", "ich")[index % 2] / path.name
        name.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((64, 64) if index % 2 else (96, 96)).save(name)
    strict = run("audit", tmp_path / "data", "--strict", "--json")
    assert strict.exit_code == 1
    assert run("audit", tmp_path / "data", "--json").exit_code == 0
    assert json.loads(strict.stdout)["slices"] == 24
