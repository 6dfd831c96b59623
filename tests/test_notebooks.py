"""Each notebook runs in a real kernel; its cells assert the story's numbers."""

from pathlib import Path

import pytest
from needs import require

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_notebook_runs_and_is_committed_with_outputs(path, tmp_path):
    nbformat, nbclient = require("nbformat"), require("nbclient")
    require("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) < 25
    assert any(cell.outputs for cell in code)
    assert any("assert" in cell.source for cell in code)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds


def test_there_are_notebooks():
    assert NOTEBOOKS
