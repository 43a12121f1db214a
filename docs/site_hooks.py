"""Hooks of `mkdocs build`: add the pages made from the code, and those of files outside `docs`.

Pages are written so that their links also work in a checkout. A link that leads out of `docs` is
turned into one to the page that the site has of that file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import nbformat
import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]

# Files outside `docs`, by the page that the site has of each.
INCLUDED = {
    "examples/cluster.md": "examples/cluster/README.md",
    "examples/edge.md": "examples/edge/README.md",
    "examples/orthanc.md": "examples/orthanc/README.md",
    "examples/serving.md": "examples/serving/README.md",
    "examples/web.md": "examples/web/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
# Comments that a page has in the place of text from the code, such as `<!-- columns of FILE -->`.
FILLED = {
    "columns": reference_pages.columns_of,
    "table": lambda what: reference_pages.TABLES[what](),
    "docstring": reference_pages.module_doc,
    "words": lambda path: reference_pages.words_of((ROOT / path).read_text(encoding="utf-8")),
}
NOTEBOOK = "tutorials/article"
PAGE_OF = {path: page for page, path in INCLUDED.items()}
PAGE_OF[f"docs/{NOTEBOOK}.ipynb"] = f"{NOTEBOOK}.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the commands and the public names to the menu."""
    menu = next(each["Reference"] for each in config.nav or [] if "Reference" in each)
    for entry in menu:
        if isinstance(entry, dict) and "Commands" in entry:
            names = reference_pages.command_names()
            entry["Commands"] = [{name: f"reference/commands/{name}.md"} for name in names]
        if isinstance(entry, dict) and "Python" in entry:
            entry["Python"] = [f"reference/python/{room}.md" for room in reference_pages.rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file in `docs` has."""
    pages: dict[str, str | bytes] = {**reference_pages.reference_pages()}
    for page, path in INCLUDED.items():
        pages[page] = (ROOT / path).read_text(encoding="utf-8")
    pages |= notebook_pages(NOTEBOOK)
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def notebook_pages(name: str) -> dict[str, str | bytes]:
    """Return the page of a notebook, and its pictures, by path."""
    notebook = nbformat.read(ROOT / "docs" / f"{name}.ipynb", as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"output_files_dir": f"{posixpath.basename(name)}_files"}
    )
    folder = posixpath.dirname(name)
    pictures = {posixpath.join(folder, path): data for path, data in resources["outputs"].items()}
    download = f"[Download this notebook]({posixpath.basename(name)}.ipynb)"
    return {f"{name}.md": f"{text}\n{download}\n", **pictures}


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in what is made from the code, and turn links out of `docs` into links to pages."""
    source = INCLUDED.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    for kind, fill in FILLED.items():
        pattern = rf"<!-- {kind} of ([\w.]+) -->"
        markdown = re.sub(pattern, lambda match, fill=fill: fill(match[1]), markdown)
    return re.sub(
        r"\]\((?!\w+:|#)([^)#\s]*)(#[^)\s]*)?\)",
        lambda match: f"]({site_link(source, match[1], page)}{match[2] or ''})",
        markdown,
    )


def site_link(source: str, target: str, page: Page) -> str:
    """Return the link on the site for a link in a file of the checkout.

    Args:
        source: The file that holds the link, relative to the checkout.
        target: What it links to, relative to that file.
        page: The page of that file.
    """
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGE_OF:
        path = f"docs/{PAGE_OF[path]}"
    elif not path.startswith("docs/"):
        return target  # mkdocs warns of it
    return posixpath.relpath(
        path.removeprefix("docs/"), posixpath.dirname(page.file.src_uri) or "."
    )
