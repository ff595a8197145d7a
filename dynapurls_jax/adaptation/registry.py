"""Test-time methods by name. A new one: its file beside this one, and a line here."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from dynapurls_jax.registry import Registry

if TYPE_CHECKING:
    from dynapurls_jax.adaptation.api import Method, StreamInfo
    from dynapurls_jax.zero_shot.base import Variables, ZeroShotMethod

ADAPTERS = Registry(
    "adapter",
    {
        "balanced": "dynapurls_jax.adaptation.balanced",
        "recentred": "dynapurls_jax.adaptation.recentred",
        "dynapurls": "dynapurls_jax.adaptation.dynapurls",
        "tent": "dynapurls_jax.adaptation.tent",
        "tda": "dynapurls_jax.adaptation.tda",
        "skeleton_cache": "dynapurls_jax.adaptation.skeleton_cache",
        "adanpc": "dynapurls_jax.adaptation.adanpc",
        "calip": "dynapurls_jax.adaptation.calip",
        "tpt": "dynapurls_jax.adaptation.tpt",
        "tpt_residual": "dynapurls_jax.adaptation.tpt:RESIDUAL_ENTRY",
        "centred_scores": "dynapurls_jax.adaptation.centred_scores",
        "static": "dynapurls_jax.adaptation.static",
    },
)

# The scores of the gate of generalised recognition, see `adaptation.gated`.
GATES = Registry(
    "gate",
    {
        "entropy": "dynapurls_jax.adaptation.gated:entropy",
        "energy": "dynapurls_jax.adaptation.gated:energy",
        "stacking": "dynapurls_jax.adaptation.gated:stacking",
        "logistic": "dynapurls_jax.adaptation.logistic_gate:logistic",
    },
)


def make_method(
    section: ConfigDict, model: "ZeroShotMethod", variables: "Variables", info: "StreamInfo"
) -> "Method":
    """The test-time method that `config.adapter` names, for a zero-shot method and a stream.

    Raises:
      ValueError: unknown name, settings that cannot be used, a zero-shot method without what the
        test-time method needs, or "tpt" without a prompt.
    """
    entry, settings = ADAPTERS.entry(section.name), ADAPTERS.settings(section)
    if not supports(section.name, model):
        fitting = [name for name in ADAPTERS.names if supports(name, model)]
        what = "vectors of samples" if entry.needs == "embedding" else "features of tokens"
        raise ValueError(
            f"adapter {section.name} needs {what}, which the zero-shot method does not have: "
            f"expected one of {', '.join(fitting)}"
        )
    return entry.make(model, variables, settings, info)


def supports(name: str, model: "ZeroShotMethod") -> bool:
    """Whether a zero-shot method has what a test-time method needs (`TestTimeEntry.needs`).

    Args:
      name: name of the test-time method in the registry, or its import path.
    """
    needs = ADAPTERS.entry(name).needs
    if needs == "score":
        return True
    return model.embedding is not None and (needs == "embedding" or model.attend is not None)
