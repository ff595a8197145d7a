"""Test parameters, of which only some run by default."""

import pytest


def slow(*values):
    """Parameters of an exhaustive test."""
    return pytest.param(*values, marks=pytest.mark.slow)


def some(names, *default):
    """The default names, and the other ones marked as slow."""
    return [name if name in default else slow(name) for name in names]


def cases(default, every):
    """The default cases, and the other cases of `every` marked as slow; each is a tuple."""
    rest = [case for case in every if case not in default]
    return [*default, *[slow(*case) for case in rest]]
