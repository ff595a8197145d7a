"""A sweep equals its cells run one by one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.adaptation import (
    BalancedSettings,
    RefineSettings,
    adapter_of,
    balanced,
    dynapurls,
    grid_of,
    run_stream,
    sweep,
)
from tests.helpers.small_model import first, small_model, small_tokens

COUNT = 22
REFINE = RefineSettings(slots=3, min_samples=4, learning_rate=0.05)


def refinement(variables):
    return lambda model, sample, **cell: dynapurls(
        model, variables, sample, replace(REFINE, **cell)
    )


def prototypes(variables):
    return lambda model, sample, **cell: balanced(model, variables, BalancedSettings(16, **cell))


@pytest.mark.parametrize(
    ("method", "query", "chunk", "grid"),
    [
        (refinement, "label_free", 1, {"capacity": [2, 3], "threshold": [0.0, 0.9, 0.99]}),
        (refinement, "per_candidate", 4, {"learning_rate": [0.01, 0.3], "min_samples": [2, 9]}),
        (prototypes, "label_free", 1, {"gain": [0.0, 2.0, 8.0]}),
    ],
)
def test_every_cell_equals_its_own_stream(method, query, chunk, grid):
    model, variables, text = small_model(query)
    stream = model.encode(variables, small_tokens(COUNT).at[5].set(jnp.nan))  # one is damaged
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(COUNT) for _ in range(2)])
    keys, cells = jax.random.split(jax.random.key(1), 2), grid_of(**grid)
    make = method(variables)
    got = sweep(make, model, text, stream, orders, keys, cells, chunk=chunk)
    count = len(next(iter(cells.values())))
    assert got.label.shape == (count, 2, COUNT)
    for number in range(count):
        cell = {name: values[number].item() for name, values in cells.items()}
        adapter = adapter_of(make(model, first(stream), **cell))
        for place, order in enumerate(orders):
            mine = jax.tree.map(lambda leaf, order=order: leaf[order], stream)
            _, alone = run_stream(adapter, adapter.init(text, key=keys[place]), mine, chunk=chunk)
            np.testing.assert_array_equal(got.label[number, place], alone.label)
            np.testing.assert_array_equal(got.admitted[number, place], alone.admitted)
            np.testing.assert_allclose(got.confidence[number, place], alone.confidence, atol=1e-3)
    assert (np.asarray(got.label) == -1).sum() == 2 * count
    assert len({np.asarray(one).tobytes() for one in got.confidence}) > count / 2  # cells differ


def test_a_grid_is_every_combination():
    grid = grid_of(capacity=[4, 8], threshold=[0.0, 0.1, 0.2])
    np.testing.assert_array_equal(grid["capacity"], [4, 4, 4, 8, 8, 8])
    np.testing.assert_array_equal(grid["threshold"], [0.0, 0.1, 0.2] * 2)
