"""Runs with motion sketches: tokens of imagined clips, and classes without a sketch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.animation import imagined_clip
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.evaluation.tasks import unseen_task
from dynapurls_jax.training.imagined import imagined_seen_clips
from dynapurls_jax.training.pretrain import encoder_folder, task_of
from dynapurls_jax.training.run import make_spec
from tests.helpers.trained import SPLIT, small_config, small_inputs, train_small

ROWS = ("hang > top > hang", "hang > chest out > hang", "chest front", "waist > face")


def config_of(method="sketch", encoder="kinematics"):
    config = small_config()
    config.encoder.name, config.method.name = encoder, method
    return config


def inputs_of(config, drawn=8):
    """Inputs of eight classes, the first `drawn` with a sketch."""
    sketches = [
        parse_sketch({f"{side} hand": row}, "a class", "a file")
        for side in ("right", "left")
        for row in ROWS
    ]
    known = tuple(sketches[:drawn]) + (None,) * (8 - drawn)
    return dataclasses.replace(small_inputs(config), sketches=known)


def test_imagined_clips_are_encoded_like_clips_of_the_corpus(tmp_path):
    inputs = inputs_of(config_of(), drawn=7)
    run = train_small(inputs, tmp_path)
    assert run.sketch_tokens.shape == (8, *run.tokens.shape[1:])
    assert np.isnan(run.sketch_tokens[7]).all()
    _, persons, frames, _, _ = inputs.clips.clips.shape
    clip = imagined_clip(inputs.sketches[2], inputs.skeleton, "resample", (persons, frames))
    expected = np.asarray(
        run.encoder.tokens(run.encoder.variables, jnp.asarray(clip)[None], persons)
    )[0]
    expected = expected.reshape(-1, expected.shape[-1])
    np.testing.assert_allclose(run.sketch_tokens[2], expected, atol=1e-5)


def test_other_sketches_make_another_run_and_no_sketches_give_ridge_regression(tmp_path, capsys):
    drawn = train_small(inputs_of(config_of()), tmp_path)
    without = train_small(inputs_of(config_of(), drawn=0), tmp_path)
    assert "8 classes have no motion sketch: only their text is used" in capsys.readouterr().err
    assert len(list((tmp_path / SPLIT / "seed0" / "methods").iterdir())) == 2
    ridge = train_small(inputs_of(config_of("ridge"), drawn=0), tmp_path)
    scores = []
    for run in (drawn, without, ridge):
        task = unseen_task(run)
        scores.append(np.asarray(run.method.score(run.variables, task.features, task.candidates)))
    np.testing.assert_allclose(scores[1], scores[2], atol=1e-3)
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_a_finished_run_is_restored_with_its_sketches(tmp_path):
    first = train_small(inputs_of(config_of()), tmp_path)
    again = train_small(inputs_of(config_of()), tmp_path)
    np.testing.assert_array_equal(first.sketch_tokens, again.sketch_tokens)
    for name in ("map", "sketch_factor"):
        np.testing.assert_array_equal(first.variables[name], again.variables[name])


@pytest.mark.slow
def test_a_trained_encoder_encodes_imagined_clips(tmp_path):
    run = train_small(inputs_of(config_of(encoder="shift_gcn")), tmp_path)
    assert np.isfinite(run.sketch_tokens).all()
    assert run.candidates_of(run.protocol.unseen).classes.shape[0] == 2


def imagined_config():
    """The default configuration of the small datasets, with a narrow encoder."""
    config = config_of(encoder="temporal_conv")
    config.encoder.temporal_conv.width = 8
    config.pretrain.update(loss="imagined", epochs=12)
    return config


def encoder_task(config, inputs, workdir):
    """The task of stage 1, as `pretrain` makes it."""
    spec = make_spec(inputs, workdir, SPLIT, 0)
    seen = {"indices": spec.protocol.train, "labels": spec.seen_labels, "seed": 0}
    imagined = imagined_seen_clips(spec)
    return task_of(
        config, inputs.clips, num_classes=len(spec.protocol.seen), imagined=imagined, **seen
    )


@pytest.mark.slow
def test_an_encoder_learns_to_match_clips_to_imagined_ones(tmp_path):
    """The recorded clips are the animated sketches with noise."""
    config = imagined_config()
    inputs = inputs_of(config)
    clips = np.array(inputs.clips.clips)
    rng = np.random.default_rng(0)
    for index, label in enumerate(inputs.corpus.labels):
        clip = imagined_clip(inputs.sketches[label], inputs.skeleton, "resample", clips.shape[1:3])
        clips[index] = clip + rng.normal(scale=0.02, size=clip.shape) * (clip != 0)
    inputs = dataclasses.replace(inputs, clips=dataclasses.replace(inputs.clips, clips=clips))
    run = train_small(inputs, tmp_path)
    assert run.results["encoder"]["val_accuracy"] > 0.9
    again = train_small(inputs, tmp_path)  # restored
    np.testing.assert_array_equal(run.tokens, again.tokens)
    assert run.sketch_tokens.shape[1:] == run.tokens.shape[1:]


@pytest.mark.slow
def test_logits_have_the_order_of_the_imagined_clips(tmp_path):
    config = imagined_config()
    task = encoder_task(config, inputs_of(config), tmp_path)
    clips = jnp.asarray(np.asarray(task.clips.clips[:4]))
    variables = task.classifier.init(jax.random.key(0), clips, **task.extra_inputs())
    order = np.array([3, 1, 0, 5, 4, 2])
    other = dataclasses.replace(task, imagined=task.imagined[order])
    expected = task.classifier.apply(variables, clips, **task.extra_inputs())
    found = other.classifier.apply(variables, clips, **other.extra_inputs())
    assert expected.shape == (4, 6)
    np.testing.assert_allclose(found, expected[:, order], atol=1e-4)


@pytest.mark.slow
def test_imagined_clips_are_augmented_with_a_key(tmp_path):
    config = imagined_config()
    task = encoder_task(config, inputs_of(config), tmp_path)
    unchanged, one, two = (
        task.extra_inputs(key)["imagined"] for key in (None, *jax.random.split(jax.random.key(0)))
    )
    np.testing.assert_array_equal(unchanged, task.imagined)
    assert np.abs(one - two).max() > 0.01
    assert dataclasses.replace(task, imagined=None).extra_inputs(jax.random.key(0)) == {}


def test_a_seen_class_without_a_sketch_is_refused(tmp_path):
    config = imagined_config()
    inputs = inputs_of(config, drawn=0)
    with pytest.raises(ValueError, match=r"for each seen class, got none for .* and 1 more;"):
        train_small(inputs, tmp_path)


def test_other_sketches_make_another_encoder(tmp_path):
    config = imagined_config()
    specs = [make_spec(inputs_of(config, drawn), tmp_path, SPLIT, 0) for drawn in (8, 7)]
    assert encoder_folder(specs[0]) != encoder_folder(specs[1])
    config.pretrain.loss = "cross_entropy"
    specs = [make_spec(inputs_of(config, drawn), tmp_path, SPLIT, 0) for drawn in (8, 7)]
    assert encoder_folder(specs[0]) == encoder_folder(specs[1])
