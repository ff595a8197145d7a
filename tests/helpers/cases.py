"""Test parameters, of which only some run by default."""

import pytest


def some(names, *default):
    """The default names, and the other ones marked as slow."""
    return [
        name if name in default else pytest.param(name, marks=pytest.mark.slow) for name in names
    ]


def cases(default, every):
    """The default cases, and the other cases of `every` marked as slow; each is a tuple."""
    rest = [case for case in every if case not in default]
    return [*default, *[pytest.param(*case, marks=pytest.mark.slow) for case in rest]]
