"""Prompt tuning through a text tower, with real sentences and MiniLM's real weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.prompt_tower import CONTEXT, tower_prompt
from dynapurls_jax.adaptation.tpt import TptSettings, prompt_tuning
from dynapurls_jax.text.hashing import Hashing
from dynapurls_jax.text.minilm import MiniLM
from dynapurls_jax.zero_shot import purls
from dynapurls_jax.zero_shot.base import Candidates, Shapes, unit
from tests.helpers.small_model import SHAPES, G, small_tokens

NAMES = ("wave", "kick a ball", "jump")
# Two phrasings of the first granularity, one of the others.
SENTENCES = [
    [["a video of " + name, "a clip of " + name], *[["a video of " + name]] * (G - 1)]
    for name in NAMES
]


@pytest.fixture(scope="module")
def tower():
    """An encoder and the candidates of its vectors."""
    encoder = MiniLM()
    rows = [
        unit(unit(jnp.asarray(encoder.encode(phrasings))).sum(axis=0))
        for row in SENTENCES
        for phrasings in row[:2]
    ]
    first, second = jnp.stack(rows).reshape(len(NAMES), 2, -1).swapaxes(0, 1)
    classes = jnp.stack([first, *[second] * (G - 1)], axis=1)
    return encoder, Candidates(classes, unit(classes.mean(axis=0)))


@pytest.mark.parametrize("granularities", [1, pytest.param(G, marks=pytest.mark.slow)])
def test_the_initial_prompt_gives_the_static_vectors(tower, granularities):
    encoder, candidates = tower
    prompt = tower_prompt(encoder, SENTENCES, granularities, Candidates)
    start = prompt.start(candidates)
    assert start.shape == (CONTEXT, 384)
    same = prompt.apply(start, candidates).classes
    np.testing.assert_allclose(same, candidates.classes[:, :granularities], atol=1e-5)
    random = jax.random.normal(jax.random.key(0), start.shape) / 10
    moved = prompt.apply(random, candidates).classes
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=-1), 1, atol=1e-5)
    assert jnp.abs(moved - same).max() > 0.01
    with pytest.raises(ValueError, match="expected candidates of 3 classes, got 2"):
        prompt.start(candidates._replace(classes=candidates.classes[:2]))


@pytest.mark.slow
def test_gradients_of_the_prompt_equal_differences(tower):
    encoder, candidates = tower
    prompt = tower_prompt(encoder, SENTENCES, 1, Candidates)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 384)), jnp.float32)

    @jax.jit
    def loss(tuned):
        return jnp.sum(weights * prompt.apply(tuned, candidates).classes)

    start = prompt.start(candidates)
    way = jnp.asarray(np.random.default_rng(1).normal(size=start.shape), jnp.float32)
    slope = jnp.sum(jax.grad(loss)(start) * way)
    step = 1e-3
    measured = (loss(start + step * way) - loss(start - step * way)) / (2 * step)
    np.testing.assert_allclose(slope, measured, rtol=0.02)


@pytest.mark.slow
def test_a_stream_is_predicted_through_the_tower(tower):
    encoder, candidates = tower
    prompt = tower_prompt(encoder, SENTENCES, 1, Candidates)
    shapes = Shapes(SHAPES.skeleton, SHAPES.tokens, 384)
    model = purls.ENTRY.make(purls.PurlsSettings(attention=5, hidden=16), shapes)
    tokens = small_tokens(3)
    variables = model.init(jax.random.key(0), tokens, candidates.classes)
    features = model.encode(variables, tokens)
    static = model.score(variables, features, candidates)

    def logits(settings):
        adapter = adapter_of(prompt_tuning(model, variables, settings, prompt))
        return run_stream(adapter, adapter.init(candidates), features)[1].logits

    tuned = logits(TptSettings(views=6, confident_share=0.5))
    assert jnp.isfinite(tuned).all()
    assert jnp.abs(tuned - static).max() > 1e-3
    untuned = logits(TptSettings(views=6, learning_rate=0.0))
    np.testing.assert_allclose(untuned, static, atol=1e-3)


@pytest.mark.parametrize("encoder", [Hashing(), None])
def test_an_encoder_without_a_tower_is_refused(encoder):
    with pytest.raises(ValueError, match="expected text encoder clip or minilm, or adapter tpt_re"):
        tower_prompt(encoder, SENTENCES, 1, Candidates)
