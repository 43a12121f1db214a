from __future__ import annotations

import base64
import errno
import io
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from hemorrhage_tf.core.errors import DataError, OutputError
from hemorrhage_tf.evaluation.comparison import compare
from hemorrhage_tf.evaluation.intervals import Resamples
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.evaluation.robustness import robustness
from hemorrhage_tf.reports import embedded_images, html_report
from hemorrhage_tf.reports.charts import curves, histogram_chart, history_chart, interval_chart
from hemorrhage_tf.reports.embedded_images import data_uris
from hemorrhage_tf.reports.html_report import (
    CERTAIN_HEMORRHAGE,
    CERTAIN_NORMAL,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
    ReportContent,
    render,
    summary_sentence,
    write_report,
)
from hemorrhage_tf.reports.number_formats import flatten

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--v=0", "--hide-scrollbars"),
)
VOID = {"meta", "img", "br", "hr", "link", "input"}
FIGURE = {"estimate": 0.8, "low": 0.7, "high": 0.9, "n": 60}
EVIL = "<script>alert(1)</script>\"'&.png"


def drawn(n=60, repeats=1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    base = 1.2 * (2 * labels - 1) + rng.normal(size=n)
    noise = 0.3 * rng.normal(size=(repeats, n))
    return labels, 1 / (1 + np.exp(-(base + noise)))


def picture(seed=0, side=256, mode="L"):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def phantom(index, label):
    file = io.BytesIO()
    Image.fromarray(draw_phantom(0, index, label)).save(file, "PNG")
    return file.getvalue()


def kind_of(label, called):
    if label:
        return CERTAIN_HEMORRHAGE if called else FALSE_NEGATIVE
    return FALSE_POSITIVE if called else CERTAIN_NORMAL


AUDIT = {
    "conclusions": ["The border alone tells the classes apart: AUC 0.80 (0.70 to 0.90)."],
    "problems": [{"path": "broken.png", "reason": "truncated"}],
    "pairs": [
        {
            "first": "a.png",
            "second": EVIL,
            "relation": "same pixels",
            "correlation": 1.0,
            "first_label": 0,
            "second_label": 1,
            "across_split": True,
            "contradicting": True,
        }
    ],
    "differences": [
        {
            "name": "width",
            "hemorrhage": "428 (320 to 503)",
            "normal": "262 (230 to 359)",
            "measure": "AUC",
            "effect": 0.81,
            "p": 1e-5,
            "p_adjusted": 2e-4,
            "significant": True,
        }
    ],
    "shortcuts": [
        {"name": "border", "model": "random forest", "roc_auc": FIGURE, "reason": None},
        {"name": "size", "model": "random forest", "roc_auc": None, "reason": "one size only"},
    ],
}


def small(**values):
    labels, repeats = drawn()
    given = {
        "title": "Report",
        "metrics": binary_metrics(labels, list(repeats), 0.5),
        "labels": labels,
        "probabilities": repeats[0],
        "threshold": 0.5,
        **values,
    }
    return ReportContent(**given)


@pytest.fixture(scope="module")
def content():
    """Everything that a report may show."""
    labels, repeats = drawn(n=60, repeats=3)
    mean = repeats.mean(0)
    called = mean >= 0.5
    metrics = binary_metrics(labels, list(repeats), 0.5, prevalence=0.1)
    slices = [draw_phantom(0, index, int(label)) for index, label in enumerate(labels)]
    return ReportContent(
        title="Report of <b>tiny</b>",
        metrics={"evaluated_on": "all 60 slices, out of fold", **metrics},
        labels=labels,
        probabilities=repeats,
        threshold=0.5,
        names=[EVIL, *(f"{index:03d}.png" for index in range(1, 60))],
        model_rows=(("backbone", "tiny"),),
        data_rows=(("slices", "60"),),
        operating_point=choose(labels, list(repeats), "sensitivity=0.95").to_dict(),
        history=[
            {
                "repeat": 1,
                "fold": fold,
                "stage": "head" if epoch < 4 else "fine_tune",
                "epoch": epoch,
                "loss": 1 / epoch,
                "accuracy": 1 - 0.4 / epoch,
                "validation_loss": f"{1.2 / epoch:.3f}" if epoch != 2 else "",
            }
            for fold in (1, 2)
            for epoch in range(1, 7)
        ],
        audit=AUDIT,
        gallery=[
            GalleryItem(
                EVIL if index == 0 else f"{index:03d}.png",
                int(label),
                float(probability),
                bool(decision),
                kind_of(label, decision),
                phantom(index, int(label)),
                phantom(index, 0) if index % 2 else None,
            )
            for index, (label, probability, decision) in enumerate(
                zip(labels, mean, called, strict=True)
            )
        ],
        robustness=robustness(
            lambda given: np.array([each.mean() / 255 for each in given]), slices, labels, 0.3
        ),
        subgroups=[
            {"group": "small", "slices": 20, "roc_auc": FIGURE, "note": None, "enough": True},
            {"group": "large", "slices": 40, "roc_auc": None, "share": 0.25, "enough": False},
        ],
        comparison=compare(labels, repeats[0], repeats[1]),
        compared=("float32", "int8"),
        overlap=("12 of the 60 slices were trained on",),
        warnings=("--allow-leak was given",),
        not_tested=("Other scanners.",),
        versions={"hemorrhage_tf": "0.1.0"},
    )


class Page(HTMLParser):
    """What a page holds; fails where elements are not nested well."""

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
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> after {self.open}"

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def text(self):
        return "\n".join(self.texts)


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
        for tag in ("script", "link", "iframe", "object", "embed", "base", "form", "use"):
            assert not page.all(tag)
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            for name in ("src", "href", "srcset", "xlink:href", "action"):
                if name in attributes:
                    assert attributes[name].startswith(("#", "data:image/jpeg;base64,"))
        assert not re.search(r"url\(|@import", html)

    def test_links_lead_to_sections_and_ids_are_unique(self, page):
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for link in page.all("a"):
            assert link["href"][1:] in ids
        for _, attributes in page.elements:
            for name in attributes.get("aria-labelledby", "").split():
                assert name in ids

    def test_every_picture_and_chart_has_a_text(self, page):
        assert page.all("img") and page.all("svg")
        assert all(image["alt"] for image in page.all("img"))
        assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in page.all("svg"))
        assert len(page.all("desc")) == len(page.all("svg"))

    def test_every_value_of_the_metrics_is_on_the_page(self, content, page):
        cells = set(page.texts)
        flat = dict(flatten(content.metrics))
        assert len(flat) > 100
        for name, value in flat.items():
            assert name in cells and value in cells

    def test_the_metrics_stand_there_as_json(self, content, page):
        found = next(text for text in page.texts if text.startswith('{\n  "accuracy"'))
        assert json.loads(found) == json.loads(json.dumps(content.metrics))

    def test_what_a_file_is_called_is_text(self, html, page):
        assert "<script" not in html and "<b>tiny" not in html
        assert EVIL in page.text
        assert f"Slice {EVIL}: labeled normal" in " ".join(img["alt"] for img in page.all("img"))

    def test_shows_every_slice_of_the_gallery_once(self, content, page):
        assert len(page.all("img")) == 60 + 30
        for item in content.gallery:
            assert any(img["alt"].startswith(f"Slice {item.name}:") for img in page.all("img"))

    def test_shows_what_was_given(self, page):
        for text in (
            "--allow-leak was given",
            "12 of the 60 slices were trained on",
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

    def test_has_no_number_that_is_none(self, html):
        without_pictures = re.sub(r"base64,[^\"]*", "", html)
        assert not re.search(r"\b(nan|NaN|inf|Infinity|None|undefined)\b", without_pictures)

    def test_lies_within_its_charts(self, page):
        """No mark of a chart may stick out, so that nothing is cut off."""
        widths = {tuple(map(float, svg["viewbox"].split())) for svg in page.all("svg")}
        assert {width for _, _, width, _ in widths} == {420.0}
        for circle in page.all("circle"):
            assert 0 <= float(circle["cx"]) <= 420 and float(circle["cy"]) >= 0
        for rect in page.all("rect"):
            assert 0 <= float(rect["x"]) <= float(rect["x"]) + float(rect["width"]) <= 420
        for path in page.all("path"):
            assert re.fullmatch(r"M[-0-9.L ]+Z?", path["d"])
            xs = [float(point.split()[0]) for point in path["d"].strip("MZ").split("L")]
            assert 0 <= min(xs) <= max(xs) <= 420

    def test_same_content_same_page(self, content, html):
        assert render(content) == html


class TestContent:
    def test_works_with_little(self):
        page = Page(render(small()))
        assert "No pictures were given" in page.text
        assert "audit" not in {attributes.get("id") for attributes in page.all("section")}
        assert not page.all("img")

    @pytest.mark.parametrize("label", [0, 1])
    def test_works_with_one_class(self, label):
        labels = np.full(12, label)
        probabilities = np.linspace(0, 1, 12)
        metrics = binary_metrics(labels, [probabilities])
        html = render(
            small(
                metrics=metrics,
                labels=labels,
                probabilities=probabilities,
                audit=AUDIT,
                comparison=compare(labels, probabilities, probabilities[::-1]),
            )
        )
        text = Page(html).text
        assert "need slices with and without hemorrhage" in text
        assert not re.search(r"\b(nan|inf|None)\b", html)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_works_with_few_slices_and_one_probability(self, n):
        labels, probabilities = np.arange(n) % 2, np.full(n, 0.25)
        metrics = binary_metrics(labels, [probabilities], 0.25)
        html = render(
            small(metrics=metrics, labels=labels, probabilities=probabilities, threshold=0.25)
        )
        Page(html)
        assert not re.search(r"\b(nan|inf|None)\b", html)

    def test_works_with_an_audit_without_baselines(self):
        audit = {**AUDIT, "shortcuts": AUDIT["shortcuts"][1:], "pairs": [], "problems": []}
        text = Page(render(small(audit=audit))).text
        assert "no baseline, one size only" in text
        assert "Beside it" not in text

    def test_wrong_slices_come_most_wrong_first_and_the_rest_is_folded(self):
        items = [
            GalleryItem(f"{index}.png", 1, index / 100, False, FALSE_NEGATIVE, picture(side=8))
            for index in reversed(range(20))
        ]
        html = render(small(gallery=items))
        order = [int(name) for name in re.findall(r'alt="Slice (\d+)\.png', html)]
        assert order == list(range(20))
        assert "The other 8 (false negative)" in html
        assert html.index('alt="Slice 11.png') < html.index("The other 8")
        assert html.index("The other 8") < html.index('alt="Slice 12.png')

    def test_says_where_nothing_was_wrong(self):
        item = GalleryItem("a.png", 1, 0.9, True, CERTAIN_HEMORRHAGE, picture(side=8))
        text = Page(render(small(gallery=[item]))).text
        assert "No hemorrhage was missed." in text
        assert "No normal slice was called hemorrhage." in text

    def test_an_unknown_kind_is_refused(self):
        with pytest.raises(DataError, match="false negative.*Received: odd"):
            GalleryItem("a.png", 1, 0.5, True, "odd", b"")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"names": ["a"]}, "1 names for 60 labels"),
            ({"probabilities": np.full(60, np.nan)}, "are not numbers"),
            ({"probabilities": np.zeros(3)}, "3 predictions for 60 labels"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, values, message):
        with pytest.raises(DataError, match=message):
            small(**values)

    def test_many_slices_are_not_listed(self, monkeypatch):
        monkeypatch.setattr(html_report, "LISTED", 10)
        names = [f"slice-{index}" for index in range(60)]
        text = Page(render(small(names=names))).text
        assert "slice-7" not in text and "more than 10 slices" in text


