"""A stage of training as a folder: its identity, whether it is finished, its results."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data_pipelines.atomic import write_text
from data_pipelines.errors import DataError


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is not finite; says in which step and where its replay is kept."""


_FILE = "stage.json"


class WorkdirMismatchError(ValueError):
    """The folder holds the work of another configuration."""


class Stage:
    """One stage's folder, with `stage.json` inside.

    The file is written when the stage starts, with the identity of everything that it is made
    from, and again when it is finished, with its results.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """Opens or starts the stage.

        Args:
          folder: created if needed.
          identity: JSON-able; what the stage depends on.

        Raises:
          WorkdirMismatchError: the folder was made from something else; names what differs.
          DataError: its record is damaged.
        """
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        if not (folder / _FILE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._write(None)
        elif (before := _record(folder)["identity"]) != self.identity:
            differing = "\n".join(f"  {line}" for line in differences(before, self.identity))
            raise WorkdirMismatchError(
                f"{folder} was made from another configuration:\n{differing}\n"
                "Choose another folder, or delete that one to make it again."
            )

    def _write(self, results: dict | None) -> None:
        record = {"identity": self.identity, "results": results}
        write_text(self.folder / _FILE, json.dumps(record, indent=1))

    @property
    def results(self) -> dict | None:
        """The results of a finished stage; None before."""
        return _record(self.folder)["results"]

    def finish(self, results: dict) -> None:
        """Marks the stage as finished."""
        self._write(results)


def stage_folder(parent: Path, name: str, identity: dict[str, Any]) -> Path:
    """`parent / "<name>-<hash>"`: several settings of a part have a folder each.

    Args:
      name: of the part; the colon of an import path becomes a dot.
    """
    return parent / f"{name.replace(':', '.')}-{identity_hash(identity)}"


def open_stage(parent: Path, name: str, identity: dict[str, Any]) -> Stage:
    """The stage of this identity, opened or started.

    A new one beside stages of the same name says by which settings it differs from the latest.
    """
    folder = stage_folder(parent, name, identity)
    name = folder.name.rpartition("-")[0]
    if not (folder / _FILE).exists():
        others = sorted(parent.glob(f"{name}-*/{_FILE}"), key=lambda file: file.stat().st_mtime)
        if others:
            before = _record(others[-1].parent)["identity"]
            lines = differences(before, json.loads(json.dumps(identity)))
            print(f"  new {folder.name} beside {others[-1].parent.name}: {'; '.join(lines)}")
    return Stage(folder, identity)


def identity_hash(identity: dict[str, Any]) -> str:
    """A short hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def results_of(folder: Path) -> dict | None:
    """The results of a finished stage; None if there is no such stage, or it is not finished."""
    return _record(folder)["results"] if (folder / _FILE).exists() else None


def _record(folder: Path) -> dict:
    """The content of `stage.json`.

    Raises:
      DataError: it is damaged.
    """
    try:
        record = json.loads((folder / _FILE).read_text("utf-8"))
        return {"identity": record["identity"], "results": record["results"]}
    except (ValueError, LookupError, TypeError) as error:
        reason = f"damaged ({error}); to make that stage again, delete {folder}"
        raise DataError(reason, folder / _FILE) from error


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """How two JSON values differ, a line for each key."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted({*old, *new}):
            path = f"{prefix}.{key}" if prefix else key
            lines += differences(old.get(key), new.get(key), path)
        return lines
    return [] if old == new else [f"{prefix}: it has {old!r}, expected {new!r}"]
