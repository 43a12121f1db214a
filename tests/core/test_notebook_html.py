from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hemorrhage_tf.core.notebook_html import (
    color_scale,
    html_table,
    join_html,
    paragraph,
    side_by_side,
    thumbnail,
)


class Reader(HTMLParser):
    """Collects the tags, attributes and texts of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(ANY)
@settings(max_examples=50, deadline=None)
def test_values_are_shown_as_they_are_and_never_as_markup(value):
    html = join_html(
        value,
        html_table((value, "b"), [(value, 3)], value),
        paragraph(value),
        thumbnail(None, value, value),
        None,
    )
    read = Reader(html)
    allowed = {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert set(read.tags) <= allowed | {"figure", "figcaption", "em"}
    assert {name for name, _ in read.attributes} <= {"scope", "style"}
    assert "".join(read.texts).count(value) >= 6


@pytest.mark.parametrize("size", [(500, 300), (20, 40)])
def test_a_thumbnail_is_a_small_image_with_a_text(size):
    image = Image.fromarray(np.full((size[1], size[0]), 200, np.uint8))
    read = Reader(str(thumbnail(image, 'a "text"', "caption")))
    attributes = dict(read.attributes)
    assert attributes["alt"] == 'a "text"' and read.texts == ["caption"]
    content = base64.b64decode(attributes["src"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as shown:
        assert max(shown.size) <= 160
        assert shown.width / shown.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_nothing_side_by_side_is_nothing():
    assert side_by_side([]) is None
    assert str(side_by_side([paragraph("a"), paragraph("b")])) == "<div><p>a</p><p>b</p></div>"


def test_the_color_scale_names_its_ends():
    html = str(color_scale([(1, 2, 3), (4, 5, 6)], "0", "30+", "Evidence"))
    assert "linear-gradient(to right, rgb(1, 2, 3), rgb(4, 5, 6))" in html
    assert " ".join(re.sub("<[^>]*>", "", html).split()) == "Evidence: 0 30+"