class TestSummarySentence:
    def test_says_what_was_found_missed_and_raised_for_nothing(self):
        labels = np.array([1] * 10 + [0] * 10)
        probabilities = np.array([0.9] * 8 + [0.1] * 2 + [0.9] + [0.1] * 9)
        found = summary_sentence(binary_metrics(labels, [probabilities]))
        assert found.startswith(
            "Of 10 slices with hemorrhage the model found 8 and missed 2; of 10 without hemorrhage "
            "it called 1 hemorrhage: at a threshold of 0.5 it decided 85.0% rightly (95% interval "
        )
        assert found.count(". ") == 0

    def test_of_one_class_and_of_repeats(self):
        labels, repeats = np.ones(12, int), [np.full(12, 0.9), np.full(12, 0.1)]
        found = summary_sentence(binary_metrics(labels, repeats))
        assert "found 6 and missed 6, in the mean of 2 repeats: at" in found


class TestFlatten:
    def test_lists_leaves_as_json_writes_them(self):
        value = {"a": {"b": [1, 0.1 + 0.2, None]}, "c": "text", "d": True, "e": [], "f": {}}
        assert list(flatten(value)) == [
            ("a.b[0]", "1"),
            ("a.b[1]", "0.30000000000000004"),
            ("a.b[2]", "null"),
            ("c", "text"),
            ("d", "true"),
            ("e", "[]"),
            ("f", "{}"),
        ]


