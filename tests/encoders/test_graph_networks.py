"""The graph networks alone: adjacency, convolutions, sizes, any skeleton, number types, persons."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.encoders.base import token_shape
from dynapurls_jax.encoders.convert_gcn import TREE
from dynapurls_jax.encoders.jit import compiling_for
from dynapurls_jax.encoders.layers import links, spatial_subsets
from dynapurls_jax.encoders.products import largest_of_three
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.encoders.stgcn import LAYERS_16, distance_subsets
from dynapurls_jax.training.classifiers import Classifier
from tests.conftest import ROOT
from tests.helpers.cases import cases, some
from tests.helpers.graph_networks import NAMES, TREE_17, encoder_of, moved, skeleton_of

every = pytest.mark.parametrize("name", some(NAMES, "dg_stgcn"))


@cache
def clips_and_variables(name, persons=1):
    """Clips of a random walk, and variables in which no parameter has its initial value."""
    clips = jax.random.normal(jax.random.key(0), (3, persons, 8, 5, 3)).cumsum(axis=2)
    encoder = encoder_of(name)
    variables = jax.eval_shape(partial(encoder.init, method="tokens"), jax.random.key(1), clips)
    return clips, moved(variables)


def tokens_of(name, variables, clips, **settings):
    """Tokens, compiled."""
    encoder = encoder_of(name, **settings)
    return jax.jit(partial(encoder.apply, method="tokens"))(variables, clips)


def test_adjacency_of_a_small_tree():
    own, inward, outward = links((0, 0, 0))
    np.testing.assert_array_equal(own, np.eye(3))
    np.testing.assert_array_equal(inward, [[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(outward, inward.T)
    _, inward, outward = spatial_subsets((0, 0, 0))
    np.testing.assert_array_equal(inward, [[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(outward, [[0, 0, 0], [0.5, 0, 0], [0.5, 0, 0]])


@pytest.mark.parametrize("parents", [TREE, TREE_17])
def test_subsets_of_stgcn_are_those_by_distance_from_the_root(parents):
    joints, root = len(parents), next(i for i, p in enumerate(parents) if i == p)
    reach = np.eye(joints, dtype=bool)
    for child, parent in enumerate(parents):
        reach[child, parent] = reach[parent, child] = True
    hops = np.array([[_hops(reach, i, root)] for i in range(joints)])
    expected = np.stack(
        [reach & (hops == hops.T), reach & (hops > hops.T), reach & (hops < hops.T)]
    )
    np.testing.assert_allclose(distance_subsets(parents), expected / reach.sum(axis=0))


def _hops(reach, joint, root):
    seen = np.zeros(len(reach), bool)
    seen[joint] = True
    count = 0
    while not seen[root]:
        seen, count = reach[seen].any(axis=0), count + 1
    return count


# Parameters with a classifier of 60 classes, and GMAC of a clip of two persons, T = 64 and 300.
PUBLISHED = {
    "stgcn": (3_098_832, 3.60, 16.9),
    "agcn": (3_469_510, 4.14, 19.4),
    "aagcn": (3_781_668, 4.14, 19.4),
    "ctr_gcn": (1_446_672, 1.77, 7.88),
    "dg_stgcn": (1_701_032, 1.61, 7.44),
}


def size_of(name, **settings):
    """Parameters, and GMAC for T = 64 and 300."""
    entry = ENCODERS.entry(name)
    classifier = Classifier(entry.make(entry.settings(**settings), KINECT_V2), 60)
    costs = []
    for frames in (64, 300):
        clips = jax.ShapeDtypeStruct((1, 2, frames, 25, 3), jnp.float32)
        variables = jax.eval_shape(classifier.init, jax.random.key(0), clips)
        with compiling_for("gpu"):  # on a CPU, convolutions over frames have fewer products
            program = jax.make_jaxpr(classifier.apply)(variables, clips).jaxpr
        costs.append(products(program) / 1e9)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), *costs


def products(jaxpr) -> int:
    """Multiplications of the products and convolutions of a program, zeros of padding included."""
    total = 0
    for eqn in jaxpr.eqns:
        shapes = [var.aval.shape for var in eqn.invars]
        if eqn.primitive.name == "dot_general":
            summed = eqn.params["dimension_numbers"][0][0]
            total += eqn.outvars[0].aval.size * math.prod(shapes[0][axis] for axis in summed)
        if eqn.primitive.name == "conv_general_dilated":
            total += eqn.outvars[0].aval.size * math.prod(shapes[1][:-1])
        inner = [value for value in eqn.params.values() if hasattr(value, "jaxpr")]
        total += sum(products(value.jaxpr) for value in inner)
    return total


@pytest.mark.parametrize("name", some(NAMES, "ctr_gcn"))
def test_sizes_are_the_published_ones(name):
    parameters, short, long = PUBLISHED[name]
    assert size_of(name) == (parameters, pytest.approx(short, 5e-3), pytest.approx(long, 5e-3))
    page = (ROOT / "docs" / "encoders.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]"))
    assert f"| {parameters:,} | {short} | {long} |" in line


@pytest.mark.slow
def test_size_of_stgcn_with_16_channels():
    parameters, short, long = size_of("stgcn", width=16, layers=LAYERS_16)
    assert parameters - 60 * 257 == 821_380  # the encoder of SMIE
    assert (short, long) == (pytest.approx(0.737, 5e-3), pytest.approx(3.45, 5e-3))


@pytest.mark.parametrize(
    ("name", "joints"),
    cases([("aagcn", 20)], [(name, joints) for name in NAMES for joints in (17, 20, 25)]),
)
def test_tokens_of_any_skeleton(name, joints):
    skeleton = skeleton_of(TREE_17) if joints == 17 else skeleton_of(joints=joints)
    entry = ENCODERS.entry(name)
    encoder = entry.make(entry.settings(width=8, layers=((1, 2), (2, 2))), skeleton)
    assert token_shape(encoder, (2, 8, joints, 3)) == (3, joints, 16)
    clips = jax.random.normal(jax.random.key(0), (1, 2, 8, joints, 3))
    tokens, _ = jax.jit(partial(encoder.init_with_output, method="tokens"))(
        jax.random.key(0), clips
    )
    assert np.isfinite(tokens).all()
    assert tokens.std() > 0


@every
def test_bfloat16_is_close(name):
    clips, variables = clips_and_variables(name)
    wide = tokens_of(name, variables, clips)
    narrow = tokens_of(name, variables, clips, dtype="bfloat16")
    assert 0 < float(jnp.abs(wide - narrow).max()) < 0.1 * float(jnp.abs(wide).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_rematerialisation_does_not_change_the_gradient(name):
    clips, variables = clips_and_variables(name)

    def loss(params, remat):
        both = {**variables, "params": params}
        encoder = encoder_of(name, remat=remat)
        pooled, _ = encoder.apply(both, clips, True, method="pooled", mutable=["batch_stats"])
        return jnp.sum(jnp.sin(pooled))

    grads = jax.jit(jax.grad(loss), static_argnums=1)
    again, kept = (grads(variables["params"], remat) for remat in (True, False))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-3), again, kept)


@every
def test_absent_persons_change_nothing(name):
    """Tokens, pooled features and batch statistics are the same if they are not computed."""
    clips, variables = clips_and_variables(name, 2)
    clips = clips.at[:2, 1].set(0)
    encoder = encoder_of(name)

    @partial(jax.jit, static_argnums=1)
    def run(clips, capacity):
        tokens = encoder.apply(variables, clips, capacity, method="tokens")
        arguments = variables, clips, True, capacity
        return tokens, encoder.apply(*arguments, method="pooled", mutable=["batch_stats"])

    whole, packed = run(clips, None), run(clips, 4)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), packed, whole)


@every
def test_statistics_of_a_divided_batch_are_those_of_the_whole(name):
    clips, variables = clips_and_variables(name)
    clips = jnp.concatenate([clips, clips[:1] + 1])
    encoder = encoder_of(name)

    def train(encoder, clips):
        arguments = variables, clips, True
        return encoder.apply(*arguments, method="pooled", mutable=["batch_stats"])

    own, updated = jax.jit(partial(train, encoder))(clips)
    on_device = jax.vmap(partial(train, encoder.clone(axis="devices")), axis_name="devices")
    halves, both = jax.jit(on_device)(clips.reshape(2, 2, *clips.shape[1:]))
    np.testing.assert_allclose(halves.reshape(own.shape), own, atol=1e-4)
    close = partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(lambda a, b: close(a[0], b), both, updated)


def test_persons_are_alike_without_slots():
    clips, variables = clips_and_variables("dg_stgcn", 2)
    assert variables["params"]["data_norm"]["scale"].shape == (15,)
    exchanged = tokens_of("dg_stgcn", variables, clips[:, ::-1])
    np.testing.assert_allclose(tokens_of("dg_stgcn", variables, clips), exchanged, atol=1e-5)


def test_the_largest_of_three_frames():
    x = np.random.default_rng(0).random((1, 1, 6, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    expected = np.stack([padded[:, :, i : i + 3].max(axis=2) for i in range(6)], axis=2)
    np.testing.assert_allclose(largest_of_three(jnp.asarray(x), 2), expected, rtol=1e-6)
    np.testing.assert_allclose(
        largest_of_three(jnp.asarray(x), 2, 2), expected[:, :, ::2], rtol=1e-6
    )


@pytest.mark.parametrize(("name", "least"), [("agcn", 4), ("ctr_gcn", 4), ("dg_stgcn", 8)])
def test_a_width_that_cannot_be_divided_is_an_error(name, least):
    with pytest.raises(ValueError, match=f"width: expected {least} or more, got {least - 1}"):
        ENCODERS.entry(name).settings(width=least - 1)
