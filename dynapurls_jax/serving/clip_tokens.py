"""One clip as it comes from a sensor to the tokens that a model takes."""

import jax
import numpy as np
from jaxtyping import Float

from data_pipelines.body_height import check_metres
from data_pipelines.cleaning import clean, is_useless
from data_pipelines.formats.raw import RawClip
from data_pipelines.prepared import prepare_clip
from dynapurls_jax.encoders.jit import jit
from dynapurls_jax.encoders.masking import capacity_for
from dynapurls_jax.serving.model import Model


class ClipTokens:
    """Cleans, prepares and encodes one clip, as all clips of the training were."""

    def __init__(self, model: Model):
        """Compiles the encoder for one person; for more persons it compiles on first use.

        Args:
          model: with an encoder.
        """
        assert model.encoder is not None
        self._model = model
        self._temporal_sampling = model.config.data.temporal_sampling
        self._variables = jax.device_put(model.encoder.variables)
        self._tokens_of = jit(model.encoder.tokens, static_argnums=2)
        shape = (1, *model.clip_shape, model.skeleton.num_joints, 3)
        one_person = np.zeros(shape, np.float32)
        one_person[:, 0] = 1
        self._tokens(one_person, 1)

    def _tokens(self, batch: Float[np.ndarray, "1 M T V 3"], persons: int) -> np.ndarray:
        """`[S, n]`."""
        capacity = capacity_for(np.array([persons]), batch.shape[1])
        tokens = np.asarray(self._tokens_of(self._variables, batch, capacity))
        return tokens.reshape(-1, tokens.shape[-1])

    def __call__(self, clip: Float[np.ndarray, "m t v 3"]) -> Float[np.ndarray, "S n"]:
        """Tokens of a clip in metres; NaN if it is not finite.

        Raises:
          ValueError: other joints or more persons than the dataset has, an empty clip, or bodies
            that cannot be in metres.
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
            raise ValueError("clip: expected two frames or more with a person, got none such")
        if finite:
            check_metres(raw.joints, skeleton)
        if len(raw.joints) > persons:
            raise ValueError(f"clip: expected at most {persons} persons, got {len(raw.joints)}")
        shape = (persons, frames)
        batch = prepare_clip(raw.joints, skeleton, target, self._temporal_sampling, shape)[None]
        tokens = self._tokens(batch, len(raw.joints))
        return tokens if finite else np.full_like(tokens, np.nan)
