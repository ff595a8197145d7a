"""The whole path on a small corpus: resume, skip, staleness, damage, labels that cannot leak."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.formats.feature_folder import write_features
from data_pipelines.prepared import PreparedClips, prepare
from data_pipelines.preprocess import FIT
from data_pipelines.protocols import unseen_classes
from dynapurls_jax import config as names
from dynapurls_jax.zero_shot.nn.partition import unit
from dynapurls_jax.config import default_config
from dynapurls_jax.evaluation.report import write_report
from dynapurls_jax.evaluation.run_page import write_run_page
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.text.encoders import ENCODERS
from dynapurls_jax.training import loop, pretrain
from dynapurls_jax.training.checkpoints import Checkpoints, tree_digest
from dynapurls_jax.evaluation.evaluate import clips_of, evaluate_run
from dynapurls_jax.training.mesh import divide, mesh_for
from dynapurls_jax.training.optimizers import OPTIMIZERS, sign_of_displacements
from dynapurls_jax.training.run import Inputs, load_inputs, load_trained, train_one
from dynapurls_jax.training.stages import CheckpointError, Stage, WorkdirMismatchError
from tests.conftest import tiny_corpus

SPLIT = "random-6_2-0"


def small_config():
    config = default_config()
    config.name = "small"
    config.splits = (SPLIT,)
    config.data.name = "utd_mhad"
    config.data.frames = 8
    config.encoder.width = 8
    config.pretrain.epochs = 2
    config.pretrain.batch_size = 8
    config.alignment.attention = 8
    config.alignment.hidden = 16
    config.alignment.epochs = 4
    config.alignment.batch_size = 8
    config.refine.min_samples = 2
    config.eval.adapter = "dynapurls"
    config.eval.orders = 2
    return config


def small_inputs(config=None, **corpus_changes) -> Inputs:
    config = config or small_config()
    corpus = dataclasses.replace(tiny_corpus(), **corpus_changes)
    text = unit(jax.random.normal(jax.random.key(7), (8, 8, 12)))
    clips = prepare(corpus, config.data.frames, "resample")
    return Inputs(config, corpus, clips, np.asarray(text), "texts")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained small workdir."""
    workdir = tmp_path_factory.mktemp("workdir")
    return workdir, train_one(small_inputs(), workdir, SPLIT, 0)


def test_finished_stages_are_skipped(trained, capsys):
    workdir, first = trained
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    again = load_trained(small_inputs(), workdir, SPLIT, 0)
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
    assert tree_digest(again.variables) == tree_digest(first.variables)
    assert again.results == first.results
    assert "resuming" not in capsys.readouterr().out


