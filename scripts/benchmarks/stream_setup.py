"""The model, the candidates and the samples of the benchmarks of streams."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.adaptation.api import Adapter, StreamInfo, adapter_of
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.similarity import embedding_of
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.zero_shot.base import Candidates, Shapes, Variables, ZeroShotMethod, unit
from dynapurls_jax.zero_shot.purls import ENTRY, PurlsSettings, VisualFeatures

SHAPES = {"S": 75, "n": 256, "h": 150, "u": 512, "d": 512, "G": 8}
SEGMENTS = 3
SETTINGS = DynaPurlsSettings(threshold=0.0)  # admits all samples, whatever the random weights


class Setup(NamedTuple):
    """A PURLS with random weights, and a stream."""

    model: ZeroShotMethod
    variables: Variables
    candidates: Candidates
    features: VisualFeatures


def make_setup(classes: int, query: str, samples: int) -> Setup:
    """The setup; the candidates' vectors are near samples, so that no class takes all."""
    S, n, d, G = (SHAPES[name] for name in "SndG")
    rng = np.random.default_rng(0)
    count = max(samples, 4 * classes)
    tokens = rng.normal(size=(count, 1, n)) + 0.3 * rng.normal(size=(count, S, n))
    tokens = jnp.asarray(tokens, jnp.float32)
    text = unit(jnp.asarray(rng.normal(size=(classes, G, d)), jnp.float32))
    settings = PurlsSettings(query=query, attention=SHAPES["h"], hidden=SHAPES["u"])
    shapes = Shapes(KINECT_V2, (SEGMENTS, S // SEGMENTS, n), d)
    model = ENTRY.make(settings, shapes)
    variables = model.init(jax.random.key(0), tokens[: 4 * classes], text)
    features = jax.jit(model.encode)(variables, tokens)
    one = Candidates(variables["query"][None, :1], variables["query"][:1])  # the query as a class
    vectors = embedding_of(model).embed(variables, part(features, 4 * classes), one)
    moved = unit(vectors[:, 0] - vectors[:, 0].mean(axis=0))  # [4 C, 1, d]
    near = unit(0.3 * text[:, :1] + moved[:classes])
    candidates = model.bind(variables, text.at[:, :1].set(near))
    return Setup(model, variables, candidates, jax.block_until_ready(part(features, samples)))


def part(features, *where):
    """A slice of a stream."""
    return jax.tree.map(lambda leaf: leaf[slice(*where)], features)


def adapter_for(method: str, setup: Setup) -> Adapter:
    """The adapter under test: "static", or "refined" at the paper's settings."""
    if method == "static":
        return adapter_of(static(setup.model, setup.variables))
    info = StreamInfo.of(setup.features)  # a stream without an end: the rate is constant
    return adapter_of(dynapurls(setup.model, setup.variables, SETTINGS, info))
