"""Reads a whole source on all cores, in bounded memory; can be resumed, and lists all bad files.

The items of a source are divided into parts. One process parses and cleans a part and writes it as
one file (`stored`). Part files of an earlier run are reused, unless one is damaged or an item of it
has changed.
"""

import functools
import hashlib
import json
import os
import signal
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np

from data_pipelines import stored
from data_pipelines.atomic import write_text
from data_pipelines.cleaning import clean
from data_pipelines.errors import BadFilesError, DataError, shown
from data_pipelines.formats.raw import RawClip
from data_pipelines.logs import log
from data_pipelines.progress import progress
from data_pipelines.sources import Source
from data_pipelines.untrusted import LARGEST_PART

SKIPPED = "files that cannot be read, skipped"
VERSION = 2  # of the part files, and of all steps from an item to a part file
_TEXT = "text.json"  # member of a part file with all but the joints
_PARTS_PER_PROCESS = 2  # minimum; fewer do not pay for the start of a process


def num_cores() -> int:
    """Number of cores that this process may use, given its affinity and its container's limit."""
    return joblib.cpu_count()


def ingest(source: Source, folder: Path, title: str, skip_bad: bool) -> Iterator[RawClip]:
    """Cleaned clips of a source, in its order.

    Args:
      folder: folder of the part files; the caller deletes it after use.
      title: title of the progress display.
      skip_bad: skip unreadable items, with a note on the first clip, instead of raising. In both
        cases `<folder>.bad.txt` lists them.

    Raises:
      BadFilesError: items are unreadable; raised after all items, with a list.
      DataError: the source has no items, or a part file is damaged after it is made.
      FullDiskError: there is no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = _plan(source, folder)
    if not parts:
        raise DataError("expected files to read, found none", source.place)
    found = _parse(source, parts, title)
    bad = [error for part in parts for error in found[part]]
    if bad:
        _report_bad(bad, sum(map(len, parts.values())), folder.with_suffix(".bad.txt"), skip_bad)
    notes = {SKIPPED: len(bad)} if bad else {}
    for part in parts:
        for clip in _read_part(part):
            clip.notes.update(notes)
            notes = {}
            yield clip


def _report_bad(bad: list[str], total: int, listed: Path, skip_bad: bool) -> None:
    write_text(listed, "\n".join(bad) + "\n")
    if not skip_bad:
        raise BadFilesError(bad, total, listed)
    log.warning(f"skipped {len(bad)} of {total} files that cannot be read, listed in {listed}")


def _plan(source: Source, folder: Path) -> dict[Path, list[str]]:
    """The items of each part file; its name is a hash of the items and the source's identity.

    Parts end at items with certain hashes of their names, after `source.chunk` items on average, so
    that an added or removed file changes a single part.
    """
    parts: dict[Path, list[str]] = {}
    chunk: list[tuple[str, str]] = []
    items = list(source.items().items())
    for index, item in enumerate(items):
        chunk.append(item)
        hashed = zlib.crc32(item[0].encode(errors="replace"))  # names can have any encoding
        ends = hashed % source.chunk == 0 or len(chunk) == 4 * source.chunk
        if ends or index + 1 == len(items):
            made_from = repr((VERSION, source.identity(), chunk))
            digest = hashlib.sha256(made_from.encode()).hexdigest()[:24]
            parts[folder / f"part-{digest}.zip"] = [name for name, _ in chunk]
            chunk = []
    return parts


def _parse(source: Source, parts: dict[Path, list[str]], title: str) -> dict[Path, list[str]]:
    """Makes the missing and the damaged parts; returns the errors of each part."""
    found = {part: errors for part in parts if (errors := _errors_of(part)) is not None}
    todo = [part for part in parts if part not in found]
    if not todo:
        return found
    total = sum(map(len, parts.values()))
    done = total - sum(len(parts[part]) for part in todo)
    workers = min(num_cores(), len(todo) // _PARTS_PER_PROCESS) if source.parallel else 1
    with progress(title, total, done) as report:
        for part, errors in _make_all(source, parts, todo, workers):
            found[part] = errors
            done += len(parts[part])
            report(done)
    return found


def _make_all(source, parts, todo, workers) -> Iterator[tuple[Path, list[str]]]:
    """Makes parts in this process or in others; yields each finished one with its errors."""
    if workers < 2:
        for part in todo:
            yield _make_part(source, part, parts[part])
        return
    # loky, since a fork of a process with JAX's threads can hang, and "spawn" of the standard
    # library runs the caller's script again in each process.
    pool = joblib.Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
    jobs = (joblib.delayed(_make_part_of_worker)(source, part, parts[part]) for part in todo)
    yield from pool(jobs)


def _make_part_of_worker(source: Source, part: Path, items: list[str]) -> tuple[Path, list[str]]:
    _exit_with_parent()
    return _make_part(source, part, items)


@functools.cache
def _exit_with_parent() -> None:
    """Ignores Ctrl-C, which the parent handles, and exits when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _make_part(source: Source, part: Path, items: list[str]) -> tuple[Path, list[str]]:
    """Reads, cleans and writes the clips of some items, one after the other; returns the errors."""
    clips: list[dict] = []
    errors, written = [], 0
    with stored.writing(part) as file, zipfile.ZipFile(file, "w") as archive:
        for item in items:
            try:
                found = [clean(raw) for raw in source.read(item)]
                size = sum(clip.joints.nbytes for clip in found)
                if written + size > LARGEST_PART:
                    raise DataError(f"with the files before it, over {LARGEST_PART} bytes", item)
            except DataError as error:
                errors.append(str(error))
                continue
            except Exception as error:  # one bad file must not stop the reading of the others
                errors.append(shown(f"{item}: cannot be read ({type(error).__name__}: {error})"))
                continue
            written += size
            for clip in found:
                archive.writestr(f"{len(clips)}", clip.joints.astype(np.float32).tobytes())
                clips.append(vars(clip) | {"joints": clip.joints.shape})
        archive.writestr(_TEXT, json.dumps({"clips": clips, "errors": errors}))
    return part, errors


def _errors_of(part: Path) -> list[str] | None:
    """The errors of a part; None if it must be made."""
    try:
        with stored.reading(part) as file, zipfile.ZipFile(file) as archive:
            return json.loads(archive.read(_TEXT))["errors"]
    except (FileNotFoundError, stored.DamagedError):
        return None


def _read_part(part: Path) -> Iterator[RawClip]:
    with stored.reading(part) as file, zipfile.ZipFile(file) as archive:
        for number, fields in enumerate(json.loads(archive.read(_TEXT))["clips"]):
            joints = np.frombuffer(archive.read(f"{number}"), np.float32)
            yield RawClip(**fields | {"joints": joints.reshape(fields["joints"])})