class TestCurves:
    @pytest.mark.parametrize("seed", range(3))
    def test_areas_are_those_of_the_curves(self, seed):
        labels, repeats = drawn(n=200, repeats=2, seed=seed)
        roc, pr = curves(labels, repeats, Resamples.make(200, None, 50))
        mean = np.mean([roc_auc_score(labels, one) for one in repeats])
        assert auc(roc.x, roc.y) == pytest.approx(mean, abs=0.005)
        expected = []
        for one in repeats:
            precision, recall, _ = precision_recall_curve(labels, one)
            # The precision where a recall is first reached, as scikit-learn's points have it.
            at = [precision[np.flatnonzero(recall >= level - 1e-9)[-1]] for level in pr.x[1:]]
            expected.append(at)
        assert pr.y[1:] == pytest.approx(np.mean(expected, axis=0))

    def test_bands_hold_the_curve_and_are_seeded(self):
        labels, repeats = drawn(n=80)
        first, again, other = (
            curves(labels, repeats, Resamples.make(80, None, 100, seed)) for seed in (0, 0, 1)
        )
        for one, same in zip(first, again, strict=True):
            assert np.all((one.low <= one.y) & (one.y <= one.high))
            assert np.array_equal(one.low, same.low)
        assert not np.array_equal(first[0].low, other[0].low)

    def test_few_patients_widen_the_band(self):
        labels, repeats = drawn(n=80)
        groups = np.arange(80) // 2 % 8
        wide = curves(labels, repeats, Resamples.make(80, groups, 200))[0]
        assert np.all(np.isfinite(wide.high - wide.low))

    def test_one_slice_of_each_class(self):
        roc, pr = curves(np.array([0, 1]), np.array([[0.2, 0.7]]), Resamples.make(2, None, 20))
        assert roc.y[-1] == 1 and pr.y[-1] == 1


