"""DynaPURLS: scale and bias on the text, learned online from confident predictions."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dynapurls_jax.adaptation.api import Adapter
from dynapurls_jax.adaptation.memory import Memory, balanced_batch, empty_memory, insert
from dynapurls_jax.adaptation.static import predict
from dynapurls_jax.alignment.model import Variables, ZeroShotModel
from dynapurls_jax.alignment.partition import Text, Visual, unit


class Refinement(NamedTuple):
    """The parameters of eq. 12, `S` and `Delta F`, for the `R` granularities that scoring reads.

    The others would never get a gradient.
    """

    scale: Float[Array, "C R d"]
    bias: Float[Array, "C R d"]


class RefineState(NamedTuple):
    """What the scan carries.

    Attributes:
      text: the static text; constant, carried so that `step` needs nothing but its state.
      refinement: scale and bias.
      opt_state: Adam's moments and the number of updates.
      memory: the class-balanced memory.
      seen: number of samples so far; makes the randomness of each step its own.
    """

    text: Text
    refinement: Refinement
    opt_state: optax.OptState
    memory: Memory
    seen: Int[Array, ""]


@dataclass(frozen=True)
class RefineSettings:
    """Section 4.1.4, and defaults where the paper is silent.

    Attributes:
      learning_rate: of Adam, cosine-annealed to 0 over `horizon` updates.
      horizon: expected length of the stream.
      capacity: `K`, samples kept of each class.
      threshold: `tau_conf`; only a higher confidence is offered to the memory.
      min_samples: `B_min`, over all classes, before the first update (not given in the paper).
      per_class: draws of each class in a balanced batch (not given in the paper).
    """

    learning_rate: float = 0.01
    horizon: int = 1000
    capacity: int = 16
    threshold: float = 0.1
    min_samples: int = 16
    per_class: int = 1


def refine(text: Text, refinement: Refinement) -> Text:
    """Eq. 12, for the classes; the label-free queries move as the classes move on average.

    With queries of its own the paper's eq. 13 refines them too. The label-free queries have no
    class, so they take the mean scale and bias.
    """
    scale, bias = (leaf.mean(axis=0) for leaf in refinement)
    return Text(
        classes=unit(refinement.scale * text.classes + refinement.bias),
        query=unit(scale * text.query + bias),
    )


def dynapurls(
    model: ZeroShotModel,
    variables: Variables,
    sample: Visual,
    settings: RefineSettings,
    key: PRNGKeyArray,
) -> Adapter:
    """Algorithm 1: predict, offer to the memory, take one step on a balanced batch.

    Args:
      model, variables: frozen.
      sample: any one sample of the stream; gives the memory its shapes.
      settings: see `RefineSettings`.
      key: of the draws from the memory.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.horizon))

    def init(text: Text) -> RefineState:
        text = Text(text.classes[:, : model.rows], text.query[: model.rows])
        refinement = Refinement(jnp.ones_like(text.classes), jnp.zeros_like(text.classes))
        return RefineState(
            text=text,
            refinement=refinement,
            opt_state=optimizer.init(refinement),
            memory=empty_memory(text.classes.shape[0], settings.capacity, sample),
            seen=jnp.zeros((), jnp.int32),
        )

    def loss(refinement: Refinement, text: Text, batch) -> Float[Array, ""]:
        """Eq. 15: cross-entropy of the pseudo-labels under the current parameters."""
        logits = model.score(variables, batch.visual, refine(text, refinement))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return jnp.sum(batch.weight * losses) / jnp.maximum(batch.weight.sum(), 1)

    def update(state: RefineState, memory: Memory) -> tuple[Refinement, optax.OptState]:
        """Eq. 16, with Adam as in section 4.1.4."""
        batch = balanced_batch(memory, jax.random.fold_in(key, state.seen), settings.per_class)
        grads = jax.grad(loss)(state.refinement, state.text, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state)
        return optax.apply_updates(state.refinement, updates), opt_state

    def step(state: RefineState, visual: Visual):
        prediction = predict(model, variables, visual, refine(state.text, state.refinement))
        admitted: Bool[Array, ""] = prediction.confidence > settings.threshold
        memory = insert(state.memory, prediction.label, prediction.confidence, visual, admitted)
        enough = memory.filled.sum() >= settings.min_samples
        # A select, not a cond: the memory would be copied to get into a branch.
        refinement, opt_state = jax.tree.map(
            lambda new, old: jnp.where(enough, new, old),
            update(state, memory),
            (state.refinement, state.opt_state),
        )
        state = RefineState(state.text, refinement, opt_state, memory, state.seen + 1)
        return state, prediction._replace(admitted=admitted, adapted=enough)

    return Adapter(init, step)
