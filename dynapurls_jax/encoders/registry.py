"""Encoders by name. A new one: its file beside this one, and a line here."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from dynapurls_jax.registry import Registry

if TYPE_CHECKING:
    import flax.linen as nn

    from data_pipelines.skeletons import Skeleton

ENCODERS = Registry(
    "encoder",
    {
        "shift_gcn": "dynapurls_jax.encoders.shift_gcn",
        "stgcn": "dynapurls_jax.encoders.stgcn",
        "agcn": "dynapurls_jax.encoders.agcn",
        "aagcn": "dynapurls_jax.encoders.aagcn",
        "ctr_gcn": "dynapurls_jax.encoders.ctr_gcn",
        "dg_stgcn": "dynapurls_jax.encoders.dg_stgcn",
        "kinematics": "dynapurls_jax.encoders.kinematics",
        "posture": "dynapurls_jax.encoders.posture",
        "temporal_conv": "dynapurls_jax.encoders.temporal_conv",
        "posec3d": "dynapurls_jax.encoders.posec3d",
    },
)


def make_encoder(section: ConfigDict, skeleton: "Skeleton") -> "nn.Module":
    """The encoder that `config.encoder` names.

    Raises:
      ValueError: unknown name, or settings that cannot be used.
    """
    return ENCODERS.entry(section.name).make(ENCODERS.settings(section), skeleton)
