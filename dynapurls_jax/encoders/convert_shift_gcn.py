"""Converts published Shift-GCN checkpoints to Flax variables and back, as arrays, without PyTorch.

The published network has a `data_bn`, ten layers `l1` to `l10` of `gcn1` (spatial) and `tcn1`
(temporal), and an `fc`. Its constant index tables are not parameters here; `to_state_dict`
recomputes them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dynapurls_jax.encoders.layers import LAYERS

State = Mapping[str, np.ndarray]
STATISTICS = "batch_stats"


# Conversion of a tensor to a leaf of the variables, and back.
KINDS: dict[str, tuple[Callable, Callable]] = {
    "same": (np.asarray, np.asarray),
    "dense": (np.transpose, np.transpose),  # [out, in] for [in, out]
    "conv": (lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None]),
    "mask": (lambda a: a[0], lambda a: a[None]),  # [1, V, C] for [V, C]
    "bias": (lambda a: a[0, 0], lambda a: a[None, None]),  # [1, 1, C] for [C]
}


class Entry(NamedTuple):
    """One tensor.

    Attributes:
      name: in the state dict.
      path: of the leaf in the Flax variables, their collection first.
      kind: one of `KINDS`.
    """

    name: str
    path: tuple[str, ...]
    kind: str = "same"


def _norm(name: str, *path: str) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", ("params", *path, "scale"))
    yield Entry(f"{name}.bias", ("params", *path, "bias"))
    yield Entry(f"{name}.running_mean", (STATISTICS, *path, "mean"))
    yield Entry(f"{name}.running_var", (STATISTICS, *path, "var"))


def _dense(name: str, kind: str, *path: str) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", ("params", *path, "kernel"), kind)
    yield Entry(f"{name}.bias", ("params", *path, "bias"))


def entries() -> Iterator[Entry]:
    """All learned tensors and running statistics."""
    yield from _norm("data_bn", "data_norm")
    width = 0
    for index, (multiple, stride) in enumerate(LAYERS):
        layer, own = f"l{index + 1}", f"layers_{index}"
        spatial, temporal = (own, "spatial"), (own, "temporal")
        yield Entry(f"{layer}.gcn1.Feature_Mask", ("params", *spatial, "feature_mask"), "mask")
        yield Entry(f"{layer}.gcn1.Linear_weight", ("params", *spatial, "linear", "kernel"))
        yield Entry(f"{layer}.gcn1.Linear_bias", ("params", *spatial, "linear", "bias"), "bias")
        yield from _norm(f"{layer}.gcn1.bn", *spatial, "norm")
        if multiple != width:
            yield from _dense(f"{layer}.gcn1.down.0", "conv", *spatial, "down")
            yield from _norm(f"{layer}.gcn1.down.1", *spatial, "down_norm")
        yield from _norm(f"{layer}.tcn1.bn", *temporal, "norm_in")
        yield from _norm(f"{layer}.tcn1.bn2", *temporal, "norm_out")
        for shift in ("shift_in", "shift_out"):
            yield Entry(f"{layer}.tcn1.{shift}.ypos", ("params", *temporal, shift))
        yield from _dense(f"{layer}.tcn1.temporal_linear", "conv", *temporal, "linear")
        if index and (multiple != width or stride != 1):
            yield from _dense(f"{layer}.residual.conv", "conv", own, "residual")
            yield from _norm(f"{layer}.residual.bn", own, "residual_norm")
        width = multiple
    yield from _dense("fc", "dense", "classifier")


def from_state_dict(state: State) -> dict:
    """Flax variables of a `ShiftGCN` that counts absent persons, as the published network does.

    Args:
      state: name to array, float32.

    Raises:
      ValueError: a tensor is missing; the message has its name.
    """
    leaves = {}
    for entry in entries():
        if entry.name not in state:
            raise ValueError(f"expected the state dict of a Shift-GCN, it lacks {entry.name}")
        to_leaf, _ = KINDS[entry.kind]
        leaves[entry.path] = to_leaf(np.asarray(state[entry.name]))
    return unflatten_dict(leaves)


def to_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of the published network, with index tables and counters.

    The counters `num_batches_tracked` are 0: the published network does not use them.

    Args:
      variables: of a classifier with a `ShiftGCN` of the published layers, of any width.
    """
    state: dict[str, np.ndarray] = {}
    leaves = flatten_dict(variables)
    for entry in entries():
        _, to_tensor = KINDS[entry.kind]
        array = to_tensor(np.asarray(leaves[entry.path]))
        state[entry.name] = np.ascontiguousarray(array)
        if entry.name.endswith("running_var"):
            counter = entry.name.replace("running_var", "num_batches_tracked")
            state[counter] = np.array(0, np.int64)
        if entry.name.endswith("ypos"):
            state[entry.name.replace("ypos", "xpos")] = np.zeros_like(array)
        if entry.name.endswith("Feature_Mask"):
            state |= _index_tables(entry.name, array.shape[1], array.shape[2], variables)
    return state


def _index_tables(name: str, joints: int, channels: int, variables) -> dict[str, np.ndarray]:
    """`shift_in` and `shift_out`: the source index of each channel at each joint."""
    layer = name.partition(".")[0]
    own = variables["params"][f"layers_{int(layer[1:]) - 1}"]
    features = own["spatial"]["linear"]["bias"].shape[0]

    def table(count: int, sign: int) -> np.ndarray:
        joint, channel = np.meshgrid(np.arange(joints), np.arange(count), indexing="ij")
        return (((joint + sign * channel) % joints) * count + channel).ravel()

    return {
        f"{layer}.gcn1.shift_in": table(channels, 1),
        f"{layer}.gcn1.shift_out": table(features, -1),
    }
