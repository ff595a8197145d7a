"""The encoder interface, and the wrapper that turns a backbone into an encoder.

An encoder is a Flax module with a method `tokens`, `(clips [B, M, T, V, c], capacity) ->
[B, T', P, n]`. `P` is the number of joints, or of other spatial positions of a backbone. A trained
encoder is a `SkeletonEncoder` with a backbone; one without parameters is a module of its own.

A backbone maps packed persons `[N, T, V, c]` to `[N, T / stride, P, n]`. In training it normalises
with the `BatchStatistics` of these persons. The wrapper handles absent persons and clip lengths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.preprocess import to_streams
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics
from dynapurls_jax.encoders.masking import clip_lengths, pack, present_persons, segment_weights
from dynapurls_jax.registry import Entry

TOKEN_DTYPE = np.float16  # of stored tokens: half the bytes of float32


@dataclass(frozen=True)
class EncoderEntry(Entry):
    """An encoder of the registry.

    Attributes:
      make: `(settings, skeleton) -> module`.
      trained: whether it has parameters, so that stage 1 trains it.
    """

    trained: bool = True


class TrainedEncoder(NamedTuple):
    """An encoder with its variables.

    Attributes:
      tokens: `(variables, clips [b, M, T, V, 3], capacity) -> [b, T', P, n]` float16; clips in
        metres.
      variables: empty for an encoder without parameters.
    """

    tokens: Callable[[dict, Any, int], Array]
    variables: dict


def trained_encoder(
    module: nn.Module, variables: dict, streams: tuple[str, ...], skeleton: Skeleton
) -> TrainedEncoder:
    """Combines an encoder with the computation of its input streams from joint coordinates.

    Args:
      variables: of `module`.
      streams: see `data_pipelines.preprocess.to_streams`.
    """
    derive = partial(to_streams, streams=streams, parents=skeleton.parents)

    def tokens(variables: dict, clips: Float[Array, "b M T V 3"], capacity: int) -> Array:
        found = module.apply(variables, derive(clips), capacity, method="tokens")
        return jnp.asarray(found, TOKEN_DTYPE)

    return TrainedEncoder(tokens, variables)


class SkeletonEncoder(nn.Module):
    """Clips to tokens through a backbone: input normalisation, packing, segments, persons.

    Attributes:
      backbone: see the top of this module; it reduces `backbone.stride` frames to one.
      segments: `T'`, the temporal segments that tokens are pooled into.
      count_absent: treat absent persons as present, as the published networks do, whose features
        are means over two persons always. For converted checkpoints.
      per_slot: normalise the input separately for each person slot; otherwise persons are alike.
      axis: name of the mesh axis over which a batch is sharded, inside `jax.shard_map`: statistics
        are then those of the global batch.

    All methods take `capacity`, the number of persons to compute: at least the number of present
    persons in the batch, by default `B * M`. If it is too small, the result is NaN.
    """

    backbone: Any
    segments: int = 3
    count_absent: bool = False
    per_slot: bool = True
    axis: str | None = None

    def setup(self):
        nn.share_scope(self, self.backbone)
        self.data_norm = BatchNorm(per_joint=True)

    def _features(self, clips, train: bool, capacity: int | None):
        """Features of persons `[n, T / stride, P, N]`, and their weights in clip means `[N, B]`."""
        b, m, t, v, c = clips.shape
        stride = self.backbone.stride
        if t % stride:
            raise ValueError(f"expected T divisible by {stride}, got clips {clips.shape}")
        present = present_persons(clips) | self.count_absent
        x = clips.transpose(4, 2, 1, 3, 0).reshape(c, t, m * v, b)
        if self.per_slot:
            in_slots = BatchStatistics.of(jnp.any(present, axis=1), self.axis) if train else None
            batch = in_slots.moments(x, per_joint=True) if in_slots else None
            x = self.data_norm(x, batch)
        x = x.reshape(c, t, m, v, b)
        x, share = pack(x, present, b * m if capacity is None else capacity)
        persons = BatchStatistics.of(jnp.any(share > 0, axis=1), self.axis) if train else None
        if not self.per_slot:
            x = self.data_norm(x, persons.moments(x, per_joint=True) if persons else None)
        x = self.backbone(x.transpose(3, 1, 2, 0), persons)
        return x.transpose(3, 1, 2, 0), share

    def pooled(
        self,
        clips: Float[Array, "B M T V c"],
        train: bool = False,
        capacity: int | None = None,
    ) -> Float[Array, "B n"]:
        """Mean features over the clip's frames, joints and present persons.

        Padding after the end of a clip is excluded, as in `tokens`.

        Raises:
          ValueError: `T` is not divisible by the stride of the backbone.
        """
        x, share = self._features(clips, train, capacity)
        whole = self._weights(clips, share, 1, x.shape[1])[0]
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        means = jnp.einsum("ntvp,tp->np", wide, whole) / x.shape[2]
        return jnp.einsum("np,pb->bn", means, share)

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B segments P n"]:
        """Tokens: segment means in time, mean over present persons.

        The segments divide the true length of a clip; padding after its end is excluded.

        Raises:
          ValueError: `T` is not divisible by the stride of the backbone.
        """
        x, share = self._features(clips, False, capacity)
        weights = self._weights(clips, share, self.segments, x.shape[1])
        parts = [(x * weight[None, :, None, :]).sum(axis=1) for weight in weights]
        return jnp.einsum("snvp,pb->bsvn", jnp.stack(parts), share)

    def _weights(
        self, clips, share: Float[Array, "N B"], segments: int, frames: int
    ) -> Float[Array, "segments T_out N"]:
        """Weights of feature frames in each segment of the true length of each person's clip."""
        lengths = clip_lengths(clips) / self.backbone.stride
        weights = segment_weights(lengths, segments, frames)
        return jnp.einsum("bst,pb->stp", weights, (share > 0).astype(jnp.float32))


def clips_per_device() -> int:
    """Clips that a device encodes at once: few on a CPU, so that features stay in its cache."""
    return 16 if jax.default_backend() == "cpu" else 128


def token_shape(module: nn.Module, clip_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """`(T', P, n)` of the tokens of one clip, by shape inference.

    Args:
      clip_shape: `(M, T, V, c)`, with the channels of all input streams.
    """

    def tokens(clips):
        return module.init_with_output(jax.random.key(0), clips, method="tokens")[0]

    return jax.eval_shape(tokens, jax.ShapeDtypeStruct((1, *clip_shape), jnp.float32)).shape[1:]
