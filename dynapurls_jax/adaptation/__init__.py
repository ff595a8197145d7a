"""Test-time methods: each an `Adapter`, all run by `run_stream`."""

from dynapurls_jax.adaptation.api import Adapter, Prediction, run_stream
from dynapurls_jax.adaptation.dynapurls import RefineSettings, dynapurls
from dynapurls_jax.adaptation.static import static

__all__ = ["Adapter", "Prediction", "RefineSettings", "dynapurls", "run_stream", "static"]
