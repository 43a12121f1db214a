"""The HTML report and the audit page: rendering to one self-contained file, and writing it.

A page needs no script, no style sheet and no image from elsewhere. Charts are shapes computed in
`charts`, which `templates/charts.html` writes as SVG; the texts are in `templates/report.html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.atomic_files import write_text_atomically
from hemorrhage_tf.reports.number_formats import (
    NOT_AVAILABLE,
    format_change,
    format_count,
    format_metric,
    format_number,
    format_p_value,
    format_percent,
    format_quantity,
)
from hemorrhage_tf.reports.report_content import ReportContent
from hemorrhage_tf.reports.report_sections import UNFOLDED_ITEMS, audit_section, report_sections

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Write a report as an HTML file.

    Args:
        path: Of the HTML file. An existing file is replaced; missing folders are created.
        content: Of the report.

    Returns:
        The path.

    Raises:
        OutputError: If the file cannot be written. No partial file is left behind.
        DataError: If an image of the gallery is not a PNG or JPEG.
    """
    path = Path(path)
    write_text_atomically(path, render(content))
    return path


def write_audit_page(path: str | Path, title: str, audit: Mapping[str, Any]) -> Path:
    """Write an audit as an HTML file.

    Args:
        path: Of the HTML file. An existing file is replaced; missing folders are created.
        title: Name of the audited data.
        audit: `Audit.to_dict()`.

    Returns:
        The path.

    Raises:
        OutputError: If the file cannot be written. No partial file is left behind.
    """
    path = Path(path)
    values = {
        "title": title,
        "counts": audit,
        "audit": audit_section(audit, None),
        "unfolded": UNFOLDED_ITEMS,
    }
    write_text_atomically(path, _environment().get_template("audit.html").render(values))
    return path


def render(content: ReportContent) -> str:
    """Return the HTML of a report."""
    return _environment().get_template("report.html").render(report_sections(content))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hemorrhage_tf.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["not_available"] = NOT_AVAILABLE
    environment.filters.update(
        metric=format_metric,
        percent=format_percent,
        quantity=format_quantity,
        number=format_number,
        change=format_change,
        count=format_count,
        p_value=format_p_value,
    )
    return environment
