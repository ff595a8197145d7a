"""Graph networks against PyTorch in float64: each layer, the network, checkpoints of both kinds."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynapurls_jax.encoders.batch_norm import BatchStatistics
from dynapurls_jax.encoders.convert_gcn import (
    PYSKL_TREE,
    TREE,
    from_state_dict,
    published_encoder,
)
from dynapurls_jax.encoders.jit import compiling_for
from dynapurls_jax.encoders.layers import Layer, spatial_subsets
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.encoders.stgcn import distance_subsets
from dynapurls_jax.training.classifiers import Classifier
from scripts import convert_encoder as script
from tests.helpers.cases import cases, slow
from tests.helpers.graph_networks import SMALL

if not os.environ.get("CI"):  # there it must be installed
    pytest.importorskip("torch", reason="torch, a dev extra, is not installed: no parity tests")
import torch

from tests.helpers.torch_gcns import TorchGcn, pyskl_names, randomised

pytestmark = pytest.mark.usefixtures("float64")

CLASSES, WIDTH, RELATIVE = 5, 8, 1e-10
OFFICIAL = [("stgcn", False), ("agcn", False), ("aagcn", False), ("ctr_gcn", False)]
PYSKL = [("stgcn", True), ("aagcn", True), ("ctr_gcn", True), ("dg_stgcn", True)]


def of_checkpoints(*default):
    """Checkpoints of all kinds, of which only some run by default."""
    return pytest.mark.parametrize(("name", "pyskl"), cases([*default], OFFICIAL + PYSKL))


class Pair:
    """A network in PyTorch, with random parameters, and its counterpart here."""

    def __init__(self, name, pyskl):
        torch.manual_seed(0)
        self.name, self.pyskl = name, pyskl
        subsets = distance_subsets if name == "stgcn" else spatial_subsets
        bones = torch.tensor(subsets(PYSKL_TREE if pyskl else TREE))
        kind = "ctr_gcn_pyskl" if (name, pyskl) == ("ctr_gcn", True) else name
        self.network = randomised(TorchGcn(kind, bones, CLASSES, WIDTH, SMALL).double())
        settings = ENCODERS.entry(name).settings(width=WIDTH, layers=SMALL)
        encoder = published_encoder(name, self.state(), settings)
        self.backbone = encoder.backbone.clone(dtype=jnp.float64)
        self.classifier = Classifier(encoder.clone(backbone=self.backbone), CLASSES)

    def state(self, grad=False):
        """The checkpoint, or the gradients in its place."""
        state = {n: t.detach().numpy().copy() for n, t in self.network.state_dict().items()}
        if grad:
            of = {name: parameter.grad for name, parameter in self.network.named_parameters()}
            state |= {n: np.zeros_like(state[n]) if g is None else g.numpy() for n, g in of.items()}
        return pyskl_names(self.name, state) if self.pyskl else state

    def converted(self, grad=False):
        return jax.tree.map(jnp.asarray, from_state_dict(self.name, self.state(grad)))


def assert_close(got, expected):
    """Equal but for a share of the largest value."""
    got, expected = np.asarray(got), np.asarray(expected)
    error, size = np.abs(got - expected).max(), np.abs(expected).max()
    assert error <= RELATIVE * max(size, 1e-3), (error, size)


@of_checkpoints(("ctr_gcn", True))
@pytest.mark.parametrize("train", [slow(False), True])
@pytest.mark.parametrize("form", ["cpu", slow("tpu")])
def test_outputs_and_gradients_of_each_layer_equal_pytorch(name, pyskl, train, form):
    pair = Pair(name, pyskl)
    variables, widths = pair.converted(), [3, *(WIDTH * multiple for multiple, _ in SMALL)]
    pair.network.train(train)
    units = pair.backbone.spatial_unit, pair.backbone.temporal_unit, pair.backbone.parents
    for i, (multiple, stride) in enumerate(SMALL):
        rng = np.random.default_rng(i)
        x = rng.normal(size=(3, widths[i], 8, 25))
        leaf = torch.tensor(x, requires_grad=True)
        pair.network.zero_grad()
        expected = pair.network.layer(i)(leaf)
        g = rng.normal(size=expected.shape)
        expected.backward(torch.tensor(g))
        layer = Layer(*units, WIDTH * multiple, stride, residual=i > 0)
        own = {kind: tree[f"layers_{i}"] for kind, tree in variables.items()}
        persons = BatchStatistics.of(jnp.ones(3, bool)) if train else None

        @jax.jit
        def pulled(params, x, g, layer=layer, own=own, persons=persons):
            def apply(params, x):
                both = {**own, "params": params}
                return layer.apply(both, x, persons, mutable=["batch_stats"])[0]

            out, pull = jax.vjp(apply, params, x)
            return out, *pull(g)

        channels_last = [jnp.asarray(a.transpose(0, 3, 2, 1)) for a in (x, g)]
        with compiling_for(form):  # an accelerator has other products
            got, params, dx = pulled(own["params"], *channels_last)
        assert_close(got.transpose(0, 3, 2, 1), expected.detach())
        assert_close(dx.transpose(0, 3, 2, 1), leaf.grad)
        wanted = pair.converted(grad=True)["params"][f"layers_{i}"]
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
        assert largest > 0
        close = partial(np.testing.assert_allclose, rtol=0, atol=RELATIVE * largest)
        jax.tree.map(close, params, wanted)


@of_checkpoints(("aagcn", False))
def test_the_network_and_its_running_means_equal_pytorch(name, pyskl):
    pair = Pair(name, pyskl)
    variables = pair.converted()
    clips = np.random.default_rng(1).normal(size=(3, 2, 8, 25, 3))
    theirs = torch.tensor(clips.transpose(0, 4, 2, 3, 1))
    with torch.no_grad():
        expected = [pair.network.train(train)(theirs) for train in (False, True)]
    run = jax.jit(partial(pair.classifier.apply, mutable=["batch_stats"]), static_argnums=2)
    assert_close(run(variables, clips, False)[0], expected[0])
    got, updated = run(variables, clips, True)
    assert_close(got, expected[1])
    after = pair.converted()["batch_stats"]  # variances have Bessel's correction in PyTorch
    jax.tree_util.tree_map_with_path(
        lambda path, a, b: assert_close(a, b) if path[-1].key == "mean" else None,
        updated["batch_stats"],
        after,
    )


def test_a_checkpoint_without_a_classifier_is_an_encoder():
    pair = Pair("stgcn", False)
    state = {name: a for name, a in pair.state().items() if not name.startswith("fcn")}
    variables = from_state_dict("stgcn", state)
    assert "classifier" not in variables["params"]
    wanted = pair.converted()
    del wanted["params"]["classifier"]
    jax.tree.map(np.testing.assert_array_equal, variables, wanted)


def test_errors_of_checkpoints_name_what_is_wrong():
    state = Pair("agcn", False).state()
    with pytest.raises(ValueError, match=r"agcn, it also has 1 other tensors: extra\.weight"):
        from_state_dict("agcn", state | {"extra.weight": np.zeros(1)})
    lacking = {name: a for name, a in state.items() if name != "l3.gcn1.down.1.bias"}
    with pytest.raises(ValueError, match=r"of agcn, it lacks l3\.gcn1\.down\.1\.bias"):
        from_state_dict("agcn", lacking)
    with pytest.raises(ValueError, match="unknown checkpoints of encoder 'dg_stgcn'"):
        from_state_dict("dg_stgcn", state)
    graph = Pair("stgcn", False).state()
    with pytest.raises(ValueError, match="A: expected the graph of NTU"):
        from_state_dict("stgcn", graph | {"A": graph["A"][::-1]})


def test_the_script_converts_a_checkpoint_of_pyskl(tmp_path):
    pair = Pair("dg_stgcn", True)
    tensors = {name: torch.tensor(array) for name, array in pair.state().items()}
    torch.save({"meta": {"epoch": 1}, "state_dict": tensors}, tmp_path / "best.pth")
    target = tmp_path / "dg_stgcn.npz"
    script.main(["--encoder=dg_stgcn", str(tmp_path / "best.pth"), str(target)])
    jax.tree.map(np.testing.assert_array_equal, script.load_variables(target), pair.converted())
    with pytest.raises(SystemExit, match=r"expected a \.pt and an \.npz"):
        script.main(["--encoder=dg_stgcn", str(target), str(tmp_path / "back.pt")])
