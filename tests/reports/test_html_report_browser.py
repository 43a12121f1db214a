"""The report in Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from report_examples import EVIL_NAME, full_content, minimal_content

from hemorrhage_tf.reports.html_report import write_report

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--hide-scrollbars",
)


def browse(tmp_path, *arguments, width=1280, height=2000):
    """Run Chromium once and return its standard output and standard error."""
    profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
    profile.mkdir()
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        + list(arguments),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.slow
class TestInABrowser:
    @pytest.mark.parametrize("width", [390, 1280])
    def test_fits_the_width_and_shows_every_image(self, tmp_path, width):
        path = write_report(tmp_path / "report.html", full_content())
        # A window is at least 500 pixels wide, a frame can be narrower. The report itself may
        # run no script, so the page around it measures.
        frame = tmp_path / "frame.html"
        frame.write_text(
            f"<!DOCTYPE html><body style='margin:0'><iframe src='{path.name}' width='{width}' "
            "height='1800' style='border:0'></iframe><p id='measured'></p><script>"
            "onload = () => { const page = document.querySelector('iframe').contentDocument;"
            "const images = [...page.images];"
            "document.querySelector('#measured').textContent = JSON.stringify({"
            "inner: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,"
            "images: images.length, shown: images.filter(each => each.naturalWidth > 0).length,"
            "styled: getComputedStyle(page.querySelector('.levels')).borderCollapse}); };</script>"
        )
        out, log = browse(
            tmp_path, "--allow-file-access-from-files", "--dump-dom", frame.as_uri(), width=1400
        )
        measured = json.loads(re.search(r'<p id="measured">(.*?)</p>', out)[1])
        assert measured["inner"] == width
        assert measured["scroll"] <= width
        assert measured["shown"] == measured["images"] == 90
        assert measured["styled"] == "collapse"
        assert "CONSOLE" not in log

    def test_a_file_name_runs_no_script(self, tmp_path):
        path = write_report(tmp_path / "report.html", replace(full_content(), title=EVIL_NAME))
        out, log = browse(tmp_path, "--dump-dom", path.as_uri())
        assert "<title>&lt;script&gt;alert(1)" in out
        assert "CONSOLE" not in log

    @pytest.mark.parametrize(("dark", "light"), [((), True), (("--force-dark-mode",), False)])
    def test_follows_the_color_scheme_of_the_system(self, tmp_path, dark, light):
        path = write_report(tmp_path / "report.html", minimal_content())
        shot = tmp_path / "shot.png"
        _, log = browse(tmp_path, *dark, f"--screenshot={shot}", path.as_uri(), height=1000)
        with Image.open(shot) as image:
            assert image.size == (1280, 1000)
            corner = image.convert("L").getpixel((3, 3))
        assert (corner > 200) if light else (corner < 60)
        assert "CONSOLE" not in log

    @pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm --prefix web ci")
    @pytest.mark.parametrize("dark", [(), ("--force-dark-mode",)])
    def test_axe_finds_no_violation(self, tmp_path, dark):
        path = write_report(tmp_path / "report.html", full_content())
        # The report may run no script, so a copy without its policy does.
        html = re.sub(r"<meta http-equiv=[^>]*>", "", path.read_text("utf-8"))
        run = (
            f"<p id='found' hidden></p><script src='{AXE.as_uri()}'></script><script>"
            "onload = async () => {"
            "for (const each of document.querySelectorAll('details')) each.open = true;"
            "const { violations } = await axe.run();"
            "document.querySelector('#found').textContent = JSON.stringify(violations.map("
            "each => `${each.id}: ${each.nodes[0].html}`)); };</script></body>"
        )
        page = tmp_path / "page.html"
        page.write_text(html.replace("</body>", run), "utf-8")
        out, _ = browse(tmp_path, "--virtual-time-budget=60000", *dark, "--dump-dom", page.as_uri())
        assert re.search(r'<p id="found" hidden="">(.*?)</p>', out)[1] == "[]"
