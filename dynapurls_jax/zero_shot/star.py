"""STAR (Chen et al., ACM MM 2024): learned prompts gather the tokens of each body part.

For each part, 100 prompts `P` are queries of an attention over the part's tokens; the result `E`
gives one number for each prompt, `g_i = P_i W E_i`. A clip's vector is the sum over parts, and a
class is its text in the same space:

    L = 0.1 CE_clip + mean CE_part + 0.1 mean CE_text

over cosines of clip and class, of part and the part's text, and of the part's text and the class.
Differs from the published code:
  - Four body parts, those of the descriptions here, in place of six.
  - Trained on texts of the seen classes alone, with offsets for them; the published code trains
    offsets and `CE_text` on the unseen classes, too.
  - Tokens of one joint stay together; the published code mixes persons and joints in one reshape.
  - The epoch is chosen on held-out seen classes; the published code reports all on the test clips.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from data_pipelines.papers import Paper
from data_pipelines.skeletons import PARTS
from dynapurls_jax.registry import check_at_least, check_positive
from dynapurls_jax.zero_shot.base import (
    Candidates,
    MethodEntry,
    Shapes,
    Variables,
    ZeroShotMethod,
    unit,
    vector_method,
)
from dynapurls_jax.zero_shot.nn.mlp import dense, init_dense, init_layers, mlp
from dynapurls_jax.zero_shot.nn.pooling import standardised, statistics

FIRST_PART = 1  # of `GRANULARITIES`


@dataclass(frozen=True)
class StarSettings:
    """The method's settings; defaults are the published ones.

    Attributes:
      prompts: of each part; also the width of the common space.
      heads: of the attention.
      text_hidden: width of the text networks' hidden layer.
      clip_weight, text_weight: of `CE_clip` and `CE_text`.
      scale: `1 / tau` of the logits on cosines; the loss has none.
    """

    prompts: int = 100
    heads: int = 4
    text_hidden: int = 256
    clip_weight: float = 0.1
    text_weight: float = 0.1
    scale: float = 1 / 0.07

    def __post_init__(self):
        check_at_least(1, prompts=self.prompts, heads=self.heads, text_hidden=self.text_hidden)
        check_at_least(0, clip_weight=self.clip_weight, text_weight=self.text_weight)
        check_positive(scale=self.scale)


@dataclass(frozen=True, eq=False)
class Star:
    """The functions of the method; `make` puts them together.

    Attributes:
      tokens: for each part, the positions of its tokens among the `S`.
    """

    settings: StarSettings
    shapes: Shapes
    tokens: tuple[np.ndarray, ...]

    def init(self, key: PRNGKeyArray, tokens: Float[Array, "N S n"], text) -> Variables:
        """The networks of each part, of class texts and of part texts, and the offsets."""
        settings, width, d = self.settings, tokens.shape[-1], self.shapes.text_width
        text_widths = (d, settings.text_hidden, settings.prompts)
        params: Variables = {"label": init_layers(key, *text_widths)}
        for number, part in enumerate(PARTS):
            keys = jax.random.split(jax.random.fold_in(key, number + 1), 8)
            params[part] = {
                "prompts": 0.02 * jax.random.normal(keys[0], (settings.prompts, d)),
                "query": init_dense(keys[1], d, d),
                "key": init_dense(keys[2], width, d),
                "value": init_dense(keys[3], width, d),
                "output": init_dense(keys[4], d, d),
                "network": init_layers(keys[5], d, d, d),
                "product": jax.nn.initializers.lecun_normal()(keys[6], (d, d)),
                "text": init_layers(keys[7], *text_widths),
                "offset": jnp.zeros((len(text), d)),
            }
        return {"params": params, "features": statistics(tokens.reshape(-1, width))}

    def _part(self, params: Variables, tokens: Float[Array, "B s n"]) -> Float[Array, "B p"]:
        """The number of each prompt of a part.

        Parameters of layers without an activation between them are multiplied first, in the order
        with the fewest FLOPs: of `B p` rows of width `d`, only the network's hidden layer remains.
        The bias of the keys is left out: it has no effect on the softmax.
        """
        heads, d = self.settings.heads, self.shapes.text_width
        by_head = lambda kernel: kernel.reshape(-1, heads, d // heads)  # noqa: E731
        query = by_head(dense(params["query"], params["prompts"])) * (d // heads) ** -0.5
        scores = jnp.einsum("phe,nhe,bsn->bhps", query, by_head(params["key"]["kernel"]), tokens)
        value, output, first, last = (
            params["value"],
            params["output"],
            params["network"]["layer0"],
            params["network"]["layer1"],
        )
        hidden = jnp.einsum(
            "bhps,bsn,nhe,hef,fg->bpg",
            jax.nn.softmax(scores, axis=-1),
            tokens,
            by_head(value["kernel"]),
            output["kernel"].reshape(heads, d // heads, d),
            first["kernel"],
        )
        hidden = jax.nn.relu(hidden + dense(first, dense(output, value["bias"])))
        prompts = params["prompts"] @ params["product"]
        found = jnp.einsum("pd,gd,bpg->bp", prompts, last["kernel"], hidden)
        return found + prompts @ last["bias"]

    def _parts(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "P B p"]:
        x = standardised(variables["features"], tokens)
        params = variables["params"]
        chosen = zip(PARTS, self.tokens, strict=True)
        return jnp.stack([self._part(params[part], x[:, at]) for part, at in chosen])

    def encode(self, variables: Variables, tokens: Float[Array, "B S n"]) -> Float[Array, "B p"]:
        """Unit vectors of the clips: the sum over parts."""
        return unit(self._parts(variables, tokens).sum(axis=0))

    def _labels(self, params: Variables, text) -> Float[Array, "C p"]:
        return mlp(params["label"], text[:, 0], [jax.nn.relu])

    def bind(self, variables: Variables, text: Float[Array, "C G d"]) -> Candidates:
        """Unit vectors of the classes, one granularity."""
        return Candidates(unit(self._labels(variables["params"], text))[:, None])

    def embed(self, variables: Variables, features: Float[Array, "B p"], candidates: Candidates):
        """The clips `[B, 1, 1, p]`."""
        return features[:, None, None]

    def loss(
        self,
        variables: Variables,
        batch: tuple[Float[Array, "B S n"], Int[Array, " B"]],
        text: Float[Array, "C G d"],
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        """The sum of the module's docstring."""
        (tokens, labels), params, settings = batch, variables["params"], self.settings
        entropy = optax.softmax_cross_entropy_with_integer_labels
        parts, classes = self._parts(variables, tokens), self._labels(params, text)
        own = jnp.arange(len(classes))
        of_parts = of_texts = jnp.float32(0)
        for number, part in enumerate(PARTS):
            described = text[:, FIRST_PART + number] + params[part]["offset"]
            mapped = mlp(params[part]["text"], described, [jax.nn.relu])
            of_parts += entropy(unit(parts[number]) @ unit(mapped).T, labels).mean()
            of_texts += entropy(mapped @ classes.T, own).mean()
        of_clips = entropy(unit(parts.sum(axis=0)) @ unit(classes).T, labels).mean()
        count = len(PARTS)
        return (
            settings.clip_weight * of_clips
            + of_parts / count
            + settings.text_weight * of_texts / count
        )


def make(settings: StarSettings, shapes: Shapes) -> ZeroShotMethod:
    """The method for tokens of a skeleton's joints.

    Raises:
      ValueError: tokens are not of joints, or heads do not divide the width of the text.
    """
    segments, points, _ = shapes.tokens
    if points != shapes.skeleton.num_joints:
        raise ValueError(
            f"method star needs one token for each of {shapes.skeleton.num_joints} joints, got "
            f"{points}"
        )
    if shapes.text_width % settings.heads:
        raise ValueError(f"heads: expected a divisor of {shapes.text_width}, got {settings.heads}")
    joints = np.tile(np.arange(points), segments)
    tokens = [np.flatnonzero(np.isin(joints, shapes.skeleton.parts[part])) for part in PARTS]
    return vector_method(Star(settings, shapes, tuple(tokens)), settings.scale)


ENTRY = MethodEntry(
    make,
    StarSettings,
    description="Prompts of each body part attend to its joints",
    paper=Paper("Chen et al., ACM MM 2024", "https://arxiv.org/abs/2404.07487"),
)
