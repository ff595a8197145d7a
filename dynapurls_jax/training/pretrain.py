"""Stage 1: pretrains an encoder on the training clips of the seen classes with cross-entropy.

Data parallel: each batch is sharded over the devices, batch statistics and gradients are reduced
over all of them, so that a step does not depend on the number of devices. With
`pretrain.statistics=device`, each device normalises by the statistics of its own shard, as data
parallel PyTorch does.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray
from ml_collections import ConfigDict

from data_pipelines.batches import epoch_batches, steps_in_epoch
from data_pipelines.logs import log
from data_pipelines.prepared import PreparedClips
from data_pipelines.preprocess import augment, to_streams
from data_pipelines.progress import progress
from data_pipelines.settings import Augmentation
from dynapurls_jax.encoders.base import TrainedEncoder, trained_encoder
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.encoders.registry import ENCODERS, make_encoder
from dynapurls_jax.registry import plain, settings_key, settings_of
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.checkpoints import Checkpoints, open_checkpoints, tree_digest
from dynapurls_jax.training.classifiers import Classifier, ImaginedClassifier
from dynapurls_jax.training.extract import accuracy
from dynapurls_jax.training.imagined import imagined_seen_clips
from dynapurls_jax.training.loop import Loop
from dynapurls_jax.training.mesh import (
    BATCH,
    DIVIDED,
    WHOLE,
    divide,
    divided,
    everywhere,
    mesh_for,
    own_part,
)
from dynapurls_jax.training.nonfinite import report_pretraining
from dynapurls_jax.training.optimizers import PretrainSettings, encoder_optimizer
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.training.stages import Stage, open_stage, stage_folder

IMAGINED = 1  # purpose of a random key: augmentation of imagined clips


class EncoderStage(NamedTuple):
    """The encoder of a run.

    Attributes:
      identity: the encoder's settings and training data.
      encoder: None where features are read from a folder.
      results: accuracies on seen clips; empty for an encoder without parameters.
    """

    encoder: TrainedEncoder | None
    identity: dict
    results: dict


class PretrainState(flax.struct.PyTreeNode):
    """The state of pretraining between steps."""

    params: Any
    batch_stats: Any
    opt_state: Any
    step: Any  # int32 []; Any, since JAX also fills pytrees with placeholders


@dataclass(frozen=True)
class EncoderTask:
    """The inputs of stage 1: an encoder, its settings and its clips.

    Attributes:
      clips: clips of the whole corpus.
      indices: `[n]` indices of the training clips.
      labels: `[N]` labels of the whole corpus, as indices into the seen classes.
      record: the configuration as JSON, for the report of a non-finite step.
      imagined: imagined clips of the seen classes, `[classes, M, T, V, 3]`, for
        pretrain.loss=imagined.
    """

    encoder: Any
    num_classes: int
    settings: PretrainSettings
    augmentation: Augmentation
    streams: tuple[str, ...]
    clips: PreparedClips
    indices: np.ndarray
    labels: np.ndarray
    seed: int
    record: dict
    imagined: np.ndarray | None = None

    @property
    def batch_size(self) -> int:
        """Clips in a global batch."""
        return min(self.settings.batch_size, len(self.indices))

    @property
    def classifier(self) -> Classifier | ImaginedClassifier:
        """The trained network: encoder and classifier."""
        return self.classifier_of(self.encoder)

    def classifier_of(self, encoder: Any) -> Classifier | ImaginedClassifier:
        """The network with another instance of the encoder."""
        if self.imagined is None:
            return Classifier(encoder, self.num_classes)
        return ImaginedClassifier(encoder)

    def extra_inputs(self, key: PRNGKeyArray | None = None) -> dict[str, Any]:
        """Keyword arguments of the network: the imagined clips, augmented if a key is given."""
        if self.imagined is None:
            return {}
        imagined = jnp.asarray(self.imagined)
        if key is not None:
            imagined = augment(imagined, jax.random.split(key, len(imagined)), self.augmentation)
        return {"imagined": self.derive(imagined)}

    def derive(self, clips):
        """The input streams of clips: `[B, M, T, V, 3]` to `[B, M, T, V, c]`."""
        return to_streams(clips, self.streams, self.clips.skeleton.parents)


def task_of(config: ConfigDict, clips: PreparedClips, **data: Any) -> EncoderTask:
    """The task of a configuration.

    Args:
      data: `num_classes`, `indices`, `labels`, `seed` and `imagined` of `EncoderTask`.
    """
    return EncoderTask(
        encoder=make_encoder(config.encoder, clips.skeleton),
        settings=settings_of(PretrainSettings, config.pretrain, "pretrain"),
        augmentation=settings_of(Augmentation, config.augment, "augment"),
        streams=tuple(config.data.streams),
        clips=clips,
        record=plain(config, *config),
        **data,
    )


def encoder_identity(spec: RunSpec) -> dict:
    """The identity of an encoder stage: everything that its variables depend on."""
    name = spec.config.encoder.name
    encoder: dict = {"encoder": plain(spec.config.encoder, "name", settings_key(name))}
    if not ENCODERS.entry(name).trained:
        shared = ("data", "corpus", "prepared")
        return encoder | {key: spec.identity()[key] for key in shared}
    if spec.config.pretrain.loss == "imagined":
        encoder["sketches"] = spec.inputs.sketches_digest
    return encoder | plain(spec.config, "augment", "pretrain") | spec.identity()


def encoder_folder(spec: RunSpec) -> Path:
    """The folder of a run's encoder stage."""
    return stage_folder(spec.folder / "encoders", spec.config.encoder.name, encoder_identity(spec))


