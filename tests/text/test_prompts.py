"""Prompts that are tuned through a text tower: real texts, MiniLM's real weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation import TptSettings, adapter_of, run_stream, tpt
from dynapurls_jax.adaptation.registry import make_method
from dynapurls_jax.zero_shot.purls import make_model, mean_text
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures
from dynapurls_jax.config import default_config
from dynapurls_jax.text.features import text_features
from dynapurls_jax.text.prompts import CONTEXT, tower_prompt
from tests.conftest import tiny_corpus

CLASSES = (2, 5, 7)


@pytest.fixture(scope="module")
def texts():
    """Settings, corpus and text of some classes with real names and descriptions."""
    settings = default_config().text
    corpus = tiny_corpus()
    corpus = type(corpus)(**(vars(corpus) | {"class_names": NAMES}))
    settings.descriptions = "names"
    vectors, _ = text_features(settings, corpus)
    chosen = jnp.asarray(vectors)[jnp.array(CLASSES)]
    return settings, corpus, Text(chosen, mean_text(jnp.asarray(vectors)))


NAMES = ("swipe left", "swipe right", "wave", "clap", "throw", "kick a ball", "sit down", "jump")


@pytest.mark.parametrize("rows", [1, 8])
def test_an_untouched_prompt_gives_the_text_as_it_is(texts, rows):
    settings, corpus, text = texts
    prompt = tower_prompt(settings, corpus, CLASSES, rows)
    start = prompt.start(text)
    assert start.shape == (CONTEXT, 384)
    same = prompt.text(start, text).classes
    np.testing.assert_allclose(same, text.classes[:, :rows], atol=1e-5)
    moved = prompt.text(jax.random.normal(jax.random.key(0), start.shape) / 10, text).classes
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=-1), 1, atol=1e-5)
    assert jnp.abs(moved - same).max() > 0.01
    with pytest.raises(ValueError, match="expected text of 3 classes, got 2"):
        prompt.start(text._replace(classes=text.classes[:2]))


def test_gradients_reach_the_prompt_as_differences_do(texts):
    settings, corpus, text = texts
    prompt = tower_prompt(settings, corpus, CLASSES, 1)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 384)), jnp.float32)

    def loss(tuned):
        return jnp.sum(weights * prompt.text(tuned, text).classes)

    start = prompt.start(text)
    way = jnp.asarray(np.random.default_rng(1).normal(size=start.shape), jnp.float32)
    slope = jnp.sum(jax.grad(loss)(start) * way)
    step = 1e-3
    measured = (loss(start + step * way) - loss(start - step * way)) / (2 * step)
    np.testing.assert_allclose(slope, measured, rtol=0.02)


def test_a_stream_is_answered_through_the_tower(texts):
    settings, corpus, text = texts
    prompt = tower_prompt(settings, corpus, CLASSES, 1)
    model = make_model(
        query="label_free", head="row", score="global", text_width=384, attention=5, hidden=16
    )
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6)), jnp.float32)
    variables = model.init(jax.random.key(0), tokens, text)
    visual = model.encode(variables, tokens)
    method = tpt(model, variables, TptSettings(views=6, share=0.5), prompt)
    adapter = adapter_of(method)
    _, prediction = run_stream(adapter, adapter.init(text), visual)
    static = model.score(variables, visual, text)
    assert jnp.isfinite(prediction.logits).all()
    assert jnp.abs(prediction.logits - static).max() > 1e-3
    still = adapter_of(tpt(model, variables, TptSettings(views=6, learning_rate=0.0), prompt))
    _, prediction = run_stream(still, still.init(text), visual)
    np.testing.assert_allclose(prediction.logits, static, atol=1e-3)


def test_what_has_no_tower_says_so(texts):
    _, corpus, _ = texts
    for encoder in ("hashing", "precomputed"):
        settings = default_config().text
        settings.encoder = encoder
        with pytest.raises(ValueError, match=f"'{encoder}' has no tower.*tpt_residual"):
            tower_prompt(settings, corpus, CLASSES, 1)
    with pytest.raises(ValueError, match="use tpt_residual"):
        make_method("tpt", default_config(), *static_of_nothing(), 1)


def static_of_nothing():
    """Arguments that are not looked at."""
    model = make_model(query="label_free", head="row", score="global", text_width=3)
    return model, {}, VisualFeatures(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)))
