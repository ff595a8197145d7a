"""Runs with motion sketches: tokens of imagined clips, and what stands in for missing ones."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.animation import imagined_clip
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.evaluation.tasks import unseen_task
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


def test_tokens_are_those_of_a_clip_of_the_corpus(tmp_path):
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


def test_other_sketches_are_another_run_and_none_is_ridge_regression(tmp_path, capsys):
    drawn = train_small(inputs_of(config_of()), tmp_path)
    without = train_small(inputs_of(config_of(), drawn=0), tmp_path)
    assert "text alone counts for 8 classes" in capsys.readouterr().out
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
def test_a_trained_encoder_imagines_too(tmp_path):
    run = train_small(inputs_of(config_of(encoder="shift_gcn")), tmp_path)
    assert np.isfinite(run.sketch_tokens).all()
    assert run.candidates_of(run.protocol.unseen).classes.shape[0] == 2
