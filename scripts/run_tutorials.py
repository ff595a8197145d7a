"""Executes the tutorials and stores their outputs in them.

  python scripts/run_tutorials.py                          all of docs/tutorials
  python scripts/run_tutorials.py predict own_dataset

Each runs in an empty folder, which is deleted afterwards.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from dynapurls_jax.commands import parser_of

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
RUNS = ROOT / "runs"  # colab_tpu looks for the project among the parents of its folder
TEXTS = ("text/plain", "text/markdown")
LARGEST = 200_000  # characters of a stored output; the page of a run is larger


def main() -> None:
    """Executes each notebook in an empty folder."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    parser = parser_of(__doc__)
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb")
    for name in parser.parse_args().names or sorted(file.stem for file in FOLDER.glob("*.ipynb")):
        file = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(file, as_version=nbformat.NO_CONVERT)
        RUNS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=RUNS) as folder:
            execute(notebook, Path(folder))
            store_outputs(notebook, {folder: ".", str(ROOT): "project"})
        nbformat.write(notebook, file)
        print(file)


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 1800) -> None:
    """Executes all cells in a folder.

    Args:
      timeout: of a cell, in seconds.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    resources = {"metadata": {"path": str(folder)}}
    with tempfile.TemporaryDirectory() as sockets:  # ports could be taken meanwhile
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        client = NotebookClient(
            notebook, timeout=timeout, startup_timeout=180, resources=resources, config=config
        )
        client.execute()


def store_outputs(notebook: nbformat.NotebookNode, places: dict[str, str]) -> None:
    """Reduces outputs to what a reader needs: no log lines, colours, times, paths or large pages.

    Args:
      places: paths of this machine, and their substitutes.

    Raises:
      ValueError: a cell printed a warning.
    """
    notebook.metadata.pop("language_info", None)  # of the Python that executed the notebook
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _kept(cell)
            for output in cell.outputs:
                _clean(output, ("text",), places)
                _clean(output.get("data", {}), TEXTS, places)


def _kept(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Outputs without log lines and large pages; pieces of printed text are put together."""
    kept: list[nbformat.NotebookNode] = []
    for output in cell.outputs:
        name = output.get("name")
        if name == "stderr" and "warning" in output.text.lower():
            raise ValueError(f"cell {cell.id} printed a warning: {output.text}")
        if name == "stdout" and kept and kept[-1].get("name") == name:
            kept[-1].text += output.text
        elif name != "stderr" and len(json.dumps(output)) < LARGEST:
            kept.append(output)
    return kept


def _clean(values: dict, keys: tuple[str, ...], places: dict[str, str]) -> None:
    for key in values.keys() & set(keys):
        values[key] = re.sub(r"\x1b\[[0-9;]*m", "", values[key])
        for path, name in places.items():
            values[key] = values[key].replace(path, name)


if __name__ == "__main__":
    main()
