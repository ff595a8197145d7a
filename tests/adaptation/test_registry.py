"""Test-time methods by name: settings, and pairs with zero-shot methods."""

import re

import jax
import pytest

from dynapurls_jax.adaptation.api import Prompt, StreamInfo, adapter_of
from dynapurls_jax.adaptation.registry import ADAPTERS, make_method
from tests.helpers.small_model import small_model, small_tokens


def section_of(name, **changes):
    section = ADAPTERS.section(name)
    section[name].update(changes)
    return section


def labels_of(name, kind, **info):
    """The shape of predictions; nothing is compiled."""
    model, variables, candidates = small_model(kind)
    features = model.encode(variables, small_tokens(3))
    method = make_method(
        section_of(name), model, variables, StreamInfo.of(features)._replace(**info)
    )
    adapter = adapter_of(method)
    state = jax.eval_shape(adapter.init, candidates)
    return jax.eval_shape(adapter.step, state, features)[1].label


NO_PROMPT = Prompt(lambda candidates: (), lambda prompt, candidates: candidates)


@pytest.mark.parametrize("name", ADAPTERS.names)
@pytest.mark.parametrize("kind", ["label_free", "ridge"])
def test_each_pair_works_or_is_an_error_in_one_sentence(name, kind):
    if kind == "ridge" and ADAPTERS.entry(name).needs == "tokens":
        fitting = (
            "expected one of balanced, recentred, dynapurls, tent, tda, skeleton_cache, adanpc, "
            "centred_scores, static"
        )
        message = f"adapter {name} needs features of tokens, .*does not have: {fitting}$"
        with pytest.raises(ValueError, match=message):
            labels_of(name, kind, prompt=NO_PROMPT)
    else:
        assert labels_of(name, kind, prompt=NO_PROMPT).shape == (3,)


def test_without_an_embedding_the_methods_on_scores_are_available():
    model, variables, _ = small_model()
    model = model._replace(embedding=None)
    info = StreamInfo.of(small_tokens(1))
    of_scores = ["centred_scores", "static"]
    expected = f"expected one of {', '.join(of_scores)}$"
    for name in set(ADAPTERS.names) - set(of_scores):
        with pytest.raises(ValueError, match=f"adapter {name} needs .*: {expected}"):
            make_method(section_of(name), model, variables, info)
    for name in of_scores:
        make_method(section_of(name), model, variables, info)


def test_tpt_needs_a_prompt():
    with pytest.raises(ValueError, match="expected adapter tpt_residual"):
        labels_of("tpt", "label_free")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("balanced", {"window": 0}, "adapter.balanced: window: expected 1 or more, got 0"),
        ("balanced", {"window": 0}, "window: expected 1 or more"),
        ("balanced", {"share_count": 0.0}, "share_count: expected more than 0"),
        ("balanced", {"temperature": 0.0}, "temperature: expected more than 0"),
        ("balanced", {"prior_count": -1.0}, "prior_count: expected more than 0"),
        ("dynapurls", {"steps": 0}, "steps: expected 1 or more"),
        ("dynapurls", {"capacity": -1}, "capacity: expected 0 or more"),
        ("dynapurls", {"eviction": "least_recen"}, "did you mean 'least_recent'?"),
        ("tent", {"steps": 0}, "steps: expected 1 or more"),
        ("tda", {"capacity": 0}, "capacity: expected 1 or more"),
        ("tda", {"negative_capacity": 0}, "negative_capacity: expected 1 or more"),
        ("skeleton_cache", {"capacity": 0}, "capacity: expected 1 or more"),
        ("adanpc", {"neighbours": 0}, "neighbours: expected 1 or more"),
        ("adanpc", {"capacity": 0}, "capacity: expected 1 or more"),
        ("tpt", {"views": 0}, "views: expected 1 or more"),
        ("tpt", {"confident_share": 0.0}, "confident_share: expected a share above 0"),
        ("tpt_residual", {"token_share": 1.5}, "token_share: .* at most 1, got 1.5"),
    ],
)
def test_invalid_settings_are_errors(name, changes, message):
    message = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=message):
        ADAPTERS.settings(section_of(name, **changes))


def test_the_error_of_an_unknown_name_has_the_nearest():
    with pytest.raises(ValueError, match=r"unknown adapter 'balance'; did you mean 'balanced'\?"):
        ADAPTERS.entry("balance")
