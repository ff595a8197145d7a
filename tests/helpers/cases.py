"""Parameters of tests, of which a few are in the default selection."""

import pytest


def cases(default, every):
    """The default cases, and the others of `every` marked as slow; each is a tuple."""
    rest = [case for case in every if case not in default]
    return [*default, *[pytest.param(*case, marks=pytest.mark.slow) for case in rest]]
