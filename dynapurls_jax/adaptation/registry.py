"""Test-time methods by the names and settings of a configuration."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from data_pipelines.errors import unknown
from dynapurls_jax.adaptation.adanpc import AdaNpcSettings, adanpc
from dynapurls_jax.adaptation.api import Adapter, Method, adapter_of
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.calip import CalipSettings, calip
from dynapurls_jax.adaptation.dynapurls import RefineSettings, dynapurls
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.tda import TdaSettings, tda
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.adaptation.tpt import Prompt, TptSettings, residual_prompt, tpt
from dynapurls_jax.zero_shot.purls import Variables, ZeroShotModel
from dynapurls_jax.zero_shot.nn.partition import VisualFeatures
from dynapurls_jax.config import ADAPTERS

# Those that need nothing but their settings: `(model, variables, settings) -> Method`.
METHODS: dict[str, tuple[Callable[..., Method], Callable[..., Any]]] = {
    "balanced": (balanced, BalancedSettings),
    "tent": (tent, TentSettings),
    "tda": (tda, TdaSettings),
    "adanpc": (adanpc, AdaNpcSettings),
    "calip": (calip, CalipSettings),
}


def make_method(
    name: str,
    config: ConfigDict,
    model: ZeroShotModel,
    variables: Variables,
    stream: VisualFeatures,
    samples: int,
    prompt_of: Callable[[], Prompt] | None = None,
) -> Method:
    """The test-time method of this name, with the settings of a configuration.

    Args:
      name: one of `config.ADAPTERS`.
      stream: some samples, for their shapes.
      samples: that are to come; over these the rate is annealed.
      prompt_of: makes the prompt of "tpt"; None where classes come and go.

    Raises:
      ValueError: unknown name, or "tpt" without a prompt.
    """
    if name not in ADAPTERS:
        raise unknown("adapter", name, ADAPTERS)
    if name == "tpt" and prompt_of is None:
        raise ValueError("adapter tpt tunes through the texts of fixed classes: use tpt_residual")
    if name == "static":
        return static(model, variables)
    if name == "dynapurls":
        sample = jax.tree.map(lambda leaf: leaf[0], stream)
        return dynapurls(model, variables, sample, refine_settings(config, samples))
    values = dict(config[ADAPTERS[name]])
    if name in ("tpt", "tpt_residual"):
        prompt = prompt_of() if name == "tpt" and prompt_of else residual_prompt(model)
        return tpt(model, variables, TptSettings(**values), prompt)
    method, settings = METHODS[name]
    return method(model, variables, settings(**values))


def refine_settings(config: ConfigDict, samples: int, **changes: Any) -> RefineSettings:
    """The settings of "dynapurls" for a stream of so many samples, some of them changed."""
    values = dict(config.refine)
    chunks = -(-samples // config.eval.chunk)
    values["horizon"] = chunks * config.refine.steps if values.pop("anneal") else None
    return RefineSettings(**(values | changes))


def make_adapter(config: ConfigDict, method: Method) -> Adapter:
    """A method ready for a stream, in the turn that a configuration says."""
    return adapter_of(method, config.eval.turn == "learn_first")