def encoder_task(spec: RunSpec) -> EncoderTask:
    """Stage 1 of a run.

    Raises:
      ValueError: see `imagined_seen_clips`.
    """
    assert spec.inputs.clips is not None
    return task_of(
        spec.config,
        spec.inputs.clips,
        num_classes=len(spec.protocol.seen),
        indices=spec.protocol.train,
        labels=spec.seen_labels,
        seed=spec.seed,
        imagined=imagined_seen_clips(spec),
    )


def pretrain(spec: RunSpec) -> EncoderStage:
    """Trains the encoder of a run, or restores it; returns one without parameters as it is.

    Raises:
      ValueError: see `imagined_seen_clips`.
      NonFiniteError: a loss or gradient is not finite.
    """
    task = encoder_task(spec)
    encoder = partial(
        trained_encoder, task.encoder, streams=task.streams, skeleton=task.clips.skeleton
    )
    if not ENCODERS.entry(spec.config.encoder.name).trained:
        return EncoderStage(encoder(variables={}), encoder_identity(spec), {})
    stage, variables = trained_classifier(spec, task)
    results = stage.results or {}
    log.info(f"  encoder: seen validation accuracy {results['val_accuracy']:.3f}")
    params = {key: leaf for key, leaf in variables["params"].items() if key != "classifier"}
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    identity = stage.identity | {"weights": results["weights"]}
    return EncoderStage(encoder(variables=variables), identity, results)


