"""Full disks, folders without write permission, truncated and changed files."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines import stored
from data_pipelines.errors import DataError
from dynapurls_jax.training import loop
from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from dynapurls_jax.training.stages import CheckpointError, Stage, results_of
from tests.conftest import ROOT
from tests.helpers.commands import DEMO, TINY
from tests.helpers.trained import SPLIT, small_inputs, train_small

TREE = {"a": jnp.arange(1000.0), "b": jnp.ones((3, 4))}


def saved(folder: Path, *steps: int) -> Checkpoints:
    """Checkpoints whose values depend on their number."""
    checkpoints = Checkpoints(folder / "stage" / "checkpoints")
    for step in steps:
        checkpoints.save(step, TREE | {"b": TREE["b"] * step})
    return checkpoints


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def files_of(folder: Path, step: int) -> list[Path]:
    whole = folder / "stage" / "checkpoints" / str(step)
    return sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size > 1)


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_damaged_checkpoint_is_skipped_and_kept(damage, every, tmp_path, capsys):
    saved(tmp_path, 1, 2, 3).close()
    for file in files_of(tmp_path, 3) if every else files_of(tmp_path, 3)[-1:]:
        shutil.copytree(tmp_path / "stage", tmp_path / "again" / "stage")
        damage(tmp_path / "again" / file.relative_to(tmp_path))
        checkpoints = Checkpoints(tmp_path / "again" / "stage" / "checkpoints")
        assert checkpoints.latest() == 2
        assert f"checkpoints/3 is damaged: {'no file' if damage is Path.unlink else ''}" in (
            capsys.readouterr().err
        )
        np.testing.assert_array_equal(checkpoints.restore(TREE)["b"], 2 * TREE["b"])
        wrong = {p.name: p.read_bytes() for p in files_of(tmp_path / "again", 3)}
        checkpoints.save(3, TREE)
        assert checkpoints.latest() == 3
        np.testing.assert_array_equal(checkpoints.restore(TREE)["b"], TREE["b"])
        checkpoints.close()
        aside = tmp_path / "again" / "stage" / "checkpoints.damaged" / "3"
        kept = [p for p in aside.rglob("*") if p.is_file() and p.stat().st_size > 1]
        assert {p.name: p.read_bytes() for p in kept} == wrong  # nothing was written over
        shutil.rmtree(tmp_path / "again")


def test_an_error_names_all_damaged_checkpoints_where_none_is_intact(tmp_path):
    saved(tmp_path, 1, 2).close()
    for step in (1, 2):
        flip_a_bit(files_of(tmp_path, step)[-1])
    checkpoints = Checkpoints(tmp_path / "stage" / "checkpoints")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact.*delete .*/stage"):
        checkpoints.restore(TREE)
    checkpoints.close()


def test_a_checkpoint_without_its_hashes_is_incomplete(tmp_path):
    """A process that is killed between the two writes leaves such a checkpoint."""
    saved(tmp_path, 1).close()
    hashes = tmp_path / "stage" / "checkpoints.sha256" / "1.sha256"
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", hashes], cwd=tmp_path / "stage" / "checkpoints" / "1"
    )
    assert done.returncode == 0
    hashes.unlink()
    checkpoints = Checkpoints(tmp_path / "stage" / "checkpoints")
    assert checkpoints.latest() is None
    checkpoints.save(1, TREE)
    assert checkpoints.latest() == 1
    checkpoints.close()


@pytest.mark.slow
def test_training_resumes_from_the_checkpoint_before_a_damaged_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    whole = train_small(small_inputs(), tmp_path)
    folder = tmp_path / SPLIT / "seed0"
    shutil.rmtree(folder / "methods")
    (encoder,) = folder.glob("encoders/*")
    record = stored.read_json(encoder / "stage.json")
    stored.write_json(encoder / "stage.json", record | {"results": None})
    newest = max((encoder / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    flip_a_bit(max(newest.rglob("d/*"), key=lambda path: path.stat().st_size))
    capsys.readouterr()
    again = train_small(small_inputs(), tmp_path)
    printed = capsys.readouterr().err
    assert f"checkpoints/{newest.name} is damaged" in printed
    assert "pretraining the encoder: resuming after 1 of 2" in printed
    assert tree_digest(again.variables) == tree_digest(whole.variables)


def test_an_error_names_the_damaged_record_of_a_stage(tmp_path):
    Stage(tmp_path, {"x": 1}).finish({"accuracy": 1.0})
    assert results_of(tmp_path) == {"accuracy": 1.0}
    truncate(tmp_path / "stage.json")
    with pytest.raises(DataError, match=r"stage\.json: damaged.*delete"):
        Stage(tmp_path, {"x": 1})
    (tmp_path / "stage.json").write_text("[]")
    with pytest.raises(DataError, match=r"stage\.json: damaged"):
        results_of(tmp_path)


# Root ignores file permissions; this starts a program without that capability (PR_CAPBSET_DROP of
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH). For other users the call fails without effect.
UNPRIVILEGED = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "workdir", ["locked/run", pytest.param("file/run", marks=pytest.mark.slow)]
)
def test_a_workdir_without_write_permission_is_refused_before_any_work(workdir, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    (tmp_path / "file").write_text("x")
    call = [sys.executable, "-c", UNPRIVILEGED, "-m", "dynapurls_jax.train", DEMO, *TINY]
    call.append(f"--workdir={workdir}")
    failed = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert failed.returncode == 2, failed.stderr
    there = tmp_path / workdir.split("/")[0]
    assert f"{there} is no folder that can be written to" in failed.stderr
    assert "clips" not in failed.stdout + failed.stderr  # nothing was read yet


FULL = """
import pathlib, resource, sys
import jax.numpy as jnp
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.training.stages import CheckpointError

checkpoints = Checkpoints(pathlib.Path(sys.argv[1]) / "checkpoints")
checkpoints.save(1, {"a": jnp.ones(4)})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    checkpoints.save(2, {"a": jnp.arange(1e6)})
except CheckpointError as error:
    print("refused:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = Checkpoints(pathlib.Path(sys.argv[1]) / "checkpoints")
print("latest", again.latest(), again.restore({"a": jnp.ones(4)})["a"].sum())
again.save(2, {"a": jnp.ones(5)})
print("then", again.latest())
"""


def test_a_full_disk_leaves_the_last_checkpoint_and_names_it(tmp_path):
    """A limit on file sizes makes the same write fail as a full disk does."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    call = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "refused: checkpoint" in done.stdout, done.stderr[-2000:]
    assert "could not be written" in done.stdout
    assert "the last intact one is 1" in done.stdout
    assert "latest 1 4.0" in done.stdout
    assert "then 2" in done.stdout
