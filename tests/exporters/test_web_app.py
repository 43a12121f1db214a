"""The page that `--format web` adds a model to; what it does in a browser is in `tests/web`."""

from __future__ import annotations

import re
from pathlib import Path

import hemorrhage_tf
from hemorrhage_tf.exporters.web_app import PAGE_FOLDER

WEB = Path(__file__).resolve().parents[2] / "web"


class TestThePageItself:
    def test_the_build_goes_where_the_export_looks(self):
        config = (WEB / "vite.config.ts").read_text()
        (target,) = re.findall(r"outDir: '(.+?)'", config)
        # Relative to the package: tests may run against an installed one.
        expected = PAGE_FOLDER.relative_to(Path(hemorrhage_tf.__file__).parent)
        assert (WEB / target).resolve() == WEB.parent / "hemorrhage_tf" / expected

    def test_headers_and_page_have_the_same_policy(self):
        page = (WEB / "index.html").read_text()
        policy = re.search(r'Content-Security-Policy"\s+content="(.+?)"', page)[1]
        headers = (WEB / "public" / "_headers").read_text()
        sent = re.search(r"Content-Security-Policy: (.+)", headers)[1]
        assert sent == f"{policy}; frame-ancestors 'none'"
        assert "default-src 'none'" in policy and "connect-src 'self'" in policy

    def test_constants_are_those_of_the_library(self):
        from hemorrhage_tf.imaging import head_crop, input_checks
        from hemorrhage_tf.inference import evidence

        for module, source in (
            (head_crop, "imaging/headCrop.ts"),
            (input_checks, "imaging/inputChecks.ts"),
            (evidence, "model/evidence.ts"),
        ):
            text = (WEB / "src" / source).read_text()
            found = re.findall(r"^(?:export )?const ([A-Z_]+) = ([-\d./ ]+);", text, re.M)
            assert len(found) >= 4
            for name, value in found:
                if hasattr(module, name):
                    numerator, _, denominator = value.partition("/")
                    assert float(numerator) / float(denominator or 1) == getattr(module, name), name
