"""The examples in the docstrings of the plots run and print what they show."""

from __future__ import annotations

import doctest
import shutil

import pytest

from hemorrhage_tf.evaluation import plots

# These predict slices of a run.
WITH_A_RUN = ("plot_forest", "plot_roc", "plot_scan", "plot_slices")


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """A folder with slices, a series and a run, for the examples that read them."""
    monkeypatch.chdir(tmp_path)
    if request.node.callspec.params["name"] in WITH_A_RUN:
        head, write_series = map(request.getfixturevalue, ("head", "write_series"))
        shutil.copytree(request.getfixturevalue("kaggle_once"), tmp_path / "head_ct")
        shutil.copytree(request.getfixturevalue("fit_once")(), tmp_path / "runs" / "first")
        write_series(tmp_path / "series", [head(index) for index in range(5)])
    return tmp_path


@pytest.mark.parametrize("name", plots.__all__)
def test_docstring_example(name, folder):
    text = getattr(plots, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {"__name__": name}, name, None, None)
    assert test.examples, f"{name} has no example"
    printed: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
    assert not printed, "".join(printed)
