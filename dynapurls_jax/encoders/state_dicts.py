"""Takes the tensors of a state dict by name, and keeps the Flax leaves that they become."""

from typing import NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from dynapurls_jax.encoders.convert_shift_gcn import STATISTICS, State


class Names(NamedTuple):
    """What a repository calls the parts of a network.

    Attributes:
      prefix: of all names but the classifier's.
      layer: `{}` is its number.
      first: number of the first layer.
      conv: and `norm`, of the temporal unit of ST-GCN, 2s-AGCN and AAGCN.
      skip: convolution and normalisation of the residual.
    """

    prefix: str = ""
    layer: str = "l{}"
    first: int = 1
    spatial: str = "gcn1"
    temporal: str = "tcn1"
    graph: str = "PA"
    classifier: str = "fc"
    conv: str = "conv"
    norm: str = "bn"
    skip: tuple[str, str] = ("conv", "bn")


class Conversion:
    """Takes tensors of a state dict by their names, and keeps the leaves that they become."""

    def __init__(self, encoder: str, state: State, names: Names):
        """Starts with all tensors but the counters of normalisations."""
        self.encoder, self.names = encoder, names
        self.left = {n: np.asarray(a) for n, a in state.items() if not n.endswith("_tracked")}
        self.leaves: dict[str, np.ndarray] = {}

    def take(self, name: str) -> np.ndarray:
        """A tensor, which is then no longer left."""
        if name not in self.left:
            raise ValueError(f"expected the state dict of {self.encoder}, it lacks {name}")
        return self.left.pop(name)

    def put(self, path: str, array: np.ndarray) -> None:
        """A parameter."""
        self.leaves[f"params/{path}"] = np.ascontiguousarray(array)

    def conv(self, path: str, *names: str) -> None:
        """Convolutions, side by side in one: `[out, in, size, ...]` for `[size, in, out]`."""
        kernels = [np.atleast_3d(self.take(f"{name}.weight")) for name in names]
        kernel = np.concatenate([k.reshape(*k.shape[:3]).transpose(2, 1, 0) for k in kernels], -1)
        self.put(f"{path}/kernel", kernel)
        self.put(f"{path}/bias", np.concatenate([self.take(f"{name}.bias") for name in names]))

    def point(self, path: str, *names: str) -> None:
        """The same for 1x1 convolutions and dense layers: `[in, out]`."""
        self.conv(path, *names)
        self.put(f"{path}/kernel", self.leaves[f"params/{path}/kernel"][0])

    def norm(self, path: str, *names: str) -> None:
        """Normalisations, side by side in one."""
        kinds = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        for leaf, kind in kinds.items():
            collection = "params" if leaf in ("scale", "bias") else STATISTICS
            array = np.concatenate([self.take(f"{name}.{kind}") for name in names])
            self.leaves[f"{collection}/{path}/{leaf}"] = array

    def variables(self) -> dict:
        """The variables.

        Raises:
          ValueError: a tensor is left.
        """
        if self.left:
            left = ", ".join(sorted(self.left)[:3])
            raise ValueError(
                f"expected the state dict of {self.encoder}, it also has {len(self.left)} other "
                f"tensors: {left}"
            )
        return unflatten_dict(self.leaves, sep="/")
