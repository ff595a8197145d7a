"""The folder of a training stage, which records its identity and its results."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data_pipelines import stored
from data_pipelines.logs import log


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written."""


class NonFiniteError(RuntimeError):
    """A loss or gradient is not finite; the message has the step and the folder of its report."""


_FILE = "stage.json"


class WorkdirMismatchError(ValueError):
    """The folder contains a stage of another configuration."""


class Stage:
    """The folder of a stage, with `stage.json`.

    The file is written when the stage starts, with its identity, and again when it is finished,
    with its results.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """Opens or starts the stage.

        Args:
          folder: folder of the stage; created if needed.
          identity: everything that the stage depends on, as JSON values.

        Raises:
          WorkdirMismatchError: the folder has another identity; the message lists the differences.
          DamagedError: `stage.json` is damaged.
        """
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        if not (folder / _FILE).exists():
            self.finish(None)
        elif (before := _record(folder)["identity"]) != self.identity:
            differing = "\n".join(f"  {line}" for line in differences(before, self.identity))
            raise WorkdirMismatchError(
                f"{folder} was made from another configuration:\n{differing}\n"
                "Choose another folder, or delete that one to make it again."
            )

    @property
    def results(self) -> dict | None:
        """The results of a finished stage; None if it is not finished."""
        return _record(self.folder)["results"]

    def finish(self, results: dict | None) -> None:
        """Marks the stage as finished; as started if there are no results."""
        record = {"identity": self.identity, "results": results}
        stored.write_json(self.folder / _FILE, record)


def stage_folder(parent: Path, name: str, identity: dict[str, Any]) -> Path:
    """`parent / "<name>-<hash of the identity>"`: each set of settings has its own folder.

    Args:
      name: name of the encoder or method; the colon of an import path becomes a dot.
    """
    return parent / f"{name.replace(':', '.')}-{identity_hash(identity)}"


def open_stage(parent: Path, name: str, identity: dict[str, Any]) -> Stage:
    """Opens or starts the stage of an identity.

    If the stage is new and others have the same name, the differences to the latest are printed.

    Raises:
      DamagedError: `stage.json` is damaged.
    """
    folder = stage_folder(parent, name, identity)
    name = folder.name.rpartition("-")[0]
    if not (folder / _FILE).exists():
        others = sorted(parent.glob(f"{name}-*/{_FILE}"), key=lambda file: file.stat().st_mtime)
        if others:
            before = _record(others[-1].parent)["identity"]
            lines = differences(before, json.loads(json.dumps(identity)))
            log.info(
                f"  new stage {folder.name}; differences to {others[-1].parent.name}: "
                f"{'; '.join(lines)}"
            )
    return Stage(folder, identity)


def identity_hash(identity: dict[str, Any]) -> str:
    """A short hash of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def results_of(folder: Path) -> dict | None:
    """The results of a finished stage; None if the stage does not exist or is not finished."""
    return _record(folder)["results"] if (folder / _FILE).exists() else None


def _record(folder: Path) -> dict:
    """The content of `stage.json`.

    Raises:
      DamagedError: it is not what was written.
    """
    return stored.read_json(folder / _FILE, f"to make that stage again, delete {folder}")


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The differences of two JSON values, one line for each key."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted({*old, *new}):
            path = f"{prefix}.{key}" if prefix else key
            lines += differences(old.get(key), new.get(key), path)
        return lines
    return [] if old == new else [f"{prefix}: it has {old!r}, expected {new!r}"]
