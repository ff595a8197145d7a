"""Sweeps against separate streams for each cell."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation.adanpc import AdaNpcSettings, adanpc
from dynapurls_jax.adaptation.api import Prompt, StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.calip import CalipSettings, calip
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.adaptation.skeleton_cache import SkeletonCacheSettings, skeleton_cache
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.sweep import SweepTask, grid_of, sweep
from dynapurls_jax.adaptation.tda import TdaSettings, tda
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.adaptation.tpt import TptSettings, tpt, tpt_residual
from tests.helpers.cases import cases
from tests.helpers.small_model import KINDS, small_model, small_tokens

COUNT, CHUNK = 16, 4
REFINE = DynaPurlsSettings(capacity=3, min_samples=4, learning_rate=0.05)


def refined(model, variables, info, **cell):
    return dynapurls(model, variables, replace(REFINE, **cell), info, max_capacity=3)


def unadapted(model, variables, info, unused):
    return static(model, variables)


def of(factory, settings):
    """A factory with some settings, those of a cell replaced."""

    def make(model, variables, info, **cell):
        return factory(model, variables, replace(settings, **cell), info)

    return make


def behind_gate(model, variables, info, threshold):
    methods = (tent(model, variables, TentSettings(0.1)), static(model, variables))
    return gated(model, variables, Gate(threshold=threshold), *methods, seen=(0, 1))


METHODS = {
    "static": (unadapted, {"unused": [0.0]}),
    "dynapurls": (refined, {"capacity": [2, 3], "threshold": [0.0, 0.9], "learning_rate": [0.3]}),
    "balanced": (of(balanced, BalancedSettings(16, sinkhorn_iterations=2)), {"gain": [0.0, 8.0]}),
    "tent": (of(tent, TentSettings()), {"learning_rate": [0.01, 0.3]}),
    "tda": (of(tda, TdaSettings(entropy_high=0.9)), {"alpha": [0.0, 5.0]}),
    "skeleton_cache": (of(skeleton_cache, SkeletonCacheSettings(3)), {"beta": [3.0, 9.0]}),
    "adanpc": (of(adanpc, AdaNpcSettings(6, 5)), {"threshold": [0.3, 0.9]}),
    "gated": (behind_gate, {"threshold": [0.05, 0.5]}),
}
FEW = [("balanced", "label_free")]
PAIRS = [(name, kind) for name in METHODS for kind in KINDS]


@cache
def task_of(kind):
    """A task with a damaged sample, its variables, orders and keys."""
    model, variables, candidates = small_model(kind)
    features = model.encode(variables, small_tokens(COUNT).at[5].set(jnp.nan))
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(COUNT) for _ in range(2)])
    keys = jax.random.split(jax.random.key(1), 2)
    return SweepTask(model, candidates, features), variables, orders, keys


@pytest.mark.parametrize(("name", "kind"), cases(FEW, PAIRS))
def test_cells_equal_their_own_streams(name, kind):
    method, axes = METHODS[name]
    task, variables, orders, keys = task_of(kind)
    grid = grid_of(**axes)
    count = len(next(iter(grid.values())))

    def make(model, info, **cell):
        return method(model, variables, info, **cell)

    swept = sweep(make, task, orders, keys, grid, chunk=CHUNK)
    assert swept.label.shape == (count, 2, COUNT)
    assert (np.asarray(swept.label) == -1).sum() == 2 * count
    for number in {0, count - 1}:
        cell = {key: values[number].item() for key, values in grid.items()}
        info = StreamInfo.of(task.features, COUNT, CHUNK)
        adapter = adapter_of(make(task.model, info, **cell))
        for place, order in enumerate(orders):
            features = jax.tree.map(lambda leaf, order=order: leaf[order], task.features)
            start = adapter.init(task.candidates, key=keys[place])
            _, alone = run_stream(adapter, start, features, chunk=CHUNK)
            np.testing.assert_array_equal(swept.label[number, place], alone.label)
            np.testing.assert_array_equal(swept.admitted[number, place], alone.admitted)
            confidence = swept.confidence[number, place]
            np.testing.assert_allclose(confidence, alone.confidence, atol=1e-3)
    if name != "static":
        assert len({np.asarray(one).tobytes() for one in swept.confidence}) > count / 2


@pytest.mark.parametrize("name", ["calip", "tpt", "tpt_residual"])
def test_methods_that_use_tokens_are_errors(name):
    task, variables, orders, keys = task_of("label_free")

    def make(model, info, learning_rate):
        if name == "calip":
            return calip(model, variables, CalipSettings())
        nothing = Prompt(lambda candidates: (), lambda prompt, candidates: candidates)
        settings = TptSettings(learning_rate=learning_rate)
        factory = tpt if name == "tpt" else tpt_residual
        return factory(model, variables, settings, info._replace(prompt=nothing))

    with pytest.raises(ValueError, match=r"needs the tokens of a sample.*in a sweep"):
        sweep(make, task, orders, keys, {"learning_rate": np.ones(1)})


def test_a_grid_is_every_combination():
    grid = grid_of(capacity=[4, 8], threshold=[0.0, 0.1, 0.2])
    np.testing.assert_array_equal(grid["capacity"], [4, 4, 4, 8, 8, 8])
    np.testing.assert_array_equal(grid["threshold"], [0.0, 0.1, 0.2] * 2)
