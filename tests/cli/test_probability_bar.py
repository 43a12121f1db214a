from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from hemorrhage_tf.cli.console import create_console
from hemorrhage_tf.cli.probability_bar import ProbabilityBar


def show(probabilities, flagged=None, encoding="utf-8", **options) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=file, **{"width": 80, **options})
    console.print(ProbabilityBar(probabilities, flagged or [False] * len(probabilities)))
    file.flush()
    return file.buffer.getvalue().decode(encoding).rstrip("\n")


def test_a_block_for_each_slice():
    assert show([0, 0.124, 0.126, 0.5, 0.999, 1]) == "  neck ▁▁▂▅██ vertex"


def test_digits_where_the_encoding_has_no_blocks():
    assert show([0, 0.124, 0.5, 0.999, 1], encoding="ascii") == "  neck 01599 vertex"


@pytest.mark.parametrize(("count", "width"), [(60, 80), (61, 80), (400, 80), (90, 40), (3, 17)])
def test_neighbors_share_a_character_that_shows_the_highest(count, width):
    probabilities = np.zeros(count)
    probabilities[count // 2] = 0.95
    line = show(probabilities, width=width)
    blocks = line.removeprefix("  neck ").removesuffix(" vertex")
    assert len(line) <= width and len(blocks) <= min(count, 60)
    assert blocks.count("█") == 1
    assert abs(blocks.index("█") / len(blocks) - 0.5) < 0.5 / len(blocks) + 0.05


def test_flagged_slices_are_red():
    terminal = {"force_terminal": True, "color_system": "standard"}
    shown = show([0.1, 0.9, 0.1], [False, True, False], **terminal)
    assert "\x1b[1;31m█\x1b[0m" in shown
    assert shown.count("\x1b[1;31m") == 1


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_output_is_plain_where_it_should_be(monkeypatch, capsys, variable, value):
    for name, one in (("FORCE_COLOR", "1"), ("TERM", "xterm"), (variable, value)):
        monkeypatch.setenv(name, one)
    create_console().print("[bold red]text[/]")
    assert capsys.readouterr().out == "text\n"
