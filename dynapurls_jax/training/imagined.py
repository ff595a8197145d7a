"""Tokens of imagined clips: the encoder of a run applied to animated motion sketches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data_pipelines.animation import imagined_clip
from data_pipelines.logs import log
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
    """Tokens of the imagined clip of every class; None if the method does not use sketches.

    Rows of classes without a sketch are NaN; so are all rows of a run without an encoder.

    Args:
      tokens: tokens of the run's clips; only their shape is read.

    Raises:
      ValueError: the joints of Kinect v1 cannot be mapped to the encoder's joint layout.
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
        log.info("  features without their encoder: motion sketches are not used, only texts")
    elif missing := len(found) - len(sketches):
        log.info(f"  {missing} classes have no motion sketch: only their text is used")
    if sketches:
        assert stage.encoder is not None
        chunks = encoded(
            stage.encoder.tokens,
            stage.encoder.variables,
            imagined_clips(spec, sketches),
            np.arange(len(sketches)),
            title="animating sketches",
        )
        found[list(sketches)] = np.concatenate(list(chunks)).reshape(-1, *shape[1:])
    return found


def imagined_seen_clips(spec: RunSpec) -> Float[np.ndarray, "C M T V 3"] | None:
    """Imagined clips of the seen classes for pretrain.loss=imagined; None for another loss.

    Raises:
      ValueError: seen classes have no sketch; the message names them.
    """
    if spec.config.pretrain.loss != "imagined":
        return None
    inputs, seen = spec.inputs, spec.protocol.seen
    sketches = {int(c): inputs.sketches[c] for c in seen if inputs.sketches and inputs.sketches[c]}
    if missing := [inputs.corpus.class_names[c] for c in seen if c not in sketches]:
        raise ValueError(
            "pretrain.loss=imagined: expected a motion sketch for each seen class, got none for "
            f"{', '.join(missing[:5])} and {max(len(missing) - 5, 0)} more; write them "
            "(docs/text.md), or set --config.encoder.name=kinematics"
        )
    return imagined_clips(spec, sketches).clips


def imagined_clips(spec: RunSpec, sketches: Mapping[int, Sketch]) -> PreparedClips:
    """Animated sketches, prepared like the clips of the corpus.

    Args:
      sketches: class index to sketch; the clips have its order.
    """
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