def trained_classifier(spec: RunSpec, task: EncoderTask) -> tuple[Stage, dict]:
    """Trains the encoder of a run with its classifier, or restores both.

    Args:
      task: of `encoder_task`, with a trained encoder.

    Returns:
      The finished stage, and the variables of `task.classifier`, on the host.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    name = spec.config.encoder.name
    stage = open_stage(spec.folder / "encoders", name, encoder_identity(spec))
    with closing(open_checkpoints(stage)) as checkpoints:
        variables = train_encoder(task, checkpoints, stage.folder, spec.profile)
    if stage.results is None:
        sides = {"val": spec.protocol.val, "seen_test": spec.protocol.seen_test}
        shares = {f"{side}_accuracy": accuracy(task, variables, i) for side, i in sides.items()}
        stage.finish(shares | {"weights": tree_digest(variables)})
    return stage, variables


def train_encoder(
    task: EncoderTask, checkpoints: Checkpoints, folder: Path, profile: bool = False
) -> dict:
    """Trains from the newest checkpoint to the last epoch, whose variables are the result.

    Args:
      folder: folder of the stage, for metrics and reports.
      profile: write a trace of some steps to `folder`.

    Returns:
      Variables of `task.classifier`, on the host.

    Raises:
      NonFiniteError: a loss or gradient is not finite.
    """
    steps = task.settings.epochs * steps_in_epoch(len(task.indices), task.batch_size)
    mesh = mesh_for(task.batch_size, "pretrain.batch_size")
    begin = partial(fresh_state, task)
    if checkpoints.latest() is None:
        state = jax.jit(begin, out_shardings=everywhere(mesh))()
    else:  # on the host: a finished stage needs no compilation
        state = checkpoints.restore(jax.eval_shape(begin), on_host=True)
    if int(state.step) < steps:
        state = jax.device_put(state, everywhere(mesh))
        number = int(state.step)
        report = partial(report_pretraining, task, folder)
        with Loop([folder], checkpoints, number, task.batch_size, report, profile) as loop:
            state = _run(task, mesh, state, loop)
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


def fresh_state(task: EncoderTask) -> PretrainState:
    """The state before the first step."""
    clip = task.clips.clips.shape[1:-1]
    one = (1, *clip, 3 * len(task.streams))
    key = key_of(task.seed, "encoder_init")
    variables = task.classifier.init(key, jnp.ones(one), **task.extra_inputs())
    optimizer = encoder_optimizer(task.settings, len(task.indices))
    opt_state = optimizer.init(variables["params"])
    step = jnp.zeros((), jnp.int32)
    return PretrainState(variables["params"], variables["batch_stats"], opt_state, step)


def _run(task: EncoderTask, mesh: Mesh, state: PretrainState, loop: Loop) -> PretrainState:
    """Runs the remaining steps."""
    clips, size, epochs = task.clips, task.batch_size, task.settings.epochs
    part, in_epoch = own_part(mesh, size), steps_in_epoch(len(task.indices), size)
    step, root = make_step(task, mesh), key_of(task.seed, "pretraining")
    number = int(state.step)
    log.info(f"  pretraining the encoder: {epochs} epochs of {in_epoch} steps; compiling the step")
    with progress("pretraining the encoder", epochs, number // in_epoch) as report:
        while number < epochs * in_epoch:
            epoch, done = divmod(number, in_epoch)
            batches = epoch_batches(
                clips.clips, task.indices, size, task.seed, epoch=epoch, first=done, local=part
            )
            for batch in loop.reading(batches):
                persons = clips.persons[batch.indices]
                capacity = capacity_for(persons, clips.clips.shape[1], mesh.size)
                local = divide(mesh, (batch.local, task.labels[batch.indices[part]]))
                state, figures = step(state, *local, root, np.int32(number), capacity)
                loop.after(state, figures, (batch, capacity))
                number += 1
            loop.log(state, epoch=epoch + 1.0)
            report(epoch + 1, loss=float(figures["loss"]))
        loop.save(state)
    return state


def make_step(task: EncoderTask, mesh: Mesh) -> Callable:
    """The jitted step `(state, clips, labels, root key, number, capacity) -> (state, figures)`.

    Clips and labels are sharded over the mesh, all else is replicated. `number` is the number of
    the step, `capacity` the number of packed persons of a device. `figures` are the loss and the
    gradient norm; if either is not finite, the state does not change (see `training.loop`).
    """
    axis = BATCH if task.settings.statistics == "batch" else None
    classifier = task.classifier_of(task.encoder.clone(axis=axis))
    optimizer = encoder_optimizer(task.settings, len(task.indices))

    def on_one_device(params, batch_stats, batch, keys, imagined_key, capacity):
        clips, labels = batch
        clips = task.derive(augment(clips, keys, task.augmentation))
        extra = task.extra_inputs(imagined_key)

        def loss_fn(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updated = classifier.apply(
                variables, clips, True, capacity, **extra, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.sum() / (len(labels) * mesh.size), updated["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        # With check_vma=False, the transpose of psum is psum: these are gradients of the global
        # loss with respect to this device's copy of the parameters.
        stats = () if axis else jax.tree.map(lambda leaf: leaf / mesh.size, batch_stats)
        # One all-reduce, whether or not the compiler merges several.
        local, unravel = ravel_pytree((loss, grads, stats))
        loss, grads, means = unravel(jax.lax.psum(local, BATCH))
        return (loss, grads), batch_stats if axis else means

    @partial(jit, donate_argnums=0, static_argnums=5)
    def step(state: PretrainState, clips, labels, root, number, capacity):
        key = jax.random.fold_in(root, state.step)
        keys = jax.random.split(key, len(clips))
        keys = jax.lax.with_sharding_constraint(keys, divided(mesh))
        (loss, grads), batch_stats = jax.shard_map(
            partial(on_one_device, capacity=capacity),
            mesh=mesh,
            in_specs=(WHOLE, WHOLE, (DIVIDED, DIVIDED), DIVIDED, WHOLE),
            out_specs=((WHOLE, WHOLE), WHOLE),
            check_vma=False,
        )(state.params, state.batch_stats, (clips, labels), keys, jax.random.fold_in(key, IMAGINED))
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        after = PretrainState(params, batch_stats, opt_state, state.step + 1)
        counts = jnp.isfinite(loss) & jnp.isfinite(norm) & (state.step == number)
        return optax.tree.where(counts, after, state), {"loss": loss, "grad_norm": norm}

    return step
