"""Random keys: purposes never share one."""

import itertools

import jax
import pytest

from dynapurls_jax.rng import PURPOSES, key_of


def test_purposes_and_steps_have_keys_of_their_own():
    steps = [(), *itertools.product(range(5)), *itertools.product(range(4), range(4))]
    keys = {
        tuple(jax.random.key_data(key_of(seed, purpose, *each)).tolist())
        for seed in range(3)
        for purpose in PURPOSES
        for each in steps
    }
    assert len(keys) == 3 * len(PURPOSES) * len(steps)


def test_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match=r"expected one of encoder_init, .*got 'streams'"):
        key_of(0, "streams")
