"""Tutorial notebooks and their cells' outputs."""

import os
import sys
from pathlib import Path

import nbformat

from scripts.run_tutorials import FOLDER, execute


def read_tutorial(name):
    """A notebook, and its cells by id."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    return notebook, {cell.id: cell for cell in notebook.cells}


def executed(notebook, folder, monkeypatch):
    """Executes all cells in a folder, without installing anything."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    execute(notebook, folder, timeout=600)


def shown(cell, kind):
    """Output of an executed cell; `kind` is such as text/markdown, or "stream" for printed results.

    Log lines, which go to standard error, are left out.
    """
    if kind == "stream":
        return "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
    return "\n".join(out.data[kind] for out in cell.outputs if kind in out.get("data", {}))
