"""Neuron (Chen et al., CVPR 2025): prototypes of space and of time, refined in three rounds.

Spatial round `r` of tokens averaged over time, `X` `[V, n]`: each joint keeps the prototypes `P`
that are most similar to it, fewer in every round, and `P <- MLP_r(softmax over joints (X P')' X)`.
Temporal round `r` of tokens averaged over joints, in the first `r` thirds of the time: what the
prototypes gather, `A`, replaces them through two gates,
`P <- sigmoid(recall_r(A)) P + sigmoid(memory_r(A)) MLP_r(A)`. After each round the mean prototype,
mapped to text space, is compared with the classes; the loss is the mean of six cross-entropies.
Differs from the published code:
  - The prediction is the highest mean cosine of both branches. The published code counts a clip as
    right if either branch is right, which is no prediction; `counts="either"` does so, marked
    ORACLE.
  - A class's text in space is the mean of its four body parts, in time of its three phases, the
    same in all rounds; the published code has ten sentences of its own for each of six.
  - The epoch is chosen on held-out seen classes; the published code reports all on the test clips.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from dynapurls_jax.registry import check_at_least, check_choice, check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    Embedding,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    cosines,
    score_by,
    unit,
)
from dynapurls_jax.zero_shot.nn.mlp import dense, init_dense, init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import standardised, statistics

ROUNDS = 3
BRANCHES = {"spatial": slice(1, 5), "temporal": slice(5, 8)}  # with their granularities
COUNTS = ("mean", "either")
OFF = 1e-12  # weight of a prototype that a joint does not keep


@dataclass(frozen=True)
class NeuronSettings:
    """The method's settings; defaults are the published ones.

    Attributes:
      prototypes: of each branch; a joint keeps three, two and one quarter of them.
      scale: `1 / tau` of the logits on cosines.
      counts: what counts as a hit: the "mean" of both branches, or "either" branch (ORACLE).
    """

    prototypes: int = 80
    scale: float = 0.1
    counts: str = "mean"

    def __post_init__(self):
        check_choice("counts", self.counts, COUNTS)
        check_at_least(4, prototypes=self.prototypes)
        check_positive(scale=self.scale)


@dataclass(frozen=True, eq=False)
class Neuron:
    """The functions of the method; `make` puts them together."""

    settings: NeuronSettings
    shapes: Shapes

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """Prototypes, and the networks of each round."""
        n, count = tokens.shape[-1], self.settings.prototypes
        networks = {"spatial": ("update",), "temporal": ("update", "memory", "recall")}
        params: Variables = {}
        for number, branch in enumerate(BRANCHES):
            key_branch = jax.random.fold_in(key, number)
            keys = iter(jax.random.split(key_branch, 2 + 3 * ROUNDS))
            params[branch] = {
                "prototypes": jax.random.normal(next(keys), (count, n)) * n**-0.5,
                "project": init_dense(next(keys), n, self.shapes.text_width),
            } | {
                f"{name}{r}": init_layers(next(keys), n, n, n)
                for name in networks[branch]
                for r in range(ROUNDS)
            }
        return {"params": params, "features": statistics(tokens.reshape(-1, n))}

    def _rows(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B 2 3 d"]:
        """Unit vectors of clips, of each branch and round."""
        segments, points, n = self.shapes.tokens
        params, x = variables["params"], standardised(variables["features"], tokens)
        cube = x.reshape(len(x), segments, points, n)
        spatial = jax.vmap(lambda x: spatial_rounds(params["spatial"], x))(cube.mean(axis=1))
        temporal = jax.vmap(lambda x: temporal_rounds(params["temporal"], x))(cube.mean(axis=2))
        return unit(jnp.stack([spatial, temporal], axis=1))

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B 2 d"]:
        """Unit vectors of the clips after the last round, in space and in time."""
        return self._rows(variables, tokens)[:, :, -1]

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """Unit vectors of the classes in space and in time."""
        return Candidates(class_rows(text))

    def embed(self, variables: Variables, features: Float[Array, "B 2 d"], candidates: Candidates):
        """The clips `[B, 1, 2, d]`."""
        return features[:, None]

    def match(self, variables: Variables, embedded, classes) -> Float[Array, "B C"]:
        """Logits: the mean cosine of both branches, independent of the other candidates."""
        return self.settings.scale * cosines(embedded, classes).mean(axis=-1)

    def oracle(self, variables, features, candidates, labels) -> Float[Array, "B C"]:
        """Logits of the branch that is right, if one is; the published count of hits."""
        branches = jnp.einsum("bgd,cgd->gbc", features, candidates.classes)
        right = branches.argmax(axis=-1) == labels
        return jnp.where(right[0, :, None], branches[0], branches[1])

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """Mean cross-entropy of both branches and all rounds."""
        tokens, labels = batch
        rows = self._rows(variables, tokens)
        logits = self.settings.scale * jnp.einsum("bkrd,ckd->bkrc", rows, class_rows(text))
        labels = jnp.broadcast_to(labels[:, None, None], logits.shape[:3])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def class_rows(text: Float[Array, "C G d"]) -> Float[Array, "C 2 d"]:
    """The mean text of the body parts, and of the phases, as unit vectors."""
    return unit(jnp.stack([text[:, rows].mean(axis=1) for rows in BRANCHES.values()], axis=1))


def _row(params: Variables, prototypes: Float[Array, "p n"]) -> Float[Array, " d"]:
    return jax.nn.relu(dense(params["project"], prototypes.mean(axis=0)))


def spatial_rounds(params: Variables, x: Float[Array, "V n"]) -> Float[Array, "3 d"]:
    """The rounds over joints; in round `r` a joint's weakest `r` quarters have no weight."""
    prototypes, rows, relu = params["prototypes"], [], jax.nn.relu
    count = len(prototypes)
    for r in range(ROUNDS):
        similarity = x @ prototypes.T
        weights = jax.nn.softmax(similarity, axis=0)
        weights = jnp.where(ranks_of(similarity) >= count * (r + 1) // (ROUNDS + 1), weights, OFF)
        prototypes = mlp(params[f"update{r}"], weights.T @ x, [relu, relu])
        rows.append(_row(params, prototypes))
    return jnp.stack(rows)


def ranks_of(x: Float[Array, "V p"]) -> Int[Array, "V p"]:
    """Rank of each number in its row, from 0; among equals the first is lower.

    By counting, since XLA sorts short rows slowly on a CPU.
    """
    own, other, place = x[:, :, None], x[:, None, :], jnp.arange(x.shape[1])
    lower = (other < own) | ((other == own) & (place < place[:, None]))
    return lower.sum(axis=-1)


def temporal_rounds(params: Variables, x: Float[Array, "T n"]) -> Float[Array, "3 d"]:
    """The rounds over time; round `r` reads the first `r` thirds, at least one segment."""
    prototypes, rows, relu = params["prototypes"], [], [jax.nn.relu, jax.nn.relu]
    for r in range(ROUNDS):
        read = x[: max(1, len(x) * (r + 1) // ROUNDS)]
        gathered = jax.nn.softmax(read @ prototypes.T, axis=0).T @ read
        kept = jax.nn.sigmoid(mlp(params[f"recall{r}"], gathered, relu))
        taken = jax.nn.sigmoid(mlp(params[f"memory{r}"], gathered, relu))
        prototypes = kept * prototypes + taken * mlp(params[f"update{r}"], gathered, relu)
        rows.append(_row(params, prototypes))
    return jnp.stack(rows)


def make(settings: NeuronSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method for tokens of any segments and points."""
    neuron = Neuron(settings, shapes)
    embedding = Embedding(
        embed=neuron.embed,
        scored=lambda candidates: candidates,
        match=neuron.match,
        match_all=neuron.match,
        scale=lambda variables: jnp.float32(settings.scale),
    )
    return ZeroShotMethod(
        encode=neuron.encode,
        bind=neuron.bind,
        score=score_by(embedding),
        init=neuron.init,
        loss=neuron.loss,
        embedding=embedding,
        oracle=neuron.oracle if settings.counts == "either" else None,
    )


ENTRY = MethodEntry(
    make,
    NeuronSettings,
    description="Prototypes of space and time, updated in three rounds",
    paper=Paper("Chen et al., CVPR 2025", "https://arxiv.org/abs/2411.11288"),
)
