"""Converts published checkpoints of the graph networks to Flax variables, without PyTorch.

State dicts of the official repositories (2s-AGCN and AAGCN, CTR-GCN, ST-GCN, and those built on
ST-GCN) and of PYSKL (AAGCN, CTR-GCN, ST-GCN, DG-STGCN). A checkpoint without a classifier becomes
an encoder without one.

CTR-GCN differs in PYSKL. It sums over the other joint of a graph, so that its graph is transposed:
`tanh(a_u - b_v) = -tanh(b_v - a_u)`, so exchanging `a` and `b`, the sign of `W4` and a transposed
`PA` give the same function here. It also has one ReLU more, which `published_encoder` adds.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from data_pipelines.errors import check_choice
from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.encoders.base import SkeletonEncoder
from dynapurls_jax.encoders.convert_shift_gcn import State
from dynapurls_jax.encoders.ctr_gcn import MultiScale
from dynapurls_jax.encoders.layers import LayerSettings
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.encoders.state_dicts import Conversion, Names
from dynapurls_jax.encoders.stgcn import distance_subsets

# Parents of the 25 joints of NTU RGB+D, with the root between the shoulders. The official
# repositories hang the tip of a hand on its thumb, PYSKL on the hand.
_TREE = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20)
TREE, PYSKL_TREE = (*_TREE, 22, 7, 24, 11), (*_TREE, 7, 7, 11, 11)


_PYSKL = Names("backbone.", "gcn.{}", 0, "gcn", "tcn", "A", "cls_head.fc_cls")
OFFICIAL = {
    "agcn": Names(),
    "aagcn": Names(),
    "ctr_gcn": Names(),
    "stgcn": Names("", "st_gcn_networks.{}", 0, "gcn", "tcn", "", "fcn", "2", "3", ("0", "1")),
}
PYSKL = {
    "aagcn": _PYSKL,
    "ctr_gcn": _PYSKL._replace(layer="net.{}", spatial="gcn1", temporal="tcn1"),
    "stgcn": _PYSKL,
    "dg_stgcn": _PYSKL,
}


def is_pyskl(state: Iterable[str]) -> bool:
    """Whether these are names of PYSKL."""
    return any(name.startswith("backbone.") for name in state)


def from_state_dict(encoder: str, state: State) -> dict:
    """Variables of the encoder that `published_encoder` makes, with those of a classifier.

    Args:
      encoder: "stgcn", "agcn", "aagcn", "ctr_gcn" or "dg_stgcn".
      state: name to array, float32.

    Raises:
      ValueError: an encoder that no checkpoint is known of, a tensor is missing, there are others,
        or the graph of ST-GCN is another one.
    """
    pyskl = is_pyskl(state)
    known = PYSKL if pyskl else OFFICIAL
    check_choice("checkpoints of encoder", encoder, tuple(known))
    names = known[encoder]
    own = Conversion(encoder, state, names)
    own.norm("data_norm", f"{names.prefix}data_bn")
    i = 0
    while any(name.startswith(f"{_layer(names, i)}.") for name in own.left):
        LAYERS_OF[encoder](own, i)
        i += 1
    _take_graphs(own)
    if f"{names.classifier}.weight" in own.left:
        own.point("classifier", names.classifier)
    return own.variables()


def published_encoder(
    encoder: str, state: State, settings: LayerSettings | None = None
) -> SkeletonEncoder:
    """The published network that a state dict belongs to; its means include absent persons.

    Args:
      settings: of the encoder; by default those of the paper.
    """
    entry, pyskl = ENCODERS.entry(encoder), is_pyskl(state)
    skeleton = replace(KINECT_V2, parents=PYSKL_TREE if pyskl else TREE)
    made = entry.make(settings or entry.settings(), skeleton).clone(count_absent=True)
    if encoder == "ctr_gcn" and pyskl:
        unit = partial(MultiScale, rectified=True)
        made = made.clone(backbone=made.backbone.clone(temporal_unit=unit))
    return made


def _layer(names: Names, i: int) -> str:
    return names.prefix + names.layer.format(names.first + i)


def _take_graphs(own: Conversion) -> None:
    """Takes constant graphs. Only ST-GCN uses them: they must be those of `distance_subsets`."""
    if own.encoder != "stgcn":
        own.left.pop(f"{own.names.prefix}A", None)
        return
    expected = distance_subsets(PYSKL_TREE if own.names.prefix else TREE)
    for name in [name for name in own.left if name.split(".")[-1] == "A"]:
        graph = own.take(name)
        if graph.shape != expected.shape or not np.allclose(graph, expected, atol=1e-6):
            raise ValueError(f"{name}: expected the graph of NTU RGB+D by distance, got another")


def _agcn(own: Conversion, i: int, unit: str = "spatial") -> tuple[str, str]:
    """A layer of 2s-AGCN; returns the names of its spatial unit."""
    layer, path = _layer(own.names, i), f"layers_{i}"
    there, here = f"{layer}.{own.names.spatial}", f"{path}/{unit}"
    graph = own.take(f"{there}.{own.names.graph}")
    own.put(f"{here}/graph", graph)
    for kind, name in (("theta", "conv_a"), ("phi", "conv_b")):
        own.point(f"{here}/similarity/{kind}", *(f"{there}.{name}.{k}" for k in range(len(graph))))
    for k in range(len(graph)):
        own.point(f"{here}/conv{k}", f"{there}.conv_d.{k}")
    _rest_of_spatial(own, there, here, f"{here}/conv0/kernel")
    _single_scale(own, i)
    _residual(own, i, f"{here}/conv0/kernel")
    return there, here


def _aagcn(own: Conversion, i: int) -> None:
    there, here = _agcn(own, i, "spatial/graph_conv")
    own.put(f"{here}/alpha", own.take(f"{there}.alpha"))
    gates = f"layers_{i}/spatial/gates"
    own.conv(f"{gates}/joints", f"{there}.conv_sa")
    own.conv(f"{gates}/frames", f"{there}.conv_ta")
    own.point(f"{gates}/squeeze", f"{there}.fc1c")
    own.point(f"{gates}/channels", f"{there}.fc2c")


def _ctr_gcn(own: Conversion, i: int) -> None:
    layer, here = _layer(own.names, i), f"layers_{i}/spatial"
    there, pyskl = f"{layer}.{own.names.spatial}", bool(own.names.prefix)
    graph = own.take(f"{there}.{own.names.graph}")
    own.put(f"{here}/graph", graph.transpose(0, 2, 1) if pyskl else graph)
    own.put(f"{here}/alpha", own.take(f"{there}.alpha"))
    for k in range(len(graph)):
        relation, maps = f"{here}/relation{k}", f"{there}.convs.{k}.conv"
        own.point(f"{relation}/{'b' if pyskl else 'a'}", f"{maps}1")
        own.point(f"{relation}/{'a' if pyskl else 'b'}", f"{maps}2")
        own.point(f"{here}/conv{k}", f"{maps}3")
        own.point(f"{relation}/expand", f"{maps}4")
        own.leaves[f"params/{relation}/expand/kernel"] *= -1 if pyskl else 1
    _rest_of_spatial(own, there, here, f"{here}/conv0/kernel")
    branches, unit = f"{layer}.{own.names.temporal}.branches", f"layers_{i}/temporal"
    _reduce(own, branches, f"{unit}/branches", 3)
    for k in range(2):
        own.conv(f"{unit}/branches/conv{k}", f"{branches}.{k}.3.conv")
    own.point(f"{unit}/branches/plain", f"{branches}.3.0")
    last = ("0.3.bn", "1.3.bn", "2.4", "3.1")
    own.norm(f"{unit}/norm", *(f"{branches}.{name}" for name in last))
    _residual(own, i, f"{here}/conv0/kernel")


def _dg_stgcn(own: Conversion, i: int) -> None:
    layer, here = _layer(own.names, i), f"layers_{i}/spatial"
    there = f"{layer}.{own.names.spatial}"
    own.point(f"{here}/pre", f"{there}.pre.0")
    own.norm(f"{here}/pre_norm", f"{there}.pre.1")
    own.put(f"{here}/graphs/graph", own.take(f"{there}.{own.names.graph}"))
    for name in ("alpha", "beta"):  # one for each group; the network reads the first
        own.put(f"{here}/graphs/{name}", own.take(f"{there}.{name}")[:1])
    for leaf, name in (("graphs/a", "conv1"), ("graphs/b", "conv2"), ("post", "post")):
        own.point(f"{here}/{leaf}", f"{there}.{name}")
    _rest_of_spatial(own, there, here, f"{here}/pre/kernel")
    temporal, unit = f"{layer}.{own.names.temporal}", f"layers_{i}/temporal"
    own.put(f"{unit}/mean_joint", own.take(f"{temporal}.add_coeff"))
    _reduce(own, f"{temporal}.branches", f"{unit}/branches", 5)
    for k in range(4):
        own.conv(f"{unit}/branches/conv{k}", f"{temporal}.branches.{k}.3.conv")
    own.point(f"{unit}/branches/plain", f"{temporal}.branches.5")
    own.norm(f"{unit}/branches_norm", f"{temporal}.transform.0")
    own.point(f"{unit}/transform", f"{temporal}.transform.2")
    own.norm(f"{unit}/norm", f"{temporal}.bn")
    _residual(own, i, f"{here}/pre/kernel")


def _stgcn(own: Conversion, i: int) -> None:
    layer, here = _layer(own.names, i), f"layers_{i}/spatial"
    official = not own.names.prefix
    own.put(
        f"{here}/importance", own.take(f"edge_importance.{i}" if official else f"{layer}.gcn.PA")
    )
    own.point(f"{here}/conv", f"{layer}.gcn.conv")
    for leaf in ("kernel", "bias"):  # of the subsets, one after the other
        joined = own.leaves.pop(f"params/{here}/conv/{leaf}")
        for k, part in enumerate(np.split(joined, 3, axis=-1)):
            own.put(f"{here}/conv{k}/{leaf}", part)
    own.norm(f"{here}/norm", f"{layer}.tcn.0" if official else f"{layer}.gcn.bn")
    _single_scale(own, i)
    _residual(own, i, f"{here}/conv0/kernel")


def _single_scale(own: Conversion, i: int) -> None:
    unit = f"{_layer(own.names, i)}.{own.names.temporal}"
    own.conv(f"layers_{i}/temporal/conv", f"{unit}.{own.names.conv}")
    own.norm(f"layers_{i}/temporal/norm", f"{unit}.{own.names.norm}")


def _reduce(own: Conversion, branches: str, path: str, count: int) -> None:
    """The first maps of the branches, which are one here."""
    own.point(f"{path}/reduce", *(f"{branches}.{k}.0" for k in range(count)))
    own.norm(f"{path}/reduce_norm", *(f"{branches}.{k}.1" for k in range(count)))


def _widens(own: Conversion, kernel: str) -> bool:
    """Whether a map has more channels out than in; then a layer maps what it adds, too."""
    before, after = own.leaves[f"params/{kernel}"].shape
    return before != after


def _rest_of_spatial(own: Conversion, there: str, here: str, kernel: str) -> None:
    own.norm(f"{here}/norm", f"{there}.bn")
    if _widens(own, kernel):
        own.point(f"{here}/down", f"{there}.down.0")
        own.norm(f"{here}/down_norm", f"{there}.down.1")


def _residual(own: Conversion, i: int, kernel: str) -> None:
    if i and _widens(own, kernel):
        there = f"{_layer(own.names, i)}.residual"
        own.point(f"layers_{i}/skip", f"{there}.{own.names.skip[0]}")
        own.norm(f"layers_{i}/skip_norm", f"{there}.{own.names.skip[1]}")


LAYERS_OF: Mapping[str, Callable[[Conversion, int], object]] = {
    "agcn": _agcn,
    "aagcn": _aagcn,
    "ctr_gcn": _ctr_gcn,
    "dg_stgcn": _dg_stgcn,
    "stgcn": _stgcn,
}
