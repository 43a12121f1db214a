"""Axes to draw on, and models to plot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def axes() -> Iterator:
    """Axes of a figure without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(3.5, 3.3)).subplots()


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """Closes the figures of a test that asked for new axes."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")
