"""Kinematic statistics and a small temporal convolutional network, for datasets of few clips.

The network has two convolutions over the frames of all joints, with layer normalisation, after
T. S. Kim and A. Reiter, "Interpretable 3D human action analysis with temporal convolutional
networks", CVPR workshops 2017. The token of a clip is the concatenation of the statistics of
`encoders.kinematics` and the mean feature of its frames. Coordinates are those of
`encoders.kinematics`.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry
from dynapurls_jax.encoders.batch_norm import BatchNorm, BatchStatistics
from dynapurls_jax.encoders.kinematics import Kinematics, KinematicsSettings, body_coordinates
from dynapurls_jax.encoders.masking import clip_lengths, present_persons, segment_weights
from dynapurls_jax.registry import check_at_least

_KERNELS = (5, 3)  # frames that each convolution sees; each halves the number of frames
_STRIDE = 4  # of both together


@dataclass(frozen=True)
class TemporalConvSettings:
    """The encoder's settings.

    Attributes:
      width: channels of the convolutions, and of the mean feature in the token.
    """

    width: int = 64

    def __post_init__(self):
        check_at_least(1, width=self.width)


class TemporalConv(nn.Module):
    """The encoder; see the top of this module.

    Attributes:
      axis: see `SkeletonEncoder`.
    """

    settings: TemporalConvSettings
    skeleton: Skeleton
    axis: str | None = None

    def setup(self):
        width = self.settings.width
        self.statistics = Kinematics(KinematicsSettings(), self.skeleton)
        self.data_norm = BatchNorm(per_joint=True)
        self.convolutions = [nn.Conv(width, (k,), strides=2, padding="VALID") for k in _KERNELS]
        self.norms = [nn.LayerNorm() for _ in _KERNELS]

    def pooled(
        self,
        clips: Float[Array, "B M T V c"],
        train: bool = False,
        capacity: int | None = None,
    ) -> Float[Array, "B n"]:
        """Mean feature of the clip's frames and present persons.

        Args:
          capacity: unused, all persons are computed.
        """
        b, m, t, v, c = clips.shape
        present = present_persons(clips)
        joints = body_coordinates(clips, self.skeleton).reshape(b * m, t, v, c)
        persons = BatchStatistics.of(present.reshape(-1), self.axis) if train else None
        channels_first = joints.transpose(3, 1, 2, 0)
        batch = persons.moments(channels_first, per_joint=True) if persons else None
        x = self.data_norm(channels_first, batch).transpose(3, 1, 2, 0).reshape(b * m, t, v * c)
        for kernel, convolution, norm in zip(_KERNELS, self.convolutions, self.norms, strict=True):
            margin = kernel // 2
            x = jnp.pad(x, ((0, 0), (margin, margin), (0, 0)), mode="edge")
            x = nn.relu(norm(convolution(x)))
        weights = segment_weights(clip_lengths(clips) / _STRIDE, 1, x.shape[1])[:, 0]
        x = jnp.einsum("bmtn,bt->bmn", x.reshape(b, m, *x.shape[1:]), weights)
        share = present / jnp.maximum(present.sum(axis=1, keepdims=True), 1)
        return jnp.einsum("bmn,bm->bn", x, share)

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B 1 1 n"]:
        """One token: the statistics of all joints, then the mean feature.

        Raises:
          ValueError: `c` is not 3: there are other input streams.
        """
        statistics = self.statistics.tokens(clips).reshape(len(clips), -1)
        return jnp.concatenate([statistics, self.pooled(clips)], axis=-1)[:, None, None]


ENTRY = EncoderEntry(
    TemporalConv,
    TemporalConvSettings,
    description="Two temporal convolutions, and the statistics of `kinematics`",
    paper=Paper("Kim and Reiter, CVPR workshops 2017", "https://arxiv.org/abs/1704.04516"),
)
