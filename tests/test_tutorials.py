"""The tutorials: what is stored in all, and the cells of those that train and add methods."""

import re

import nbformat
import pytest

from scripts.run_tutorials import FOLDER
from tests.helpers.notebooks import executed, read_tutorial, shown

NAMES = sorted(file.stem for file in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stored_without_paths_and_warnings(name):
    notebook, cells = read_tutorial(name)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in cells.values() if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any(cell.outputs for cell in code)
    for cell in code:
        assert not any(output.get("name") == "stderr" for output in cell.outputs)
        printed = shown(cell, "stream") + shown(cell, "text/markdown")
        assert not re.search(r"(?<!\.)/(home|root|tmp|work)/|[Ww]arning|\x1b", printed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own_dataset", "test_time_method", "zero_shot_method"])
def test_all_cells_run(name, tmp_path, monkeypatch):
    notebook, cells = read_tutorial(name)
    last = [cell for cell in cells.values() if cell.cell_type == "code"][-1]
    stored = shown(last, "stream")
    executed(notebook, tmp_path, monkeypatch)
    assert shown(last, "stream").count("\n") == stored.count("\n")
