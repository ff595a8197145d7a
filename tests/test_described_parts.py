"""Every registered part has a description in one line and a paper."""

import pytest

from data_pipelines.builders.registry import DATASETS, about, module_of
from data_pipelines.papers import THIS_PROJECT
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.text.registry import TEXT_ENCODERS
from dynapurls_jax.zero_shot.registry import METHODS
from tests.conftest import ROOT


def parts():
    """Name, module, description and paper of every part."""
    for registry in (ENCODERS, METHODS, ADAPTERS, TEXT_ENCODERS):
        for name in registry.names:
            entry = registry.entry(name)
            yield name, registry.module(name), entry.description, entry.paper
    for name in DATASETS:
        yield name, module_of(name), *about(name)


@pytest.mark.parametrize(("name", "module", "description", "paper"), list(parts()))
def test_every_part_is_described(name, module, description, paper):
    assert description
    assert description.isprintable()
    assert not description.endswith(".")
    assert paper.title
    assert paper == THIS_PROJECT or paper.link.startswith("https://")
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
