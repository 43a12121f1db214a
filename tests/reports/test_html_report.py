from __future__ import annotations

import errno
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_examples import (
    AUDIT,
    EVIL_NAME,
    draw_predictions,
    full_content,
    minimal_content,
    noise_png,
    phantom_png,
)

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.reports.gallery import (
    CONFIDENT_HEMORRHAGE,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
)
from hemorrhage_tf.reports.html_report import render, write_audit_page, write_report
from hemorrhage_tf.reports.number_formats import flatten

VOID_ELEMENTS = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The elements and texts of a page; fails if elements are not nested correctly."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.declared = [], [], [], None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_decl(self, decl):
        self.declared = decl

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> after {self.open}"

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def content():
    return full_content()


@pytest.fixture(scope="module")
def html(content):
    return render(content)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


class TestPage:
    def test_is_an_english_document_with_landmarks_and_headings_in_order(self, page):
        assert page.declared == "DOCTYPE html"
        assert page.all("html") == [{"lang": "en"}]
        for landmark in ("header", "nav", "main", "footer", "h1"):
            assert len(page.all(landmark)) == 1
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert all(later - earlier <= 1 for earlier, later in zip(levels, levels[1:], strict=False))

    def test_runs_no_script_and_loads_nothing(self, html, page):
        for tag in ("script", "link", "iframe", "object", "embed", "base", "form"):
            assert not page.all(tag)
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "srcset", "xlink:href", "action"):
                if name in attributes:
                    assert attributes[name].startswith(("#", "data:image/jpeg;base64,"))
        assert not re.search(r"url\((?!#)|@import|https?:", html)

    def test_links_lead_to_sections_and_ids_are_unique(self, page):
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for link in page.all("a"):
            assert link["href"][1:] in ids
        for _, attributes in page.elements:
            for name in attributes.get("aria-labelledby", "").split():
                assert name in ids

    def test_every_image_and_chart_has_an_alternative_text(self, page):
        assert page.all("img") and page.all("svg")
        assert all(image["alt"] for image in page.all("img"))
        assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in page.all("svg"))
        assert len(page.all("desc")) == len(page.all("svg"))

    def test_contains_every_value_of_the_metrics(self, content, page):
        cells = set(page.texts)
        flat = dict(flatten(content.metrics))
        assert len(flat) > 100
        for name, value in flat.items():
            assert name in cells and value in cells

    def test_contains_the_metrics_as_json(self, content, page):
        text = next(text for text in page.texts if text.startswith('{\n  "accuracy"'))
        assert json.loads(text) == json.loads(json.dumps(content.metrics))

    def test_file_names_and_titles_are_escaped(self, html, page):
        assert "<script" not in html and "<b>tiny" not in html
        assert EVIL_NAME in page.text
        assert f"Slice {EVIL_NAME}: labeled normal" in " ".join(
            img["alt"] for img in page.all("img")
        )

    def test_shows_every_slice_of_the_gallery_once(self, content, page):
        assert len(page.all("img")) == 60 + 30
        for item in content.gallery:
            assert any(img["alt"].startswith(f"Slice {item.name}:") for img in page.all("img"))

    def test_shows_the_content_of_every_section(self, page):
        for text in (
            "--allow-leak was used.",
            "12 of the 60 slices were trained on.",
            "Other scanners.",
            "one size only",
            "428 (320 to 503)",
            "float32",
            "paired DeLong",
            "horizontal flip",
            "0.800 (0.700 to 0.900)",
            "sensitivity=0.95",
            "fine-tune",
            "Research software, not a medical device.",
        ):
            assert text in page.text, text

    def test_has_no_missing_number(self, html):
        without_images = re.sub(r"base64,[^\"]*", "", html)
        assert not re.search(r"\b(nan|NaN|inf|Infinity|None|undefined)\b", without_images)

    def test_charts_are_colored_by_the_style_sheet_alone(self, html):
        drawn = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
        assert "var(--blue)" in drawn and "var(--card)" in drawn
        assert not re.search(r"#[0-9a-f]{6}\b", drawn)
        defined = set(re.findall(r"(--[a-z]+):", html))
        assert set(re.findall(r"var\((--[a-z]+)\)", html)) <= defined

    def test_charts_have_the_font_of_the_page(self, html):
        drawn = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
        assert "<text" in drawn and "DejaVu" not in drawn and "<style" not in drawn

    def test_same_content_renders_the_same_page(self, content, html):
        assert render(content) == html


