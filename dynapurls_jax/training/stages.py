"""A stage of training as a folder: what it is made from, whether it is done, what came out."""

import json
from pathlib import Path
from typing import Any


class CheckpointError(RuntimeError):
    """A checkpoint is there but cannot be read."""


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
        self._file = folder / "stage.json"
        record = json.loads(self._file.read_text()) if self._file.exists() else None
        if record is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(None)
        elif record["identity"] != self.identity:
            differences = "\n".join(_differences("", record["identity"], self.identity))
            raise WorkdirMismatchError(
                f"{folder} was made from another configuration:\n{differences}\n"
                "Choose another folder, or delete that one to make it again."
            )

    def _write(self, results: dict | None) -> None:
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"identity": self.identity, "results": results}, indent=1))
        temporary.replace(self._file)

    @property
    def results(self) -> dict | None:
        """What the stage ended with; None while it is not done."""
        return json.loads(self._file.read_text())["results"]

    def finish(self, results: dict) -> None:
        """Marks the stage as done."""
        self._write(results)


def stage_is_done(folder: Path) -> bool:
    """Whether a finished stage is in this folder, of whatever identity."""
    file = folder / "stage.json"
    return file.exists() and json.loads(file.read_text())["results"] is not None


def _differences(prefix: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        rows = []
        for key in sorted({*old, *new}):
            rows += _differences(f"{prefix}.{key}" if prefix else key, old.get(key), new.get(key))
        return rows
    return [] if old == new else [f"  {prefix}: it has {old!r}, asked for {new!r}"]
