"""Repeats a training step with a loss or gradient that is not finite, and finds the origin.

  python scripts/replay_step.py runs/ntu60/55_5/seed0/encoders/shift_gcn-1a2b3c4d/nonfinite-step-7

Training writes the folder when it stops: the state from before the step, its batch, and the
configuration. Prints the loss, the inputs, parameters and gradients that are not finite, and the
first layer or operation with a result that is not.
"""

from pathlib import Path

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("folder", type=Path)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_pipelines.prepared import PreparedClips
from data_pipelines.preprocess import augment
from data_pipelines.skeletons import SKELETONS, Skeleton
from dynapurls_jax.config import default_config
from dynapurls_jax.registry import settings_of
from dynapurls_jax.rng import key_of
from dynapurls_jax.training import epoch_program, method_task, pretrain
from dynapurls_jax.training.checkpoints import Checkpoints
from dynapurls_jax.zero_shot.base import ClassText, Shapes
from dynapurls_jax.zero_shot.registry import make_method


def main() -> None:
    """Replays one folder."""
    folder = PARSER.parse_args().folder
    if not (folder / "about.json").is_file():
        PARSER.error(f"{folder}: expected a folder nonfinite-step-<n> with about.json")
    about = json.loads((folder / "about.json").read_text("utf-8"))
    config = default_config()
    config.update({key: about[key] for key in config})
    with np.load(folder / "batch.npz") as arrays:
        batch = dict(arrays)
    for name, array in batch.items():
        bad = int((~np.isfinite(array)).sum())
        print(f"{name} {list(array.shape)}: {bad} values are not finite")
    replay = {"encoder": replay_pretraining, "method": replay_fit}[about["stage"]]
    replay(config, about, batch, folder)


def restored(folder: Path, begin: Callable[[], Any]) -> Any:
    """The state from before the step.

    Args:
      begin: makes a state of the same shapes.
    """
    with closing(Checkpoints(folder / "state")) as checkpoints:
        return checkpoints.restore(jax.eval_shape(begin), on_host=True)


def replay_pretraining(config: ConfigDict, about: dict, batch: dict, folder: Path) -> None:
    """A step of stage 1, with the same random numbers."""
    ids = tuple(map(str, batch["indices"]))
    clips = PreparedClips(batch["clips"], skeleton_of(about), batch["persons"], ids)
    task = pretrain.task_of(
        config,
        clips,
        num_classes=about["num_classes"],
        indices=np.arange(about["training_clips"]),
        labels=batch["labels"],
        seed=about["seed"],
        imagined=batch.get("imagined"),
    )
    state = restored(folder, partial(pretrain.fresh_state, task))
    report_tree("parameters", state.params)
    root = key_of(about["seed"], "pretraining")
    key = jax.random.fold_in(root, about["step"])
    keys = jax.random.split(key, len(ids))
    inputs = task.derive(augment(jnp.asarray(clips.clips), keys, task.augmentation))
    extra = task.extra_inputs(jax.random.fold_in(key, pretrain.IMAGINED))
    labels, names = jnp.asarray(batch["labels"]), []

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def run(params):
        finite = []

        def note(call, arguments, keywords, context):
            result = call(*arguments, **keywords)
            if leaves := jax.tree.leaves(result):  # a module's setup has none
                names.append("/".join(context.module.path) or "the logits")
                finite.append(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all())
            return result

        variables = {"params": params, "batch_stats": state.batch_stats}
        with nn.intercept_methods(note):
            logits, _ = task.classifier.apply(
                variables, inputs, True, **extra, mutable=["batch_stats"]
            )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), finite

    (loss, finite), grads = run(state.params)
    report_tree("gradient", grads)
    bad = [name for name, good in zip(names, finite, strict=True) if not good]
    print(f"loss {float(loss)}; first not finite: {bad[0] if bad else 'in the backward pass'}")


def replay_fit(config: ConfigDict, about: dict, batch: dict, folder: Path) -> None:
    """A step of stage 3, with the same random numbers."""
    segments, points, width = about["token_shape"]
    shapes = Shapes(skeleton_of(about), (segments, points, width), batch["text"].shape[-1])
    text = text_of(batch)
    samples = method_task.Samples(batch["tokens"], batch["labels"])
    task = method_task.MethodTask(
        method=make_method(config.method, shapes),
        settings=settings_of(method_task.FitSettings, config.fit, "fit"),
        shapes=shapes,
        train=samples,
        val=samples,
        text=text,
        ids=tuple(map(str, range(len(batch["labels"])))),
        seed=about["seed"],
        record={},
    )
    init = key_of(about["seed"], "method_init")
    state = restored(
        folder, partial(epoch_program.fresh_trained, task, batch["tokens"], text, init)
    )
    report_tree("parameters", state.variables["params"])
    key = key_of(about["seed"], "fit", about["epoch"])
    if about["fold"] is not None:
        key = jax.random.fold_in(jax.random.fold_in(key, about["training_clips"]), about["fold"])
    key = jax.random.fold_in(key, about["step"] + 1)
    tokens = jnp.asarray(batch["tokens"], jnp.float32), jnp.asarray(batch["labels"])

    def loss_fn(params):
        variables = {**state.variables, "params": params}
        return task.method.loss(variables, tokens, text, key, jnp.int32(about["steps_before"]))

    loss, grads = jax.value_and_grad(loss_fn)(state.variables["params"])
    report_tree("gradient", grads)
    jax.config.update("jax_debug_nans", True)
    jax.clear_caches()  # compiled programs have no checks
    first = "nothing, now"
    try:
        with jax.disable_jit():
            jax.value_and_grad(loss_fn)(state.variables["params"])
    except FloatingPointError as error:
        first = str(error).splitlines()[0]
    print(f"loss {float(loss)}; first not finite: {first}")


def text_of(batch: dict) -> Any:
    """The classes' text as the method takes it."""
    described = ClassText(batch["text"], batch.get("sketch"), batch.get("words"))
    alone = described.sketch is None and described.words is None
    return jax.tree.map(jnp.asarray, described.text if alone else described)


def skeleton_of(about: dict) -> Skeleton:
    """The joint layout of the clips; ends the script where about.json has only its name."""
    if about["skeleton"] not in SKELETONS:
        raise SystemExit(
            f"error: skeleton {about['skeleton']!r} of a dataset.yaml: expected one of "
            f"{', '.join(SKELETONS)}"
        )
    return SKELETONS[about["skeleton"]]


def report_tree(name: str, tree: Any) -> None:
    """Prints the arrays of a tree that are not finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if bad := int((~np.isfinite(np.asarray(leaf))).sum()):
            print(f"{name} {jax.tree_util.keystr(path)}: {bad} of {leaf.size} are not finite")


if __name__ == "__main__":
    main()