class TestCharts:
    def test_an_interval_lies_where_it_should(self):
        chart = interval_chart("k", "t", [("accuracy", FIGURE, True)], span=(0.0, 1.0))
        (dot,) = [mark for mark in chart.marks if mark.element == "circle"]
        assert float(dot.attributes["cx"]) == pytest.approx(8 + 0.8 * 404, abs=0.06)
        assert "accuracy 80.0% (70.0% to 90.0%)" in chart.description

    def test_long_names_are_shortened_only_on_a_line_of_their_own(self):
        name = "size, format, border and gray levels"
        chart = interval_chart("k", "t", [(name, FIGURE, False), ("x" * 80, FIGURE, False)])
        texts = [mark.text for mark in chart.marks]
        assert name in texts
        assert "x" * 43 + "…" in texts

    def test_a_chart_of_nothing_says_so(self):
        assert interval_chart("k", "t", []).description == "There is nothing to show."

    def test_the_histogram_counts_every_slice(self):
        labels, repeats = drawn(n=50, repeats=2)
        chart = histogram_chart(labels, repeats, 0.5)
        heights = {
            style: sum(float(m.attributes["height"]) for m in chart.marks if m.style == style)
            for style in ("hemorrhage", "normal")
        }
        assert heights["hemorrhage"] == pytest.approx(heights["normal"], rel=0.02)

    def test_history_needs_two_epochs_and_takes_text(self):
        assert history_chart("loss", "Loss", [[{"loss": 1.0}]]) is None
        assert history_chart("loss", "Loss", []) is None
        rows = [{"loss": "0.5"}, {"loss": ""}, {"loss": math.nan}, {"loss": "0.25"}]
        chart = history_chart("loss", "Loss", [rows])
        line = next(mark for mark in chart.marks if mark.style == "training")
        assert line.attributes["d"].count("L") == 1
        assert "ends at training 0.250" in chart.description


class TestDataUris:
    def test_are_small_jpegs(self):
        (uri,) = data_uris([picture(side=600)])
        assert uri.startswith("data:image/jpeg;base64,")

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
    def test_take_every_mode(self, mode):
        (uri,) = data_uris([picture(side=40, mode=mode)])
        image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert image.size == (40, 40)

    def test_stay_together_under_the_limit(self):
        uris = data_uris([picture(seed, side=256) for seed in range(40)] * 10)
        assert sum(map(len, uris)) <= embedded_images.PICTURE_BYTES

    @pytest.mark.parametrize("bad", [b"", b"GIF89a", picture(side=32)[:80]])
    def test_what_is_no_picture_is_refused(self, bad):
        with pytest.raises(DataError, match="picture 1 of the gallery is no PNG or JPEG"):
            data_uris([picture(side=8), bad])


