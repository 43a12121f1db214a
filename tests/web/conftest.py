"""Fixtures of the page: its tools, its build, and an exported site."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


@pytest.fixture(scope="session")
def npm(once) -> str:
    """Return npm, with the page's packages installed as `package-lock.json` says."""
    program, node = shutil.which("npm"), shutil.which("node")
    if program is None or node is None:
        pytest.skip("Node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"Node {version.strip()} is older than 20, which the build of the page needs")

    def install(path: Path) -> None:
        if not (WEB / "node_modules" / ".package-lock.json").is_file():
            done = subprocess.run([program, "ci"], cwd=WEB, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"npm ci failed: {done.stderr[-300:]}")
        path.mkdir()

    once("web-packages", install)
    return program


@pytest.fixture(scope="session")
def page(once, npm) -> Path:
    """Return the built page; tests must not change it."""

    def build(path: Path) -> None:
        command = [npm, "run", "build", "--", "--outDir", str(path), "--logLevel", "error"]
        subprocess.run(command, cwd=WEB, check=True, capture_output=True)

    return once("web-page", build)


@pytest.fixture(scope="session")
def drive(page, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Return a function that drives a site in Chromium: `drive(site, steps)`."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")

    def run(site: Path, steps: list[dict[str, Any]], isolated: bool = False) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("drive")
        plan = {"site": str(site), "web": str(WEB), "chromium": chromium, "isolated": isolated}
        plan |= {"downloads": str(folder), "steps": steps}
        (folder / "plan.json").write_text(json.dumps(plan))
        script = Path(__file__).with_name("drive_page.mjs")
        done = subprocess.run(
            ["node", str(script), str(folder / "plan.json")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
