"""A stage of training as a folder: what it is made from, whether it is done, what came out."""

import json
import uuid
from pathlib import Path
from typing import Any

from data_pipelines.errors import DataError


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is not a number; says in which step and where a replay of it lies."""


_FILE = "stage.json"


class WorkdirMismatchError(ValueError):
    """The folder holds the work of another configuration."""


class Stage:
    """One stage's folder, with `stage.json` inside.

    The file is written when the stage starts, with the identity of everything that it is made
    from, and again when it is done, with its results; opening the folder with another identity is
    an error, so that results never come from a mixture of configurations.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """Opens or starts the stage.

        Args:
          folder: created if needed.
          identity: JSON-able; what the stage depends on.

        Raises:
          WorkdirMismatchError: the folder was made from something else; names what differs.
        """
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        if not (folder / _FILE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._write(None)
        elif (before := _record(folder)["identity"]) != self.identity:
            differences = "\n".join(_differences("", before, self.identity))
            raise WorkdirMismatchError(
                f"{folder} was made from another configuration:\n{differences}\n"
                "Choose another folder, or delete that one to make it again."
            )

    def _write(self, results: dict | None) -> None:
        record = {"identity": self.identity, "results": results}
        write_whole(self.folder / _FILE, json.dumps(record, indent=1))

    @property
    def results(self) -> dict | None:
        """What the stage ended with; None while it is not done."""
        return _record(self.folder)["results"]

    def finish(self, results: dict) -> None:
        """Marks the stage as done."""
        self._write(results)


def stage_is_done(folder: Path) -> bool:
    """Whether a finished stage is in this folder, of whatever identity."""
    return (folder / _FILE).exists() and _record(folder)["results"] is not None


def write_whole(file: Path, text: str) -> None:
    """Writes a file whole or not at all; several processes may write the same at once."""
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _record(folder: Path) -> dict:
    """What `stage.json` says.

    Raises:
      DataError: it is damaged.
    """
    try:
        record = json.loads((folder / _FILE).read_text("utf-8"))
        return {"identity": record["identity"], "results": record["results"]}
    except (ValueError, LookupError, TypeError) as error:
        reason = f"damaged ({error}); to make that stage again, delete {folder}"
        raise DataError(reason, folder / _FILE) from error


def _differences(prefix: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        rows = []
        for key in sorted({*old, *new}):
            rows += _differences(f"{prefix}.{key}" if prefix else key, old.get(key), new.get(key))
        return rows
    return [] if old == new else [f"  {prefix}: it has {old!r}, asked for {new!r}"]
