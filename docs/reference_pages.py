"""The pages of the site that are made from the code: commands, public names, columns of tables.

`site_hooks.py` adds them to the site, so there is no file that could drift from the code.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

import hemorrhage_tf as htf
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.evaluation.explanations import EXPLANATIONS
from hemorrhage_tf.training import run_folder

PROGRAM = "hemorrhage-tf"

# Where the subpackages of the public names come in the menu, and under which title.
TITLES = {
    "verbs": "Verbs and their results",
    "training": "Settings of a fit",
    "inference": "Models and predictions",
    "evaluation": "Metrics and plots",
    "datasets": "Data sets",
    "imaging": "Images and windows",
    "auditing": "Audit",
    "exporters": "Exports",
    "synthesis": "Phantoms",
    "core": "Errors",
}


def reference_pages() -> dict[str, str]:
    """Return the Markdown of every page made from the code, by path, in the order of the menu."""
    return {
        **{f"reference/commands/{name}.md": command_page(name) for name in command_names()},
        **{f"reference/python/{room}.md": python_page(room) for room in rooms()},
    }


def command_names() -> list[str]:
    """Return the commands in the order of use."""
    return main.list_commands(click.Context(main))


def rooms() -> dict[str, list[str]]:
    """Return the public names by the subpackage that defines them, in the order of the menu."""
    found: dict[str, list[str]] = {}
    for name in htf.__all__:
        if name != "__version__":
            found.setdefault(home(name).split(".")[1], []).append(name)
    return {room: found[room] for room in sorted(found, key=list(TITLES).index)}


def home(name: str) -> str:
    """Return the full name under which a public name is defined."""
    return htf._MODULES.get(name) or f"{htf._HOMES[name]}.{name}"


def command_page(name: str) -> str:
    """Return the page of a command: what `--help` says, with the options in tables."""
    return "\n".join(_command(main, click.Context(main, info_name=PROGRAM), name, "#")) + "\n"


def _command(group: click.Group, parent: click.Context, name: str, level: str) -> Iterator[str]:
    command = group.get_command(parent, name)
    if command is None:
        raise KeyError(name)
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("[", "\\[")
    yield from (f"{level} {context.command_path}", "", text, "")
    yield from ("```text", usage, "```", "")
    yield from _options(command, context, f"{level}#")
    if command.epilog:
        lines = inspect.cleandoc(command.epilog).replace("\b\n", "").splitlines()
        yield from (
            f"{level}# Examples",
            "",
            "```",
            *(line.strip() for line in lines[1:]),
            "```",
            "",
        )
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _command(command, context, each, f"{level}#")


def _options(command: click.Command, context: click.Context, level: str) -> Iterator[str]:
    """Write a table of options for each group that `--help` shows."""
    title, rows = "Options", []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or isinstance(parameter, click.Argument) or parameter.name == "help":
            continue
        flags, text = (part.strip() for part in record)
        if flags.endswith(":"):  # the title of a group
            yield from _table(f"{level} {title}", rows)
            title, rows = flags.removesuffix(":"), []
        else:
            rows.append(f"| `{flags}` | {text.replace('|', chr(92) + '|')} |")
    yield from _table(f"{level} {title}", rows)


def _table(title: str, rows: list[str]) -> Iterator[str]:
    if rows:
        yield from (title, "", "| option | effect |", "|---|---|", *rows, "")


def python_page(room: str) -> str:
    """Return the page of the public names of a subpackage, for mkdocstrings to fill."""
    lines = [f"# {TITLES[room]}", ""]
    for name in rooms()[room]:
        lines += [f"::: {home(name)}", "    options:", f"      heading: htf.{name}"]
        lines += [f"      toc_label: {name}", ""]
    return "\n".join(lines)


def commands_table() -> str:
    """Return a table of the commands, linked from the front page of the reference."""
    lines = ["| command | does |", "|---|---|"]
    for name in command_names():
        command = main.get_command(click.Context(main), name)
        summary = command.short_help if command else ""
        lines.append(f"| [`{PROGRAM} {name}`](commands/{name}.md) | {summary} |")
    return "\n".join(lines)


def names_table() -> str:
    """Return a table of the public names, linked from the front page of the reference."""
    lines = ["| name | does, or is |", "|---|---|"]
    for room, names in rooms().items():
        for name in names:
            link = f"[`htf.{name}`](python/{room}.md#{home(name)})"
            lines.append(f"| {link} | {_first_sentence(name)} |")
    return "\n".join(lines)


def metrics_sections() -> str:
    """Return a section for each metric that `explain` knows, with its key as the anchor."""
    lines = []
    for one in EXPLANATIONS:
        lines += [f"### {one.title} {{ #{one.key} }}", "", one.meaning, ""]
        if one.formula:
            lines += [f"**Formula.** {one.formula}", ""]
        if one.source:
            lines += [f"**Source.** {one.source}", ""]
        if one.limits:
            lines += [f"**What it does not say.** {one.limits}", ""]
    return "\n".join(lines)


TABLES = {"commands": commands_table, "names": names_table, "metrics": metrics_sections}


def _first_sentence(name: str) -> str:
    """Return the first paragraph of a docstring, or the comment above a constant.

    The source is read, not imported, because the verbs import much.
    """
    module = home(name) if name in htf._MODULES else htf._HOMES[name]
    specification = find_spec(module)
    if specification is None or specification.origin is None:
        raise ModuleNotFoundError(module)
    source = Path(specification.origin).read_text(encoding="utf-8")
    tree = ast.parse(source)
    documented = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    if name in htf._MODULES:
        text = ast.get_docstring(tree) or ""
    elif name in documented:
        text = ast.get_docstring(documented[name]) or ""
    else:
        lines = source.splitlines()
        text = lines[lines.index(f"{name} = {{") - 1].removeprefix("# ")
    return text.split("\n\n")[0].replace("\n", " ")


def columns_of(file: str) -> str:
    """Return the columns of a CSV file of a run folder, in order."""
    columns = {
        "split.csv": run_folder.SPLIT_COLUMNS,
        "split.csv.scans": run_folder.SCAN_COLUMNS,
        "predictions.csv": run_folder.PREDICTION_COLUMNS,
        "scans.csv": run_folder.SCAN_PREDICTION_COLUMNS,
        "history.csv": run_folder.HISTORY_COLUMNS,
    }[file]
    return ", ".join(f"`{column}`" for column in columns)


def words_of(contributing: str) -> str:
    """Return the table of words in CONTRIBUTING.md.

    Args:
        contributing: The text of that file.
    """
    return contributing.split("\n## Glossary\n")[1].split("\n## ")[0].strip()


def module_doc(name: str) -> str:
    """Return the docstring of a module without its first line, which is Markdown."""
    return inspect.cleandoc(import_module(name).__doc__ or "").partition("\n\n")[2]
