"""A small zero-shot model with random weights, and streams for it."""

import jax
import jax.numpy as jnp
import numpy as np

from dynapurls_jax.zero_shot.purls import make_model, mean_text
from dynapurls_jax.zero_shot.nn.partition import Text, unit

S, N, H, D, G = 4, 6, 5, 7, 8


def small_tokens(count, seed=0):
    """Tokens of `count` samples, those of a sample alike, so that samples differ."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(count, 1, N))
    return jnp.asarray(whole + 0.3 * rng.normal(size=(count, S, N)), jnp.float32)


def small_text(classes, seed=1):
    """Random texts."""
    rng = np.random.default_rng(seed)
    rows = unit(jnp.asarray(rng.normal(size=(classes, G, D)), jnp.float32))
    return Text(rows, mean_text(rows))


def small_model(query="label_free", score="global", classes=4):
    """Model, variables, and text that lies where the model puts samples: no class takes all."""
    model = make_model(query=query, head="row", score=score, text_width=D, attention=H, hidden=16)
    tokens, text = small_tokens(30), small_text(classes)
    variables = model.init(jax.random.key(0), tokens, text)
    visual = model.encode(variables, tokens)
    rows = model.project(variables, visual, text.query[None, None])[:, 0]  # [30, R, D]
    away = rows - rows.mean(axis=0)
    own = unit(away[:classes] + 0.1 * text.classes[:, : rows.shape[1]])
    return model, variables, text._replace(classes=text.classes.at[:, : rows.shape[1]].set(own))


def first(visual):
    """One sample of a stream."""
    return jax.tree.map(lambda leaf: leaf[0], visual)


def part(visual, *where):
    """A slice of a stream."""
    return jax.tree.map(lambda leaf: leaf[slice(*where)], visual)
