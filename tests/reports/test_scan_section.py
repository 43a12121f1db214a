from __future__ import annotations

import re

import pytest
from report_examples import draw_levels, full_content, minimal_content

from hemorrhage_tf.reports.html_report import render
from hemorrhage_tf.reports.scan_section import (
    describe_size,
    details_section,
    overview,
    sensitivity_charts,
)


@pytest.fixture(scope="module")
def html():
    return render(full_content())


def test_sizes_in_words():
    assert describe_size({"least": 20, "most": 44}) == "20 to 44"
    assert describe_size({"least": 180, "most": None}) == "180 or more"


def test_overview_compares_the_levels():
    table = overview(full_content())
    assert table["names"] == ["slices alone", "slices in their scans", "scans"]
    assert table["counts"][2] == "30, 12 with hemorrhage"
    name, _, percent, metrics = table["rows"][0]
    assert (name, percent) == ("Sensitivity", True)
    assert [metric["n"] for metric in metrics] == [30, 53, 12]
    assert overview(minimal_content()) is None


def test_details_name_their_level():
    _, details = draw_levels()
    section = details_section(details)
    assert [row[0] for row in section["rows"]] == [
        "Normal scans flagged",
        "Flagged slices per normal scan, slices alone",
        "Flagged slices per normal scan, slices in their scans",
        "Specificity at a sensitivity of 90%",
        "Specificity at a sensitivity of 95%",
    ]
    # Subtypes that do not occur have a row, and no mark in the charts.
    assert [name for name, _ in section["subtypes"]] == ["epidural", "intraparenchymal", "subdural"]
    charts = sensitivity_charts(details)
    assert len(charts) == 3
    assert "subdural" not in charts[0].description
    assert sensitivity_charts(None) == []
    assert details_section(None) is None


class TestPage:
    def test_each_level_has_a_section_and_a_link(self, html):
        for name in ("slices_in_scans", "scans", "details"):
            assert f'<section id="{name}"' in html and f'href="#{name}"' in html

    def test_ids_are_unique(self, html):
        ids = re.findall(r'\bid="([^"]+)"', html)
        assert len(ids) == len(set(ids)) > 40

    def test_scans_are_listed(self, html):
        assert "Show all 2 scans as a list, wrong ones first" in html
        assert "series 2" in html and "<script>" not in html

    def test_comparisons_have_headings(self, html):
        assert "<h3>Slices alone</h3>" in html and "<h3>Scans</h3>" in html

    def test_a_single_level_has_none_of_it(self):
        html = render(minimal_content())
        for part in ('id="details"', 'id="slices_in_scans"', "Slices alone", "slices alone"):
            assert part not in html
