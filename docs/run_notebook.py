"""Run the notebook of the article's experiment, and keep what it prints and draws.

    RESNET152_WEIGHTS=resnet152.weights.h5 python docs/run_notebook.py DATA

DATA is the Kaggle head-CT set. Without the variable, Keras downloads the weights. The notebook
shows metrics and curves, but no slices.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent / "tutorials" / "article.ipynb"


def run_notebook(data: Path) -> nbformat.NotebookNode:
    """Run the notebook on a data set in a temporary folder, and return it with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "head_ct").symlink_to(data.resolve())
        client = NotebookClient(
            notebook, timeout=None, resources={"metadata": {"path": folder}}, record_timing=False
        )
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # What libraries say of this machine is no part of the experiment.
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """Return all text that the cells of a notebook printed."""
    return "\n".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


if __name__ == "__main__":
    nbformat.write(run_notebook(Path(sys.argv[1])), NOTEBOOK)
