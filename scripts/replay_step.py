"""Runs a step again whose loss or gradient was not finite, and says where the first number is lost.

  python scripts/replay_step.py runs/ntu60/55_5/seed0/encoder/broken-step-1234

The folder is what training leaves when it stops for that: the state from before the step, its
batch, and the configuration. Prints the loss, which inputs, parameters and parts of the gradient
are not finite, and the first layer or operation whose result is not.
"""

import argparse
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_pipelines.prepared import PreparedClips
from data_pipelines.preprocess import Augmentation, augment
from dynapurls_jax.zero_shot.purls import mean_text
from dynapurls_jax.zero_shot.nn.partition import Text
from dynapurls_jax.config import default_config
from data_pipelines.skeletons import SKELETONS
from dynapurls_jax.training import align, pretrain
from dynapurls_jax.training.checkpoints import Checkpoints


def main() -> None:
    """Replays one folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not (folder / "about.json").is_file():
        parser.error(f"{folder}: expected the folder of a broken step, with about.json in it")
    about = json.loads((folder / "about.json").read_text())
    config = default_config()
    config.update({key: about[key] for key in config})
    with np.load(folder / "batch.npz") as arrays:
        batch = dict(arrays)
    for name, array in batch.items():
        lost = 0 if array.dtype.kind in "US" else int((~np.isfinite(array)).sum())
        print(f"{name} {list(array.shape)}: {lost} values are not finite")
    replay = replay_pretraining if "capacity" in about else replay_alignment
    replay(config, about, batch, folder)


def restored(folder: Path, like):
    """The state from before the step."""
    with closing(Checkpoints(folder / "state")) as checkpoints:
        return checkpoints.restore(like, on_host=True)


def replay_pretraining(config: ConfigDict, about: dict, batch: dict, folder: Path) -> None:
    """A step of stage 1, with the same random numbers."""
    skeleton = SKELETONS[about["skeleton"]]
    ids = tuple(map(str, batch["rows"]))
    clips = PreparedClips(batch["clips"], skeleton, batch["persons"], ids)
    given = (about["num_classes"], about["seed"], about["training_clips"])
    state = restored(
        folder, jax.eval_shape(lambda: pretrain.fresh_state(config, batch["clips"].shape, *given))
    )
    report_tree("parameters", state.params)
    encoder = pretrain.encoder_of(config, about["num_classes"])
    root = jax.random.fold_in(jax.random.key(about["seed"]), 1)
    keys = jax.random.split(jax.random.fold_in(root, about["step"]), len(ids))
    strength = Augmentation(**config.augment)
    seen = pretrain.streams_of(config, clips)(augment(jnp.asarray(clips.clips), keys, strength))
    labels, names = jnp.asarray(batch["labels"]), []

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(params):
        fine = []

        def note(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if leaves := jax.tree.leaves(out):  # a module's setup has none
                names.append("/".join(context.module.path) or "the logits")
                fine.append(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all())
            return out

        variables = {"params": params, "batch_stats": state.batch_stats}
        with nn.intercept_methods(note):
            logits, _ = encoder.apply(variables, seen, True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), fine

    (loss, fine), grads = run(state.params)
    report_tree("gradient", grads)
    lost = [name for name, kept in zip(names, fine, strict=True) if not kept]
    print(f"loss {float(loss)}; first lost: {lost[0] if lost else 'going back, in the gradient'}")


def replay_alignment(config: ConfigDict, about: dict, batch: dict, folder: Path) -> None:
    """A step of stage 3, with the same random numbers."""
    rows = jnp.asarray(batch["text"])
    text = Text(rows, mean_text(rows))
    model = align.model_of(config, rows.shape[-1])
    tokens = jnp.asarray(batch["tokens"], jnp.float32)
    variables = restored_variables(config, model, (tokens, text, batch.get("pool")), folder)
    report_tree("parameters", variables["params"])
    root = jax.random.fold_in(jax.random.key(about["seed"]), 2)
    key = jax.random.fold_in(jax.random.fold_in(root, about["epoch"]), about["step"] + 1)
    labels = jnp.asarray(batch["labels"])

    def loss_fn(params):
        return model.loss({**variables, "params": params}, tokens, labels, text, key)

    loss, grads = jax.value_and_grad(loss_fn)(variables["params"])
    report_tree("gradient", grads)
    jax.config.update("jax_debug_nans", True)
    jax.clear_caches()  # what is compiled already does not look
    lost = "nothing, now"
    try:
        with jax.disable_jit():
            jax.value_and_grad(loss_fn)(variables["params"])
    except FloatingPointError as error:
        lost = str(error).splitlines()[0]
    print(f"loss {float(loss)}; first lost: {lost}")


def restored_variables(config, model, given: tuple, folder: Path) -> dict:
    """The alignment's variables from before the step.

    Args:
      given: to the model's `init`: tokens, text, and perhaps a pool.
    """
    optimizer = align.optimizer_of(config.alignment)

    def begin():
        variables = model.init(jax.random.key(0), *given)
        count = jnp.int32(0)
        state = (variables, optimizer.init(variables["params"]), variables)
        return align.AlignState(*state, jnp.float32(0), count, count)

    return restored(folder, jax.eval_shape(begin)).variables


def report_tree(what: str, tree) -> None:
    """Which arrays of a tree are not finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if lost := int((~np.isfinite(np.asarray(leaf))).sum()):
            print(f"{what} {jax.tree_util.keystr(path)}: {lost} of {leaf.size} are not finite")


if __name__ == "__main__":
    main()