def test_a_killed_run_goes_on_to_the_same_weights(trained, tmp_path, monkeypatch):
    _, expected = trained
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    batches = pretrain.epoch_batches

    def killed_in_the_second_epoch(*args):
        if args[4] == 1:
            raise KeyboardInterrupt
        return batches(*args)

    monkeypatch.setattr(pretrain, "epoch_batches", killed_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        train_one(small_inputs(), tmp_path, SPLIT, 0)
    monkeypatch.setattr(pretrain, "epoch_batches", batches)
    with pytest.raises(FileNotFoundError, match="no finished stage encoder"):
        load_trained(small_inputs(), tmp_path, SPLIT, 0)
    resumed = train_one(small_inputs(), tmp_path, SPLIT, 0)
    assert tree_digest(resumed.variables) == tree_digest(expected.variables)


def test_permuting_unseen_labels_leaves_every_prediction_bit_identical(trained):
    _, run = trained
    inputs = small_inputs()
    unseen = np.isin(inputs.corpus.labels, run.protocol.unseen)
    labels = inputs.corpus.labels.copy()
    labels[unseen] = np.random.default_rng(0).permutation(labels[unseen])
    assert not np.array_equal(labels, inputs.corpus.labels)
    shuffled = dataclasses.replace(inputs, corpus=dataclasses.replace(inputs.corpus, labels=labels))
    a, b = evaluate_run(inputs, run), evaluate_run(shuffled, run)
    assert not np.array_equal(a.labels, b.labels)
    for method in ("static", "dynapurls"):
        jax.tree.map(np.testing.assert_array_equal, a.streams[method], b.streams[method])


def test_training_never_reads_an_unseen_clip_or_its_label(trained, tmp_path):
    """With every unseen and test clip replaced by noise, the trained weights are the same."""
    _, expected = trained
    inputs = small_inputs()
    used = np.concatenate([expected.protocol.train, expected.protocol.val])
    hidden = np.setdiff1d(np.arange(len(inputs.corpus)), used)
    clips = np.array(inputs.clips.clips)
    clips[hidden] = np.random.default_rng(0).normal(size=clips[hidden].shape)
    prepared = dataclasses.replace(inputs.clips, clips=clips)
    other = dataclasses.replace(inputs, clips=prepared)
    got = train_one(other, tmp_path, SPLIT, 0)
    assert tree_digest(got.variables) == tree_digest(expected.variables)


def test_brought_features_train_without_an_encoder(trained, tmp_path):
    """The tokens of a trained run, written as a folder of features, train the same alignment."""
    _, run = trained
    corpus = small_inputs().corpus
    tokens = np.asarray(run.tokens).reshape(len(corpus), 3, corpus.skeleton.num_joints, -1)
    write_features(tmp_path / "features", tokens, corpus.labels, run.protocol)
    config = small_config()
    config.data.features = str(tmp_path / "features")
    config.text.encoder, config.text.descriptions = "hashing", "names"
    config.data.name = "nw_ucla"
    inputs = load_inputs(config)
    assert (inputs.clips, len(inputs.corpus.class_names)) == (None, 10)
    splits = (f"random-8_2-{k}" for k in range(1000))
    unseen = run.protocol.unseen.tolist()
    split = next(s for s in splits if unseen_classes(inputs.corpus, s).tolist() == unseen)
    got = train_one(inputs, tmp_path / "w", split, 0)
    assert [p.name for p in (tmp_path / "w" / split / "seed0").iterdir()] == ["align-label_free"]
    assert got.results["encoder"] is None
    again = load_trained(inputs, tmp_path / "w", split, 0)
    assert tree_digest(again.variables) == tree_digest(got.variables)
    assert len(evaluate_run(inputs, again).labels) == len(run.protocol.unseen_test)


@pytest.mark.parametrize("query", ["per_candidate", "oracle_label"])
def test_other_queries_reuse_encoder_and_tokens(trained, query):
    workdir, _ = trained
    config = small_config()
    config.alignment.query = query
    inputs = small_inputs(config)
    with pytest.raises(FileNotFoundError, match=rf"align-{query}.*\n.*query={query}"):
        load_trained(inputs, workdir, SPLIT, 0)
    encoder = workdir / SPLIT / "seed0" / "encoder" / "stage.json"
    before = encoder.stat().st_mtime_ns
    result = evaluate_run(inputs, train_one(inputs, workdir, SPLIT, 0))
    assert encoder.stat().st_mtime_ns == before
    if query == "oracle_label":
        assert 0 <= result.oracle <= 1
        assert not result.streams
    else:
        assert result.oracle is None


def test_report_says_what_it_is(trained, tmp_path):
    _, run = trained
    inputs = small_inputs(synthetic=True)
    result = evaluate_run(inputs, run)
    text = write_report(tmp_path, [result], inputs.corpus, "dynapurls", "label_free", "the command")
    assert "SYNTHETIC" in text
    assert "`the command`" in text
    assert f"| {SPLIT} | 2 | 8 | 1 x 2 | 50.0 |" in text
    assert (tmp_path / "running_accuracy.png").stat().st_size > 1000
    record = json.loads((tmp_path / "report.json").read_text())
    methods = record["runs"][0]["methods"]
    static = np.mean(result.streams["static"].predicted == result.stream_labels("static"))
    assert methods["static"]["accuracy_of_each_order"] == [pytest.approx(static)] * 2
    assert len(methods["dynapurls"]["accuracy_of_each_order"]) == 2
    oracle = dataclasses.replace(result, oracle=0.5, streams={})
    text = write_report(tmp_path, [oracle], inputs.corpus, "dynapurls", "oracle_label", "c")
    assert "(ORACLE)" in text
    assert "not an accuracy" in text


def test_a_workdir_of_another_config_is_refused_and_says_why(trained):
    workdir, _ = trained
    config = small_config()
    config.encoder.width = 16
    with pytest.raises(WorkdirMismatchError, match=r"encoder\.width: it has 8, asked for 16"):
        train_one(small_inputs(config), workdir, SPLIT, 0)
    config = small_config()
    config.alignment.hidden = 32
    with pytest.raises(WorkdirMismatchError, match=r"alignment\.hidden: it has 16, asked for 32"):
        train_one(small_inputs(config), workdir, SPLIT, 0)


def test_stale_tokens_are_made_again(trained, tmp_path, capsys):
    inputs = small_inputs()
    train_one(inputs, tmp_path, SPLIT, 0)
    manifest = tmp_path / SPLIT / "seed0" / "tokens" / "manifest.json"
    manifest.write_text(
        re.sub('"checkpoint": "[^"]*"', '"checkpoint": "old"', manifest.read_text())
    )
    again = train_one(inputs, tmp_path, SPLIT, 0)
    assert "is stale: checkpoint is" in capsys.readouterr().out
    np.testing.assert_array_equal(again.tokens, trained[1].tokens)


def test_checkpoint_of_another_shape_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoints.restore({"a": jnp.ones(3)})
    checkpoints.save(1, {"a": jnp.ones(3)})
    with pytest.raises(CheckpointError):
        checkpoints.restore({"a": jnp.ones(3), "b": jnp.ones(2)})
    checkpoints.close()


def test_stage_remembers_identity_and_results(tmp_path):
    stage = Stage(tmp_path / "s", {"x": 1, "deep": {"y": (1, 2)}})
    assert stage.results is None
    stage.finish({"accuracy": 0.5})
    assert Stage(tmp_path / "s", {"x": 1, "deep": {"y": [1, 2]}}).results == {"accuracy": 0.5}
    with pytest.raises(WorkdirMismatchError, match=r"deep\.y: it has \[1, 2\], asked for \[3\]"):
        Stage(tmp_path / "s", {"x": 1, "deep": {"y": [3]}})


def test_names_in_configurations_are_those_of_registries():
    assert set(names.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(names.TEXT_ENCODERS) == {*ENCODERS, "precomputed"}
    assert set(names.FITS) == set(FIT)


@pytest.mark.parametrize(("name", "sign"), [("adamw", False), ("sgd", False), ("sgd", True)])
def test_each_recipe_learns(name, sign):
    """A few steps on one batch lower its loss."""
    config = small_config()
    rates = {"adamw": 2e-3, "sgd": 0.02}
    config.pretrain.update(optimizer=name, epochs=16, learning_rate=rates[name], weight_decay=1e-4)
    config.encoder.update(width=4, sign_gradient=sign)
    config.augment.update(turn=0.0, tilt=0.0, crop=1.0, scale=0.0, noise=0.0)
    clips = np.random.default_rng(0).normal(size=(8, 1, 8, 20, 3)).astype(np.float32)
    prepared = PreparedClips(clips, KINECT_V1, np.ones(8, int), tuple("abcdefgh"))
    mesh = mesh_for(8, "")
    state = jax.jit(lambda: pretrain.fresh_state(config, clips.shape, 4, 0, 8))()
    step = pretrain.make_step(config, prepared, 4, 8, mesh)
    losses, batch = [], divide(mesh, (clips, np.arange(8) % 4))
    for number in range(16):
        state, figures = step(state, *batch, jax.random.key(1), np.int32(number), 8)
        losses.append(float(figures["loss"]))
        assert np.isfinite(figures["grad_norm"])
    assert losses[-1] < 0.5 * losses[0], losses


def test_the_published_gradient_to_a_displacement_is_its_sign():
    params = {"layer": {"shift_in": jnp.array([2.0, -3.0, 0.0]), "kernel": jnp.array([5.0])}}
    signed, _ = sign_of_displacements().update(params, optax.EmptyState())
    np.testing.assert_allclose(signed["layer"]["shift_in"], [0.01, -0.01, 0])
    assert signed["layer"]["kernel"] == 5


@pytest.mark.parametrize(
    ("stream", "brought", "adapter"), [("shuffled", False, "static"), ("skewed", True, "dynapurls")]
)
def test_every_run_has_a_page(trained, tmp_path, stream, brought, adapter):
    """With clips to play, and without any where features were brought."""
    _, run = trained
    config = small_config()
    config.eval.stream, config.eval.adapter = stream, adapter
    inputs = small_inputs(config)
    result = evaluate_run(inputs, run)
    if brought:
        inputs = dataclasses.replace(inputs, clips=None)
    clips = clips_of(inputs, run, result.details.samples)
    page = write_run_page(tmp_path, result, clips, inputs.corpus, config, "the command")
    text = page.read_text("utf-8")
    record = json.loads(re.search(r'application/json">(.*?)</script>', text)[1])
    shown = run.protocol.unseen_test[result.details.samples]
    assert [clip["id"] for clip in record["clips"]] == [inputs.corpus.clip_ids[n] for n in shown]
    true = [record["classes"][clip["label"]] for clip in record["clips"]]
    assert true == [inputs.corpus.class_names[y] for y in inputs.corpus.labels[shown]]
    assert all(("data" in clip) != brought for clip in record["clips"])
    assert text.count("data:image/png") == (6 if brought else 7)
