"""Run the commands and the Python of pages, and write what they print into the pages.

    python docs/run_pages.py [PAGE...]
    python docs/run_pages.py --real SHARED README.md

A page is run from its top to its end, in a new folder with the data sets of `docs/sandbox.py`:

- in a block ```` ```console ````, each line after `$ ` runs, and what it prints stands below it;
  a line `...` stands for lines that are left out;
- in a block ```` ```sh ````, each command runs, and its output is not shown;
- the blocks ```` ```python ```` and ```` ```pycon ```` of a page share their variables. What a
  `pycon` block prints must be what stands there.

Commands of other programs, such as `pip` and `docker`, are not run.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ELLIPSIS = "..."
# Programs that a page may run.
PROGRAMS = ("hemorrhage-tf", "python", "ls", "head", "cat")
# Two machines agree on a printed number to this share of it, or to this difference.
RELATIVE, ABSOLUTE = 0.05, 0.03
_BLOCK = re.compile(r"^```(console|sh|python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


class PageError(Exception):
    """A command or a block of a page that failed."""


@dataclass(frozen=True)
class Command:
    """A command of a block.

    Attributes:
        line: As it stands in the page, with continued lines.
        output: What the page says that it prints.
    """

    line: str
    output: tuple[str, ...] = ()


def commands(language: str, block: str) -> list[Command]:
    """Return the commands of a `console` or `sh` block."""
    found: list[Command] = []
    lines = iter(block.splitlines())
    for line in lines:
        if language == "console" and not line.startswith("$ "):
            if not found:
                raise PageError(f"output before the first command: {line}")
            found[-1] = Command(found[-1].line, (*found[-1].output, line))
        elif line.strip():
            while line.endswith("\\"):
                line += "\n" + next(lines)
            found.append(Command(line.removeprefix("$ ")))
    return found


def run_page(text: str, folder: Path) -> str:
    """Run a page in a folder, and return its text with the output of this run.

    Raises:
        PageError: A command or a block failed.
    """
    names: dict[str, object] = {"__name__": "page"}

    def run(match: re.Match[str]) -> str:
        language, block = match.groups()
        if language == "python":
            run_python(block, names)
            return match[0]
        if language == "pycon":
            run_session(block, names)
            return match[0]
        lines: list[str] = []
        for command in commands(language, block):
            lines.append(f"$ {command.line}" if language == "console" else command.line)
            printed = run_command(command.line, folder)
            if language == "console":
                lines += elide(printed, command.output)
        return "\n".join([f"```{language}", *lines, "```"])

    with contextlib.chdir(folder):
        return _BLOCK.sub(run, text)


def run_python(block: str, names: dict[str, object]) -> None:
    """Run a block of Python; what it prints is not shown."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(block, "page", "exec"), names)
    except Exception as error:
        raise PageError(f"{type(error).__name__}: {error}\n{block}") from error


def run_session(block: str, names: dict[str, object]) -> None:
    """Run a Python session, and compare what it prints with what stands there."""
    session = doctest.DocTestParser().get_doctest(block, names, "page", None, None)
    printed: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(
        session, out=printed.append, clear_globs=False
    )
    if printed:
        raise PageError("".join(printed))


def run_command(line: str, folder: Path) -> list[str]:
    """Run a command and return the lines that it prints.

    Raises:
        PageError: It failed.
    """
    program = shlex.split(line, comments=True)[0]
    if program not in PROGRAMS:
        return []
    if program == "hemorrhage-tf" and not re.search(r"[|>]|&&", line):
        code, output = run_in_process(shlex.split(line.replace("\\\n", " "), comments=True)[1:])
    else:
        paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            line, shell=True, cwd=folder, env={**os.environ, "PATH": paths},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        code, output = done.returncode, done.stdout
    if code:
        raise PageError(f"$ {line}\n{output}(exit code {code})")
    return [each.rstrip() for each in output.replace(str(folder), ".").strip("\n").splitlines()]


def run_in_process(arguments: list[str]) -> tuple[int, str]:
    """Run `hemorrhage-tf` in this process, which has imported what it needs; return its output."""
    from click.testing import CliRunner

    from hemorrhage_tf.cli.main import main
    from hemorrhage_tf.core import progress

    progress.LINE_EVERY_SECONDS = float("inf")  # how long a stage takes differs between machines
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise PageError(f"hemorrhage-tf {shlex.join(arguments)}") from result.exception
    return result.exit_code, result.output


def elide(printed: list[str], shown: tuple[str, ...]) -> list[str]:
    """Leave out the lines that the page leaves out, between the parts that it shows.

    The first part begins with the first line, and the last one ends with the last line. Any other
    begins with the first line that agrees with its own first one.
    """
    parts = list(_split_at_ellipses(shown))
    if len(parts) == 1:
        return printed
    first, *middle, last = parts
    lines = [*printed[: len(first)], ELLIPSIS]
    for part in middle:
        begin = next((n for n, line in enumerate(printed) if _agree(part[0], line)), len(printed))
        lines += [*printed[begin : begin + len(part)], ELLIPSIS]
    return [*lines, *(printed[-len(last) :] if last else [])]


def _split_at_ellipses(shown: tuple[str, ...]) -> Iterator[list[str]]:
    part: list[str] = []
    for line in shown:
        if line == ELLIPSIS:
            yield part
            part = []
        else:
            part.append(line)
    yield part


def differences(page: str, run: str) -> Iterator[str]:
    """Yield the lines of a page that differ from those of a run by more than rounding."""
    old, new = page.splitlines(), run.splitlines()
    if len(old) != len(new):
        yield f"{len(old)} lines, now {len(new)}"
    for before, after in zip(old, new, strict=False):
        if before != after and not _agree(before, after):
            yield f"- {before}\n+ {after}"


def _agree(before: str, after: str) -> bool:
    if _NUMBER.sub("0", before).split() != _NUMBER.sub("0", after).split():
        return False
    pairs = zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True)
    numbers = [tuple(float(text.replace(",", "")) for text in pair) for pair in pairs]
    return all(abs(a - b) <= max(ABSOLUTE, RELATIVE * abs(a)) for a, b in numbers)


def pages() -> list[Path]:
    """Return the pages that have something to run."""
    return [path for path in sorted(DOCS.rglob("*.md")) if _BLOCK.search(path.read_text())]


def main(arguments: list[str]) -> None:
    """Run the named pages, or all of the docs, each in a new folder."""
    from sandbox import build_sandbox, cache_of, enter_real_data, enter_sandbox

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--real", type=Path, help="folder of the real data that README.md uses")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        if options.real is None:
            build_sandbox(Path(work, "data"))
        for number, path in enumerate([each.resolve() for each in options.pages] or pages()):
            folder = Path(work, str(number))
            if options.real is None:
                enter_sandbox(Path(work, "data"), folder)
            else:
                enter_real_data(options.real, folder)
            os.environ["HEMORRHAGE_TF_CACHE"] = str(cache_of(folder))
            text = path.read_text(encoding="utf-8")
            path.write_text(run_page(text, folder), encoding="utf-8")
            print(path.name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
