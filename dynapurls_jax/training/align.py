"""Stage 3: alignment of tokens with text on the seen classes; one dispatch an epoch."""

from functools import lru_cache, partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.progress import progress
from dynapurls_jax.alignment.model import Variables, ZeroShotModel, make_model, mean_text
from dynapurls_jax.alignment.oracle import oracle_logits
from dynapurls_jax.alignment.partition import Text
from dynapurls_jax.training.checkpoints import Checkpoints

CHECKPOINT_EVERY = 20  # epochs


class AlignState(flax.struct.PyTreeNode):
    """Everything that alignment carries from epoch to epoch; arrays only, so it checkpoints."""

    variables: Variables
    opt_state: Any
    best: Variables
    best_accuracy: Any  # float32 []; Any, since JAX also fills pytrees with placeholders
    best_epoch: Any  # int32 []
    epoch: Any  # int32 []


def model_of(config: ConfigDict, text_width: int) -> ZeroShotModel:
    """The zero-shot model of a configuration; the same object for the same settings."""
    return _model(FrozenConfigDict(config.alignment), text_width)


@lru_cache
def _model(settings: FrozenConfigDict, text_width: int) -> ZeroShotModel:
    return make_model(
        query=settings.query,
        head=settings.head,
        score=settings.score,
        granularities=settings.granularities,
        weights=settings.weights,
        text_width=text_width,
        attention=settings.attention,
        hidden=settings.hidden,
        dropout=settings.dropout,
    )


def align(
    config: ConfigDict,
    train: tuple[Float[Array, "N S n"], Int[Array, " N"]],
    val: tuple[Float[Array, "N_val S n"], Int[Array, " N_val"]],
    text: Float[Array, "C G d"],
    seed: int,
    checkpoints: Checkpoints,
    pool: Float[np.ndarray, "G S"] | None = None,
) -> tuple[Variables, dict]:
    """Trains until the accuracy on seen validation clips stops rising; goes on from a checkpoint.

    Args:
      train, val: tokens and labels; labels are positions in `text`.
      text: `F` of the seen classes.
      pool: of a static partition; see `static_pool`.

    Returns:
      The variables of the best epoch, and `{"val_accuracy", "best_epoch", "epochs"}`.
    """
    settings = config.alignment
    model = model_of(config, text.shape[-1])
    seen = Text(text, mean_text(text))
    optimizer = optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)

    def fresh() -> AlignState:
        variables = model.init(jax.random.key(seed), train[0], seen, pool)
        return AlignState(
            variables=variables,
            opt_state=optimizer.init(variables["params"]),
            best=jax.tree.map(jnp.copy, variables),  # the state is donated: no buffer twice
            best_accuracy=jnp.array(-1.0),
            best_epoch=jnp.array(0),
            epoch=jnp.array(0),
        )

    begun = checkpoints.latest() is not None
    state = checkpoints.restore(jax.eval_shape(fresh)) if begun else fresh()
    run_epoch = make_epoch(model, optimizer, settings.batch_size, settings.query == "oracle_label")
    root = jax.random.fold_in(jax.random.key(seed), 2)
    if not _finished(state, settings):
        title = f"aligning, {settings.query}"
        with progress(title, settings.epochs, int(state.epoch)) as report:
            while not _finished(state, settings):
                state, loss = run_epoch(state, root, train, val, seen)
                report(int(state.epoch), loss=float(loss), best_val=float(state.best_accuracy))
                if int(state.epoch) % CHECKPOINT_EVERY == 0 or _finished(state, settings):
                    checkpoints.save(int(state.epoch), state)
    return state.best, {
        "val_accuracy": float(state.best_accuracy),
        "best_epoch": int(state.best_epoch),
        "epochs": int(state.epoch),
    }


def _finished(state: AlignState, settings) -> bool:
    waited = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= settings.epochs or waited >= settings.patience


def make_epoch(model: ZeroShotModel, optimizer, batch_size: int, oracle: bool):
    """The jitted epoch `(state, root key, train, val, text) -> (state, mean loss)`.

    A scan over shuffled whole minibatches, then the validation, in one dispatch.
    """

    def validate(variables, tokens, labels, text):
        visual = model.encode(variables, tokens)
        if oracle:  # the published protocol validates as it tests
            logits = oracle_logits(model, variables, visual, text, labels)
        else:
            logits = model.score(variables, visual, text)
        return jnp.mean(logits.argmax(-1) == labels)

    @partial(jax.jit, donate_argnums=0)
    def run_epoch(state: AlignState, root, train, val, text):
        tokens, labels = train
        key = jax.random.fold_in(root, state.epoch)
        size = min(batch_size, len(labels))
        order = jax.random.permutation(key, len(labels))[: len(labels) // size * size]

        def step(carry, batch):
            variables, opt_state = carry
            index, number = batch

            def loss_fn(params):
                return model.loss(
                    {**variables, "params": params},
                    tokens[index],
                    labels[index],
                    text,
                    jax.random.fold_in(key, number + 1),
                )

            loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
            updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
            params = optax.apply_updates(variables["params"], updates)
            return ({**variables, "params": params}, opt_state), loss

        batches = order.reshape(-1, size)
        (variables, opt_state), losses = jax.lax.scan(
            step, (state.variables, state.opt_state), (batches, jnp.arange(len(batches)))
        )
        accuracy = validate(variables, val[0], val[1], text)
        better = accuracy > state.best_accuracy
        epoch = state.epoch + 1
        return AlignState(
            variables=variables,
            opt_state=opt_state,
            best=jax.tree.map(lambda new, old: jnp.where(better, new, old), variables, state.best),
            best_accuracy=jnp.where(better, accuracy, state.best_accuracy),
            best_epoch=jnp.where(better, epoch, state.best_epoch),
            epoch=epoch,
        ), losses.mean()

    return run_epoch
