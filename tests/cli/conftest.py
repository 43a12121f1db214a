"""Fixtures for the command line: one call runs a command, most of them on a shared run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hemorrhage_tf.cli.main import main


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Run a command in this process, and return its exit code and what it printed."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return call


@pytest.fixture(scope="session")
def run_folder(fit_once) -> Path:
    return fit_once()


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options of a small fit."""
    return ("--backbone", "tiny", "--image-size", "32", "--views", "1", "--no-audit")
