"""Every file that the program reads back, with each bit flipped, and cut at each byte.

The value is the one that was written, made again or of the checkpoint before; or an error names the
file. It is never a wrong value, another error, or a run that cannot go on.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from data_pipelines import stored
from data_pipelines.array_store import open_or_make
from data_pipelines.atomic import write_bytes
from data_pipelines.builders.tfds_builder import DIGESTS, INDEX, prepared_from, read_index
from data_pipelines.errors import DataError
from data_pipelines.formats.sample_stream import Request
from data_pipelines.ingest import ingest
from dynapurls_jax.serving import model_file
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.stream_checkpoint import StreamCheckpoint
from dynapurls_jax.text import features
from dynapurls_jax.text.writing.models import Answer, Cached, Model
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.stages import Stage, results_of
from tests.helpers.cases import slow
from tests.helpers.counting_source import CountingSource

VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)
SAMPLED = 3  # damages of a file in the default tests
every = pytest.mark.parametrize("every", [False, slow(True)], ids=["some", "all"])


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Nothing is flushed to the disk: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(np.memmap, "flush", lambda _: None)


def damages(content: bytes, every: bool) -> Iterator[bytes]:
    """The content with one bit flipped, and cut: in every way, or in some."""
    rng, most = np.random.default_rng(len(content)), None if every else SAMPLED
    bits, sizes = rng.permutation(8 * len(content))[:most], rng.permutation(len(content))[:most]
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    yield from (content[:size] for size in sizes)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def damaged(folder: Path, every: bool) -> Iterator[Path]:
    """Damages one file of a folder after the other, which is whole again after each damage."""
    files = files_of(folder)
    for file, content in files.items():
        for wrong in damages(content, every):
            file.write_bytes(wrong)
            yield file
            for path in files_of(folder):
                if path not in files:
                    path.unlink()
            for path, before in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(before)


class Kind(NamedTuple):
    """How a kind of files is made in a folder and read; None is read where they count as none."""

    make: Callable[[Path], None]
    read: Callable[[Path], Any]


def part_of_store(folder: Path) -> None:
    def interrupted(_):
        yield VALUES[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_make(folder / "s", {"a": 1}, (3, 2), np.float32, interrupted)


def read_store(folder: Path) -> np.ndarray:
    return np.array(
        open_or_make(folder / "s", {"a": 1}, (3, 2), np.float32, lambda first: [VALUES[first:]])
    )


def read_clips(folder: Path) -> list:
    source = CountingSource(folder.parent / "trace", 3, bad=(1,), chunk=9, parallel=False)
    clips = ingest(source, folder / "parts", "reading", True)
    return [(c.clip_id, c.joints, c.label, c.subject, sorted(c.notes.items())) for c in clips]


def prepared(folder: Path) -> None:
    columns = {"label": np.arange(3), "clip_id": np.array(["a", "b", "c"])}
    about = {"notes": {}, "origin": "here"}
    stored.write_arrays(folder / INDEX, columns | {"side_x": np.ones(3, np.int8)}, about)
    (folder / "dataset_info.json").write_text("{}")
    stored.seal(folder, folder / DIGESTS)


class Waving(Model):
    def answer(self, prompt: str, sample: int) -> Answer:
        return Answer("wave", True)


def answer(folder: Path) -> str:
    return Cached(Waving("m", "local"), folder, {}).answer("how?", 0).text


def vectors(folder: Path) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "data_home", lambda: folder)
        return features.cached("x", lambda: VALUES)


KINDS = {
    "stage": Kind(lambda f: Stage(f, {"a": 1}).finish({"accuracy": 0.5}), results_of),
    "array store": Kind(read_store, read_store),
    "part of an array store": Kind(part_of_store, read_store),
    "parts of an ingest": Kind(read_clips, read_clips),
    "prepared dataset": Kind(prepared, lambda f: read_index(f) if prepared_from(f)[0] else None),
    "text vectors": Kind(vectors, vectors),
    "answers of a language model": Kind(answer, answer),
    "model file": Kind(
        lambda f: write_bytes(
            f / "m", model_file.packed({"format": model_file.FORMAT, "seed": 3}, {"a": VALUES})
        ),
        lambda f: model_file._read(f / "m"),
    ),
}


def same(a: Any, b: Any) -> bool:
    return repr(jax.tree.map(np.asarray, a)) == repr(jax.tree.map(np.asarray, b))


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """What is read, or the message of an error that a user can act on."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@every
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_never_a_wrong_value(kind, every, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    KINDS[kind].make(folder)
    expected = KINDS[kind].read(shutil.copytree(folder, tmp_path / "whole"))
    assert expected is not None
    for file in damaged(folder, every):
        found, message = outcome(lambda: KINDS[kind].read(folder))
        assert str(file) in message if message else found is None or same(found, expected)


TREE = {"a": np.arange(3.0, dtype=np.float32)}


@every
def test_a_damaged_checkpoint_is_found(every, tmp_path):
    """By its hashes, which every opening compares; the next test opens some of them."""
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, TREE)
    checkpoints.close()
    record = tmp_path / "c.sha256" / "1.sha256"
    assert stored.fault(tmp_path / "c" / "1", record) is None
    for file, content in files_of(tmp_path).items():
        for wrong in damages(content, every):
            file.write_bytes(wrong)
            assert stored.fault(tmp_path / "c" / "1", record), file
        file.write_bytes(content)


class SmallState(NamedTuple):
    samples: Any


class SmallStream(LiveStream):
    """What a `StreamCheckpoint` needs of a stream."""

    def __init__(self):
        self.identity = {"weights": "x"}
        self.names = ["wave", None]
        self.state: Any = SmallState(np.int32(0))

    def add(self, name: str, texts: Any = None) -> None:
        self.names[self.names.index(None)] = name

    def remove(self, name: str) -> None:
        self.names[self.names.index(name)] = None


def request(kind: str, value: str) -> Request:
    return Request(1, kind, value)


@every
def test_a_damaged_stream_has_its_classes_or_names_the_file(every, tmp_path):
    folder, live = tmp_path / "state", SmallStream()
    saved = StreamCheckpoint(live, folder)
    live.state = SmallState(np.int32(7))
    live.add("sit", None)
    saved.after(request("add", "sit"), {"added": "sit"})
    saved.save()
    live.state = SmallState(np.int32(9))
    live.remove("wave")
    saved.after(request("retire", "wave"), {"retired": "wave"})
    saved._checkpoints.close()  # as if it were killed
    outcomes, rng = set(), np.random.default_rng(0)
    newest = folder / "checkpoints" / "2"
    some = [newest / "about.json", folder / "changes-2.json"]
    for file in [path for path, content in files_of(folder).items() if content] if every else some:
        content = bytearray(file.read_bytes())
        content[rng.integers(len(content))] ^= 8
        shutil.copytree(folder, tmp_path / "again")
        (tmp_path / "again" / file.relative_to(folder)).write_bytes(content)
        again = SmallStream()
        read = partial(StreamCheckpoint, again, tmp_path / "again")
        _, message = outcome(lambda read=read: read().close())
        named = str(tmp_path / "again" / file.relative_to(folder)) in message
        assert named if message else again.names == [None, "sit"]
        outcomes.add(file.name if message else int(again.state.samples))
        shutil.rmtree(tmp_path / "again")
    assert outcomes == {0, "changes-2.json"} | ({7, "stage.json"} if every else set())