class TestWriteReport:
    def test_200_wrong_slices_stay_under_5_mb(self, tmp_path):
        labels, _ = drawn(n=200)
        probabilities = np.where(labels, 0.1, 0.9)
        pictures = [picture(seed, side=512, mode="RGB") for seed in range(10)]
        items = [
            GalleryItem(
                f"{index:03d}.png",
                int(label),
                float(probability),
                probability >= 0.5,
                FALSE_NEGATIVE if label else FALSE_POSITIVE,
                pictures[index % 10],
                pictures[(index + 1) % 10],
            )
            for index, (label, probability) in enumerate(zip(labels, probabilities, strict=True))
        ]
        content = small(
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

    def test_replaces_what_is_there_and_leaves_nothing_beside(self, tmp_path):
        path = tmp_path / "folder" / "report.html"
        write_report(path, small(title="first"))
        write_report(str(path), small(title="second"))
        assert "second" in path.read_text("utf-8")
        assert list(path.parent.iterdir()) == [path]

    def test_has_the_permissions_of_any_new_file(self, tmp_path):
        (tmp_path / "other").write_text("")
        path = write_report(tmp_path / "report.html", small())
        assert path.stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_takes_names_of_another_encoding(self, tmp_path):
        item = GalleryItem("a\udcff.png", 1, 0.1, False, FALSE_NEGATIVE, picture(side=8))
        path = write_report(tmp_path / "report.html", small(gallery=[item]))
        assert "a?.png" in path.read_text("utf-8")

    def test_a_folder_in_its_place_is_an_output_error(self, tmp_path):
        (tmp_path / "report.html").mkdir()
        with pytest.raises(OutputError, match="report.html: cannot be written .*Nothing was left"):
            write_report(tmp_path / "report.html", small())
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

    def test_a_full_disk_leaves_the_old_report(self, tmp_path, monkeypatch):
        path = write_report(tmp_path / "report.html", small(title="old"))

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full"):
            write_report(path, small(title="new"))
        assert "old" in path.read_text("utf-8")
        assert list(tmp_path.iterdir()) == [path]


def browse(tmp_path, *arguments, width=1280, height=2000):
    """Runs Chromium once, and gives what it wrote on both streams."""
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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
class TestInABrowser:
    @pytest.mark.parametrize("width", [390, 1280])
    def test_shows_all_without_an_error_and_without_scrolling_sideways(
        self, tmp_path, content, width
    ):
        path = write_report(tmp_path / "report.html", content)
        # The window is never narrower than 500 pixels, a frame is. The frame's own page may run no
        # script; that around it measures.
        frame = tmp_path / "frame.html"
        frame.write_text(
            f"<!DOCTYPE html><body style='margin:0'><iframe src='{path.name}' width='{width}' "
            "height='1800' style='border:0'></iframe><p id='found'></p><script>"
            "onload = () => { const page = document.querySelector('iframe').contentDocument;"
            "const images = [...page.images];"
            "document.querySelector('#found').textContent = JSON.stringify({"
            "inner: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,"
            "images: images.length, shown: images.filter(each => each.naturalWidth > 0).length,"
            "styled: getComputedStyle(page.querySelector('.tiles')).display}); };</script>"
        )
        out, log = browse(
            tmp_path, "--allow-file-access-from-files", "--dump-dom", frame.as_uri(), width=1400
        )
        found = json.loads(re.search(r'<p id="found">(.*?)</p>', out)[1])
        assert found["inner"] == width
        assert found["scroll"] <= width
        assert found["shown"] == found["images"] == 90
        assert found["styled"] == "grid"
        assert "CONSOLE" not in log

    def test_a_file_name_runs_nothing(self, tmp_path, content):
        path = write_report(tmp_path / "report.html", replace(content, title=EVIL))
        out, log = browse(tmp_path, "--dump-dom", path.as_uri())
        assert "<title>&lt;script&gt;alert(1)" in out
        assert "CONSOLE" not in log

    @pytest.mark.parametrize(("dark", "light"), [((), True), (("--force-dark-mode",), False)])
    def test_is_light_or_dark_as_the_system_is(self, tmp_path, dark, light):
        path = write_report(tmp_path / "report.html", small())
        shot = tmp_path / "shot.png"
        _, log = browse(tmp_path, *dark, f"--screenshot={shot}", path.as_uri(), height=1000)
        with Image.open(shot) as image:
            assert image.size == (1280, 1000)
            corner = image.convert("L").getpixel((3, 3))
        assert (corner > 200) if light else (corner < 60)
        assert "CONSOLE" not in log