class TestRender:
    def test_accepts_required_fields_only(self):
        page = Page(render(minimal_content()))
        assert "This report contains no images of slices." in page.text
        assert "audit" not in {attributes.get("id") for _, attributes in page.elements}
        assert not page.all("img")

    @pytest.mark.parametrize("label", [0, 1])
    def test_accepts_one_class(self, label):
        labels = np.full(12, label)
        probabilities = np.linspace(0, 1, 12)
        html = render(
            minimal_content(
                metrics=binary_metrics(labels, [probabilities]),
                labels=labels,
                probabilities=probabilities,
                audit=AUDIT,
                comparisons={"slices": compare(labels, probabilities, probabilities[::-1])},
            )
        )
        assert "need slices with and without hemorrhage" in Page(html).text
        assert not re.search(r"\b(nan|inf|None)\b", html)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_accepts_few_slices_with_the_same_probability(self, n):
        labels, probabilities = np.arange(n) % 2, np.full(n, 0.25)
        html = render(
            minimal_content(
                metrics=binary_metrics(labels, [probabilities], 0.25),
                labels=labels,
                probabilities=probabilities,
                threshold=0.25,
            )
        )
        Page(html)
        assert not re.search(r"\b(nan|inf|None)\b", html)

    def test_accepts_an_audit_without_baselines(self):
        audit = {**AUDIT, "shortcuts": AUDIT["shortcuts"][1:], "pairs": [], "problems": []}
        text = Page(render(minimal_content(audit=audit))).text
        assert "no baseline (one size only)" in text
        assert "For comparison:" not in text

    def test_folds_all_but_the_most_confident_errors(self):
        items = [
            GalleryItem(f"{index}.png", 1, index / 100, False, FALSE_NEGATIVE, noise_png(side=8))
            for index in reversed(range(20))
        ]
        html = render(minimal_content(gallery=items))
        order = [int(name) for name in re.findall(r'alt="Slice (\d+)\.png', html)]
        assert order == list(range(20))
        summary = html.index("Show the other 8 (false negative)")
        assert html.index('alt="Slice 11.png') < summary < html.index('alt="Slice 12.png')

    def test_states_that_nothing_was_wrong(self):
        item = GalleryItem("a.png", 1, 0.9, True, CONFIDENT_HEMORRHAGE, noise_png(side=8))
        text = Page(render(minimal_content(gallery=[item]))).text
        assert "No hemorrhage was missed." in text
        assert "No slice without hemorrhage was predicted hemorrhage." in text

    def test_scans_are_named_as_such(self):
        text = Page(render(minimal_content(unit="scans", robustness=[]))).text
        assert "need scans" not in text and "Computed for single slices" in text
        assert "8 in 10 scans" in text


class TestWriteAuditPage:
    def test_writes_the_audit_as_a_page(self, tmp_path):
        counts = {"slices": 24, "hemorrhage": 12, "groups": 20}
        storage = [{"file_format": "PNG", "mode": "L", "bits": 8, "hemorrhage": 12, "normal": 12}]
        audit = {**AUDIT, **counts, "storage": storage}
        path = write_audit_page(tmp_path / "new" / "audit.html", "head_ct", audit)
        page = Page(path.read_text("utf-8"))
        for text in ("Data audit of head_ct", "Image formats", "one size only", EVIL_NAME):
            assert text in page.text
        assert not page.all("script")


class TestWriteReport:
    def test_200_wrong_slices_stay_under_5_mb(self, tmp_path):
        labels, _ = draw_predictions(n=200)
        probabilities = np.where(labels, 0.1, 0.9)
        images = [phantom_png(index, index % 2) for index in range(10)]
        items = [
            GalleryItem(
                f"{index:03d}.png",
                int(label),
                float(probability),
                probability >= 0.5,
                FALSE_NEGATIVE if label else FALSE_POSITIVE,
                images[index % 10],
                images[(index + 1) % 10],
            )
            for index, (label, probability) in enumerate(zip(labels, probabilities, strict=True))
        ]
        content = minimal_content(
            metrics=binary_metrics(labels, [probabilities]),
            labels=labels,
            probabilities=probabilities,
            names=[item.name for item in items],
            gallery=items,
        )
        path = write_report(tmp_path / "report.html", content)
        assert path.stat().st_size < 5_000_000
        page = Page(path.read_text("utf-8"))
        assert len(page.all("img")) == 400

    def test_replaces_an_earlier_file_and_leaves_no_other(self, tmp_path):
        path = tmp_path / "folder" / "report.html"
        write_report(path, minimal_content(title="first"))
        write_report(str(path), minimal_content(title="second"))
        assert "second" in path.read_text("utf-8")
        assert list(path.parent.iterdir()) == [path]

    def test_accepts_names_in_another_encoding(self, tmp_path):
        item = GalleryItem("a\udcff.png", 1, 0.1, False, FALSE_NEGATIVE, noise_png(side=8))
        path = write_report(tmp_path / "report.html", minimal_content(gallery=[item]))
        assert "a?.png" in path.read_text("utf-8")

    def test_a_folder_of_that_name_is_an_output_error(self, tmp_path):
        (tmp_path / "report.html").mkdir()
        with pytest.raises(OutputError, match="report.html: cannot be written .*Nothing was left"):
            write_report(tmp_path / "report.html", minimal_content())
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

    def test_a_full_disk_leaves_the_old_report(self, tmp_path, monkeypatch):
        path = write_report(tmp_path / "report.html", minimal_content(title="old"))

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full"):
            write_report(path, minimal_content(title="new"))
        assert "old" in path.read_text("utf-8")
        assert list(tmp_path.iterdir()) == [path]
