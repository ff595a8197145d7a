"""Test-time methods: each a `Method`, made an `Adapter` by `adapter_of`, run by `run_stream`."""

from dynapurls_jax.adaptation.api import (
    Adapter,
    Learned,
    Method,
    Prediction,
    State,
    adapter_of,
    run_stream,
)
from dynapurls_jax.adaptation.balanced import BalancedSettings, balanced
from dynapurls_jax.adaptation.classes import add_class, reset, retire_class, with_capacity
from dynapurls_jax.adaptation.dynapurls import RefineSettings, dynapurls
from dynapurls_jax.adaptation.gated import Gate, gated
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.adaptation.sweep import Swept, grid_of, sweep

__all__ = [
    "Adapter",
    "BalancedSettings",
    "Gate",
    "Learned",
    "Method",
    "Prediction",
    "RefineSettings",
    "State",
    "Swept",
    "adapter_of",
    "add_class",
    "balanced",
    "dynapurls",
    "gated",
    "grid_of",
    "reset",
    "retire_class",
    "run_stream",
    "static",
    "sweep",
    "with_capacity",
]
