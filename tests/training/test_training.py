"""Training on a small corpus: resumption, finished stages, identities, no label leakage."""

import dataclasses
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filelock import FileLock, Timeout

from data_pipelines import stored
from data_pipelines.array_store import RECORD
from data_pipelines.formats.feature_folder import write_features
from data_pipelines.prepared import PreparedClips
from data_pipelines.protocols import unseen_classes
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.config import load_config
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.evaluation.evaluate import evaluate_run
from dynapurls_jax.training import loop, pretrain
from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from dynapurls_jax.training.mesh import divide, mesh_for
from dynapurls_jax.training.run import (
    LOCK,
    load_run,
    only_training,
    read_inputs,
    train_all,
    train_command,
)
from dynapurls_jax.training.stages import CheckpointError, Stage, WorkdirMismatchError
from tests.conftest import ROOT
from tests.helpers.trained import SPLIT, load_small, small_config, small_inputs, train_small


def files_of(workdir):
    """All files with their modification times."""
    files = [path for path in workdir.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_finished_stages_are_skipped(trained, capsys):
    workdir, first = trained
    before = files_of(workdir)
    again = load_small(workdir)
    assert before == files_of(workdir)
    assert tree_digest(again.variables) == tree_digest(first.variables)
    assert again.results == first.results
    assert "resuming" not in capsys.readouterr().err


def test_an_interrupted_run_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    _, expected = trained
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    batches = pretrain.epoch_batches

    def interrupted_in_the_second_epoch(*args, epoch, **kwargs):
        if epoch == 1:
            raise KeyboardInterrupt
        return batches(*args, epoch=epoch, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "epoch_batches", interrupted_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_small(small_inputs(), tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished encoder shift_gcn and method purls"):
        load_small(tmp_path)
    resumed = train_small(small_inputs(), tmp_path)
    assert tree_digest(resumed.variables) == tree_digest(expected.variables)


@pytest.mark.parametrize("parts", [("shift_gcn", "purls"), ("kinematics", "ridge")])
def test_training_never_reads_an_unseen_clip_or_its_label(trained, tmp_path, parts):
    """With every unseen and test clip replaced by noise, the fitted variables are the same."""
    config = small_config()
    config.encoder.name, config.method.name = parts
    inputs = small_inputs(config)
    expected = trained[1] if parts[1] == "purls" else train_small(inputs, tmp_path / "whole")
    used = np.concatenate([expected.protocol.train, expected.protocol.val])
    hidden = np.setdiff1d(np.arange(len(inputs.corpus)), used)
    clips = np.array(inputs.clips.clips)
    clips[hidden] = np.random.default_rng(0).normal(size=clips[hidden].shape)
    prepared = dataclasses.replace(inputs.clips, clips=clips)
    labels = inputs.corpus.labels.copy()
    labels[expected.protocol.unseen_test] = expected.protocol.unseen[0]
    corpus = dataclasses.replace(inputs.corpus, labels=labels)
    noise = dataclasses.replace(inputs, clips=prepared, corpus=corpus)
    got = train_small(noise, tmp_path / "noise")
    assert tree_digest(got.variables) == tree_digest(expected.variables)


@pytest.mark.slow
def test_features_from_a_folder_train_without_an_encoder(trained, tmp_path):
    """The tokens of a trained run, written as a folder of features, train the same method."""
    _, run = trained
    corpus = run.inputs.corpus
    tokens = np.asarray(run.tokens).reshape(len(corpus), 3, corpus.skeleton.num_joints, -1)
    write_features(tmp_path / "features", tokens, corpus.labels, run.protocol)
    config = small_config()
    config.data.features = str(tmp_path / "features")
    config.text.encoder, config.text.descriptions = "hashing", "names"
    config.data.name = "nw_ucla"
    inputs = read_inputs(config)
    assert (inputs.clips, len(inputs.corpus.class_names)) == (None, 10)
    splits = (f"random-8_2-{k}" for k in range(1000))
    unseen = run.protocol.unseen.tolist()
    split = next(s for s in splits if unseen_classes(inputs.corpus, s).tolist() == unseen)
    got = train_small(inputs, tmp_path / "w", split)
    assert [p.name for p in (tmp_path / "w" / split / "seed0").iterdir()] == ["methods"]
    assert (got.results["encoder"], got.encoder) == (None, None)
    again = load_run(inputs, tmp_path / "w", split, 0)
    assert tree_digest(again.variables) == tree_digest(got.variables)
    assert len(evaluate_run(again).labels) == len(run.protocol.unseen_test)


@pytest.mark.parametrize(
    "query",
    [pytest.param(query, marks=pytest.mark.slow) for query in ("oracle_label", "per_candidate")],
)
def test_other_queries_share_encoder_and_tokens(trained_workdir, query):
    config = small_config()
    config.method.purls.query = query
    with pytest.raises(FileNotFoundError, match=rf"method purls \({query}\).*\n.*query={query}"):
        load_small(trained_workdir, config)
    folder = trained_workdir / SPLIT / "seed0"
    before = files_of(folder)
    result = evaluate_run(train_small(small_inputs(config), trained_workdir))
    assert before == {path: time for path, time in files_of(folder).items() if path in before}
    assert len(list(folder.glob("encoders/*"))) == 1
    assert len(list(folder.glob("methods/*"))) == 2
    if query == "oracle_label":
        assert 0 <= result.oracle <= 1
        assert not result.streams
    else:
        assert result.oracle is None


@pytest.mark.slow
def test_one_workdir_can_have_two_encoders(trained_workdir, capsys):
    config = small_config()
    config.encoder.shift_gcn.segments = 2
    train_small(small_inputs(config), trained_workdir)
    printed = capsys.readouterr().err
    differences = r"new stage shift_gcn-\w+; differences to shift_gcn-\w+: encoder.shift_gcn"
    assert re.search(differences + r"\.segments: it has 3, expected 2", printed)
    config.encoder.name = "kinematics"
    train_small(small_inputs(config), trained_workdir)
    folder = trained_workdir / SPLIT / "seed0"
    assert len(list(folder.glob("encoders/shift_gcn-*"))) == 2
    assert len([path for path in folder.glob("tokens/*") if path.is_dir()]) == 3
    load_small(trained_workdir)  # the first run is not changed


@pytest.mark.slow
def test_a_redefined_split_is_another_run(trained_workdir):
    """A split with the same name and other unseen classes is not trained."""
    inputs = small_inputs()
    old = load_small(trained_workdir)
    seen, unseen = old.protocol.seen, old.protocol.unseen
    swapped = inputs.corpus.labels.copy()
    swapped[inputs.corpus.labels == seen[0]] = unseen[0]
    swapped[inputs.corpus.labels == unseen[0]] = seen[0]
    named = dataclasses.replace(inputs.corpus, splits={"named": tuple(unseen)})
    other = dataclasses.replace(inputs.corpus, splits={"named": (seen[0], *unseen[1:])})
    assert named.digest == other.digest
    first = dataclasses.replace(inputs, corpus=named)
    train_small(first, trained_workdir, "named")
    redefined = dataclasses.replace(inputs, corpus=other)
    with pytest.raises(FileNotFoundError, match="no finished encoder"):
        load_run(redefined, trained_workdir, "named", 0)
    assert load_run(first, trained_workdir, "named", 0).protocol.unseen.tolist() == unseen.tolist()


def test_outdated_tokens_are_computed_again(trained_workdir, trained, capsys):
    (file,) = trained_workdir.glob(f"{SPLIT}/seed0/tokens/*/{RECORD}")
    record = stored.read_json(file)
    record["made_from"]["weights"] = "old"
    stored.write_json(file, record)
    again = load_small(trained_workdir)
    assert "is stale: weights is" in capsys.readouterr().err
    np.testing.assert_array_equal(again.tokens, trained[1].tokens)


def test_one_training_at_a_time_holds_a_workdir(tmp_path, monkeypatch, capsys):
    """The second one waits, as `one_at_a_time` does, so that no metrics are lost."""
    held = FileLock(tmp_path / LOCK)
    held.acquire()
    acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", lambda self, **_: acquire(self, timeout=0))
    with pytest.raises(Timeout):
        only_training(tmp_path).__enter__()
    assert "waiting for another process" in capsys.readouterr().err
    held.release()
    with only_training(tmp_path), pytest.raises(Timeout):
        held.acquire()


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoints.restore({"a": jnp.ones(3)})
    checkpoints.save(1, {"a": jnp.ones(3)})
    with pytest.raises(CheckpointError):
        checkpoints.restore({"a": jnp.ones(3), "b": jnp.ones(2)})
    checkpoints.close()


def test_stage_keeps_identity_and_results(tmp_path):
    stage = Stage(tmp_path / "s", {"x": 1, "deep": {"y": (1, 2)}})
    assert stage.results is None
    stage.finish({"accuracy": 0.5})
    assert Stage(tmp_path / "s", {"x": 1, "deep": {"y": [1, 2]}}).results == {"accuracy": 0.5}
    with pytest.raises(WorkdirMismatchError, match=r"deep\.y: it has \[1, 2\], expected \[3\]"):
        Stage(tmp_path / "s", {"x": 1, "deep": {"y": [3]}})


def test_a_run_without_trained_parts_has_one_seed(tmp_path, monkeypatch, capsys):
    config = small_config()
    config.seeds = (4, 5)
    config.encoder.name, config.method.name = "kinematics", "ridge"
    monkeypatch.setattr("dynapurls_jax.training.run.read_inputs", small_inputs)
    train_all(config, tmp_path)
    assert "no stage depends on the seed: only seed 4 is trained" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / SPLIT).iterdir()] == ["seed4"]
    assert stored.read_json(tmp_path / "config.json")["seeds"] == [4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_each_optimizer_lowers_the_loss(name):
    """A few steps on one batch lower its loss."""
    config = small_config()
    rates = {"adamw": 1e-2, "sgd": 0.05}
    config.pretrain.update(optimizer=name, epochs=30, learning_rate=rates[name], weight_decay=1e-4)
    config.augment.update(turn=0.0, tilt=0.0, crop=1.0, scale=0.0, noise=0.0)
    clips = np.random.default_rng(0).normal(size=(8, 1, 8, 20, 3)).astype(np.float32)
    prepared = PreparedClips(clips, KINECT_V1, np.ones(8, int), tuple("abcdefgh"))
    everything = {"num_classes": 4, "indices": np.arange(8), "labels": np.arange(8) % 4}
    task = pretrain.task_of(config, prepared, **everything, seed=0)
    mesh = mesh_for(8, "")
    state = jax.jit(lambda: pretrain.fresh_state(task))()
    step = pretrain.make_step(task, mesh)
    losses, batch = [], divide(mesh, (clips, task.labels))
    for number in range(30):
        state, figures = step(state, *batch, jax.random.key(1), np.int32(number), 8)
        losses.append(float(figures["loss"]))
        assert np.isfinite(figures["grad_norm"])
    assert losses[-1] < 0.6 * losses[0], losses


@pytest.mark.parametrize("name", [n for n in ENCODERS.names if ENCODERS.section(n)[n]])
def test_every_encoder_refuses_a_wrong_setting(name):
    section = ENCODERS.section(name)
    key = "segments" if "segments" in section[name] else "width"
    section[name][key] = 0
    with pytest.raises(ValueError, match=rf"encoder\.{name}: {key}: expected 1 or more, got 0"):
        ENCODERS.settings(section)


def test_the_command_that_trains_has_all_options():
    config = load_config(ROOT / "configs" / "custom.py")
    config.data.manual_dir = "my data"
    config.encoder.shift_gcn.layers = ((1, 2), (2, 2))
    config.seeds = (0, 1)
    words = shlex.split(train_command(config, Path("runs/x"), ("4_2", "pseudo-4_2-0")))
    assert words[:4] == ["dynapurls", "train", "--config=custom", "--workdir=runs/x"]
    assert set(words[2:]) == {
        "--config=custom",
        "--workdir=runs/x",
        "--config.data.manual_dir=my data",
        "--config.encoder.name=kinematics",
        "--config.encoder.shift_gcn.layers=((1, 2), (2, 2))",
        "--config.method.name=sketch",
        "--config.seeds=0,1",
        "--config.splits=4_2,pseudo-4_2-0",
    }
    config.name = "of a file"
    assert train_command(config, Path("w")).startswith("dynapurls train --config=FILE ")
