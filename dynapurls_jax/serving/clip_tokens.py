"""Raw clips to the tokens of a model."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.body_height import check_metres
from data_pipelines.cleaning import clean, is_useless
from data_pipelines.formats.raw import RawClip
from data_pipelines.prepared import prepare_clip
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.serving.model import Model


class EncoderInput(NamedTuple):
    """A prepared clip.

    Attributes:
      clip: `[M, T, V, 3]` in metres; absent persons are zero.
      persons: number of persons.
      finite: whether the raw clip is finite; if not, `clip` has placeholder values.
    """

    clip: Float[np.ndarray, "M T V 3"]
    persons: int
    finite: bool


class ClipTokens:
    """Cleans, prepares and encodes clips, with the same steps as in training."""

    def __init__(self, model: Model):
        """Compiles the encoder for one person; other numbers are compiled on first use.

        Args:
          model: a model with an encoder.
        """
        assert model.encoder is not None
        self._model = model
        self._temporal_sampling = model.config.data.temporal_sampling
        self._variables = jax.device_put(model.encoder.variables)
        self._tokens_of = jit(model.encoder.tokens, static_argnums=2)
        one_person = np.zeros((*model.clip_shape, model.skeleton.num_joints, 3), np.float32)
        one_person[0] = 1
        jax.block_until_ready(self.encoded([EncoderInput(one_person, 1, True)]))

    def __call__(self, clip: Float[np.ndarray, "m t v 3"]) -> Float[np.ndarray, "S n"]:
        """Tokens of a clip in metres; NaN if the clip is not finite.

        Raises:
          ValueError: see `prepared`.
        """
        return np.asarray(self.encoded([self.prepared(clip)])[0])

    def encoded(self, inputs: Sequence[EncoderInput]) -> Float[Array, "B S n"]:
        """Tokens of some clips, on the device; NaN for clips that are not finite."""
        batch = np.stack([one.clip for one in inputs])
        persons = np.array([one.persons for one in inputs])
        capacity = capacity_for(persons, batch.shape[1])
        tokens = self._tokens_of(self._variables, batch, capacity)
        tokens = tokens.reshape(len(batch), -1, tokens.shape[-1])
        finite = np.array([one.finite for one in inputs])
        return tokens if finite.all() else jnp.where(finite[:, None, None], tokens, jnp.nan)

    def prepared(self, clip: Float[np.ndarray, "m t v 3"]) -> EncoderInput:
        """Cleans a clip in metres and prepares it for the encoder, on the host.

        Raises:
          ValueError: the clip has other joints or more persons than the dataset, is empty, or is
            not in metres.
        """
        skeleton, target = self._model.source, self._model.skeleton
        persons, frames = self._model.clip_shape
        if clip.shape[2] != skeleton.num_joints:
            raise ValueError(
                f"clip: expected {skeleton.num_joints} joints ({skeleton.name}), "
                f"got {clip.shape[2]}"
            )
        finite = bool(np.isfinite(clip).all())
        raw = clean(RawClip("", clip if finite else np.ones_like(clip), 0))
        if is_useless(raw):
            raise ValueError("clip: expected two frames or more with a person, got fewer")
        if finite:
            check_metres(raw.joints, skeleton)
        if len(raw.joints) > persons:
            raise ValueError(f"clip: expected at most {persons} persons, got {len(raw.joints)}")
        shape = (persons, frames)
        clip = prepare_clip(raw.joints, skeleton, target, self._temporal_sampling, shape)
        return EncoderInput(clip, len(raw.joints), finite)
