"""Tokens of imagined clips: the classes' animated motion sketches through a run's encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data_pipelines.animation import imagined_clip
from data_pipelines.prepared import PreparedClips
from data_pipelines.sketches import Sketch
from dynapurls_jax.training.extract import encoded
from dynapurls_jax.training.spec import RunSpec
from dynapurls_jax.zero_shot.registry import METHODS

if TYPE_CHECKING:
    from dynapurls_jax.training.pretrain import EncoderStage


def sketch_tokens(
    spec: RunSpec, stage: "EncoderStage", tokens: Float[np.ndarray, "N T P n"]
) -> Float[np.ndarray, "C S n"] | None:
    """Tokens of the imagined clip of every class; None if the run's method does not take them.

    NaN for a class without a sketch, and for all classes where tokens come without an encoder.

    Args:
      tokens: of the run's clips, for their shape.

    Raises:
      ValueError: the encoder's joint layout cannot be made of Kinect v1's joints.
    """
    inputs = spec.inputs
    if not METHODS.entry(spec.config.method.name).sketches:
        return None
    _, segments, points, width = tokens.shape
    shape = (len(inputs.corpus.class_names), segments * points, width)
    found = np.full(shape, np.nan, np.float32)
    sketches = {number: sketch for number, sketch in enumerate(inputs.sketches) if sketch}
    if stage.encoder is None or inputs.clips is None:
        sketches = {}
    if missing := len(found) - len(sketches):
        print(f"  text alone counts for {missing} classes: no motion sketch", flush=True)
    if sketches:
        assert stage.encoder is not None
        chunks = encoded(
            stage.encoder.tokens,
            stage.encoder.variables,
            imagined_clips(spec, sketches),
            np.arange(len(sketches)),
            title="imagining classes",
        )
        found[list(sketches)] = np.concatenate(list(chunks)).reshape(-1, *shape[1:])
    return found


def imagined_seen_clips(spec: RunSpec) -> Float[np.ndarray, "C M T V 3"] | None:
    """Clips of the seen classes' sketches, for pretrain.loss=imagined; None for another loss.

    Raises:
      ValueError: a seen class has no sketch; says which.
    """
    if spec.config.pretrain.loss != "imagined":
        return None
    inputs, seen = spec.inputs, spec.protocol.seen
    sketches = {int(c): inputs.sketches[c] for c in seen if inputs.sketches and inputs.sketches[c]}
    if missing := [inputs.corpus.class_names[c] for c in seen if c not in sketches]:
        raise ValueError(
            "pretrain.loss=imagined compares clips with motion sketches: expected one of each seen "
            f"class, {', '.join(missing[:5])} and {max(len(missing) - 5, 0)} more have none; write "
            "them (docs/text.md), or set --config.encoder.name=kinematics"
        )
    return imagined_clips(spec, sketches).clips


def imagined_clips(spec: RunSpec, sketches: Mapping[int, Sketch]) -> PreparedClips:
    """The animated sketches of some classes, prepared as the clips of the corpus are."""
    clips = spec.inputs.clips
    assert clips is not None
    _, persons, frames, _, _ = clips.clips.shape
    sampling = spec.config.data.temporal_sampling
    imagined = np.stack(
        [
            imagined_clip(sketch, clips.skeleton, sampling, (persons, frames))
            for sketch in sketches.values()
        ]
    )
    names = tuple(spec.inputs.corpus.class_names[number] for number in sketches)
    return PreparedClips(imagined, clips.skeleton, np.ones(len(sketches), np.int32), names)
