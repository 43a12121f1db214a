"""HTML that results show of themselves in a notebook: tables and images, all values escaped.

There is no script and no style sheet, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

_THUMBNAIL = 160  # pixels of the longer side
_QUALITY = 80  # of the JPEG


def join_html(title: str, *parts: Markup | None) -> str:
    """Join the parts below a title; None is left out."""
    from markupsafe import Markup

    heading = Markup("<p><strong>{}</strong></p>").format(title)
    body = Markup("\n").join([heading, *(part for part in parts if part is not None)])
    return str(Markup("<div>{}</div>").format(body))


def paragraph(text: str) -> Markup:
    """Return a paragraph."""
    from markupsafe import Markup

    return Markup("<p>{}</p>").format(text)


def html_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = ""
) -> Markup:
    """Return a table; the first cell of a row is its heading.

    Args:
        headings: Of the columns.
        rows: The cells.
        caption: Above the table. Defaults to none.
    """
    from markupsafe import Markup

    def cells(row: Sequence[object]) -> Markup:
        first = Markup('<th scope="row" style="text-align: left">{}</th>').format(row[0])
        return first + Markup("").join(Markup("<td>{}</td>").format(each) for each in row[1:])

    head = Markup("").join(Markup('<th scope="col">{}</th>').format(each) for each in headings)
    body = Markup("\n").join(Markup("<tr>{}</tr>").format(cells(row)) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else Markup("")
    return Markup("<table>{}<thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table>").format(
        title, head, body
    )


def thumbnail(image: Image.Image | None, text: str, caption: str) -> Markup:
    """Return a small image with a caption below it.

    Args:
        image: The image; None if it is not available.
        text: What it shows, for readers who cannot see it.
        caption: The caption.
    """
    from markupsafe import Markup

    shown = Markup("<em>not available</em>")
    if image is not None:
        small = image.convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=_QUALITY)
        content = base64.b64encode(file.getvalue()).decode("ascii")
        shown = Markup('<img src="data:image/jpeg;base64,{}" alt="{}">').format(content, text)
    figure = '<figure style="display: inline-block; margin: 4px; vertical-align: top">{}{}</figure>'
    return Markup(figure).format(shown, Markup("<figcaption>{}</figcaption>").format(caption))


def side_by_side(parts: Iterable[Markup]) -> Markup | None:
    """Return parts in a row that wraps; None without any."""
    from markupsafe import Markup

    joined = Markup("").join(parts)
    return Markup("<div>{}</div>").format(joined) if joined else None


def color_scale(colors: Sequence[tuple[int, int, int]], low: str, high: str, text: str) -> Markup:
    """Return a color bar in a line of text.

    Args:
        colors: RGB in [0, 255], from the low end to the high end.
        low: Label of the low end.
        high: Label of the high end.
        text: What it is.
    """
    from markupsafe import Markup

    steps = ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in colors)
    bar = Markup(
        '<span style="display: inline-block; width: 160px; height: 12px; '
        'background: linear-gradient(to right, {})"></span>'
    ).format(steps)
    return Markup("<p>{}: {} {} {}</p>").format(text, low, bar, high)
