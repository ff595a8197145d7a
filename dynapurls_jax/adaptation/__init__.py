"""Test-time methods: each a `Method`, made an `Adapter` by `adapter_of`, run by `run_stream`."""

from dynapurls_jax.adaptation.adanpc import AdaNpcSettings, adanpc
from dynapurls_jax.adaptation.api import (
    Adapter,
    UpdateInfo,
    Method,
    Prediction,
    State,
    adapter_of,
    run_stream,
)
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.calip import CalipSettings, calip
from dynapurls_jax.adaptation.classes import add_class, reset, retire_class, with_capacity
from dynapurls_jax.adaptation.dynapurls import RefineSettings, dynapurls
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.sweep import Swept, grid_of, sweep
from dynapurls_jax.adaptation.tda import TdaSettings, tda
from dynapurls_jax.adaptation.tent import TentSettings, tent
from dynapurls_jax.adaptation.tpt import Prompt, TptSettings, residual_prompt, tpt

__all__ = [
    "AdaNpcSettings",
    "Adapter",
    "BalancedSettings",
    "CalipSettings",
    "Gate",
    "UpdateInfo",
    "Method",
    "Prediction",
    "Prompt",
    "RefineSettings",
    "State",
    "Swept",
    "TdaSettings",
    "TentSettings",
    "TptSettings",
    "adanpc",
    "adapter_of",
    "add_class",
    "balanced",
    "calip",
    "dynapurls",
    "gated",
    "grid_of",
    "reset",
    "residual_prompt",
    "retire_class",
    "run_stream",
    "static",
    "sweep",
    "tda",
    "tent",
    "tpt",
    "with_capacity",
]
