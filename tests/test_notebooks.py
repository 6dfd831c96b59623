"""Each notebook runs in a real kernel, and its outputs equal the committed ones.

A notebook on the recordings in the repository gives the same text in each run, and its metadata has
``"outputs": "exact"``. In other notebooks the text is compared without its numbers, and cells with
the tag ``varies`` are not compared.
"""

import re
from pathlib import Path

import pytest
from needs import require

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# a number with its sign and unit; 12.5 ms and 980 us have the same shape
NUMBER = re.compile(r"[-+]?\d[\d,.:eETZ+-]*(\s?(ns|us|ms|s|min|h|B|kB|MB|GB|%)\b)?\??")


def texts(cell):
    """Return the texts that a cell shows, and the kinds of its other outputs."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append((output.name, output.text))
        else:
            kinds = sorted(output.data)
            found.append((kinds, output.data.get("text/plain", "")))
    return found


def shape_of(text):
    return re.sub(r"[\s#]+", " ", NUMBER.sub("#", text)).strip()


def compared(notebook):
    """Return the texts that must be equal in each run."""
    exact = notebook.metadata.get("latprof", {}).get("outputs") == "exact"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        [(kind, text if exact else shape_of(text)) for kind, text in texts(cell)]
        for cell in code
        if "varies" not in cell.metadata.get("tags", [])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # packages of the kernel warn
def test_a_notebook_gives_its_committed_outputs(path):
    nbformat, nbclient = require("nbformat"), require("nbclient")
    require("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) < 25
    assert any(cell.outputs for cell in code)
    assert any("assert" in cell.source for cell in code)
    committed = compared(notebook)
    client = nbclient.NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        coalesce_streams=True,  # a slow kernel sends a line in two messages
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
    assert compared(notebook) == committed


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_shapes_of_texts_are_equal_if_only_numbers_differ():
    for one, other, same in (
        ("mean 12.5 ms, 99%", "mean 980 us, 98%", True),
        ("p99.9 1.19 ms? (a)", "p99.9 2 s (a)", True),
        ("store 1  2.5e+06", "store   -3,000  7", True),
        ("store 1", "parse 1", False),
        ("in 3 files", "in 3 folders", False),
    ):
        assert (shape_of(one) == shape_of(other)) is same
