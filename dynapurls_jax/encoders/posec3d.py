"""PoseC3D (Duan et al., CVPR 2022): a 3D convolutional network on heatmaps of joints.

The network is SlowOnly with 50 layers without its first stage. Its kernels extend in space or in
time, never in both, so that two-dimensional convolutions compute them.

Expected cost of a clip at full size (48 x 56 x 56, width 32, 17 joints), forward: 15.6 GMAC, for
any number of persons, since one volume has all of them.

The published input has 2D poses that HRNet finds in RGB frames. Here the joints of a clip are seen
from the front, so that published accuracies are no reference. Clips are augmented in 3D; there are
no crops and no mirror images of volumes, and no dropout before the classifier.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from data_pipelines.papers import Paper
from data_pipelines.skeletons import Skeleton
from dynapurls_jax.encoders.base import EncoderEntry
from dynapurls_jax.encoders.heatmaps import joint_heatmaps
from dynapurls_jax.encoders.masking import segment_weights
from dynapurls_jax.encoders.products import convolved, largest_of_three
from dynapurls_jax.registry import check_at_least, check_choice

# Width multiple, temporal kernel and temporal stride of the stages; each halves height and width.
STAGES = ((1, 1, 1), (2, 3, 1), (4, 3, 2))
DTYPES = ("float32", "bfloat16")
_EXPANSION = 4  # output channels of a block, in planes
_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

Volume = Float[Array, "B F H W c"]
Reduced = Float[Array, "B F_out H_out W_out features"]


@dataclass(frozen=True)
class PoseC3DSettings:
    """The encoder's settings; the defaults are the published network.

    Attributes:
      frames: frames of the volume, sampled from the clip.
      size: height and width of the volume, pixels.
      width: channels of the stem and planes of the first stage; tokens have 16 times as many.
      blocks: number of blocks in each of the three stages.
      segments: `T'`.
      dtype: of features, "float32" or "bfloat16"; statistics and parameters are always float32.
      remat: rematerialise: store only the features between blocks for the gradient.

    Raises:
      ValueError: a setting is out of range.
    """

    frames: int = 48
    size: int = 56
    width: int = 32
    blocks: tuple[int, ...] = (4, 6, 3)
    segments: int = 3
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self):
        check_at_least(1, frames=self.frames, size=self.size, width=self.width)
        check_at_least(1, segments=self.segments)
        check_choice("dtype", self.dtype, DTYPES)
        if len(self.blocks) != len(STAGES) or min(self.blocks) < 1:
            raise ValueError(
                f"blocks: expected a number of 1 or more for each of {len(STAGES)} stages, got "
                f"{self.blocks}"
            )


class Convolution(nn.Module):
    """A convolution in space or in time without bias, and batch normalisation.

    Attributes:
      time, space: extents of the kernel; one of them is 1.
      strides: in time and in space.
      axis: see `encoders.base.SkeletonEncoder`.
      scale_init: of the normalisation.
    """

    features: int
    time: int = 1
    space: int = 1
    strides: tuple[int, int] = (1, 1)
    dtype: Any = jnp.float32
    axis: str | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Volume, train: bool) -> Reduced:
        """`[B, F, H, W, c]` to `[B, F / stride, H / stride, W / stride, features]`."""
        convolution = partial(
            nn.Conv,
            self.features,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_he_normal,
            conv_general_dilated=convolved,
        )
        in_time, in_space = self.strides
        if self.time > 1:
            b, f, h, w, c = x.shape
            padding = ((self.time // 2,) * 2, (0, 0))
            over_time = convolution((self.time, 1), padding=padding, name="convolution")
            x = over_time(x.reshape(b, f, h * w, c)).reshape(b, f, h, w, self.features)
        else:
            kernel = (self.space, self.space)
            over_space = convolution(kernel, in_space, padding=self.space // 2, name="convolution")
            x = over_space(x[:, ::in_time])
        normalise = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            scale_init=self.scale_init,
            axis_name=self.axis,
            name="norm",
        )
        return normalise(x)


class Bottleneck(nn.Module):
    """A residual block: time, space, expansion; fresh ones are the identity."""

    planes: int
    time: int
    strides: tuple[int, int]
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Volume, train: bool) -> Reduced:
        """`[B, F, H, W, c]` to `[B, F / stride, H / stride, W / stride, 4 planes]`."""
        layer = partial(Convolution, dtype=self.dtype, axis=self.axis)
        y = nn.relu(layer(self.planes, time=self.time, name="time")(x, train))
        y = nn.relu(layer(self.planes, space=3, strides=self.strides, name="space")(y, train))
        wide, zeros = _EXPANSION * self.planes, nn.initializers.zeros
        y = layer(wide, scale_init=zeros, name="expand")(y, train)
        if x.shape != y.shape:
            x = layer(wide, strides=self.strides, name="shortcut")(x, train)
        return nn.relu(x + y)


class SlowOnly(nn.Module):
    """The network: heatmaps to features; fields as in `PoseC3DSettings`."""

    width: int = 32
    blocks: tuple[int, ...] = (4, 6, 3)
    dtype: Any = jnp.float32
    remat: bool = False
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Volume, train: bool) -> Reduced:
        """`[B, F, H, W, V]` to `[B, F / 2, H / 8, W / 8, 16 width]`."""
        stem = Convolution(self.width, space=7, dtype=self.dtype, axis=self.axis, name="stem")
        x = nn.relu(stem(x.astype(self.dtype), train))
        # `nn.max_pool` is the same; its gradient is slow on a CPU.
        x = largest_of_three(largest_of_three(x, 2), 3)
        block: Any = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
        for stage, (multiple, time, stride) in enumerate(STAGES):
            for n in range(self.blocks[stage]):
                strides = (stride, 2) if n == 0 else (1, 1)
                name = f"stage{stage}_{n}"
                planes = self.width * multiple
                x = block(planes, time, strides, self.dtype, self.axis, name=name)(x, train)
        return x


class PoseC3D(nn.Module):
    """The encoder: all persons of a clip are in one volume, whose cells are the tokens.

    Attributes:
      axis: see `encoders.base.SkeletonEncoder`.
    """

    settings: PoseC3DSettings
    axis: str | None = None

    def setup(self):
        settings = self.settings
        dtype = jnp.dtype(settings.dtype)
        self.network = SlowOnly(settings.width, settings.blocks, dtype, settings.remat, self.axis)

    def _features(self, clips, train: bool) -> Reduced:
        if clips.shape[-1] != 3:
            raise ValueError(
                "encoder posec3d draws joints: expected --config.data.streams=joint, got "
                f"{clips.shape[-1]} channels"
            )
        heatmaps = joint_heatmaps(clips, self.settings.frames, self.settings.size)
        return self.network(heatmaps, train).astype(jnp.float32)

    def pooled(
        self,
        clips: Float[Array, "B M T V c"],
        train: bool = False,
        capacity: int | None = None,
    ) -> Float[Array, "B n"]:
        """Mean feature of the volume.

        Args:
          capacity: unused, a volume has all persons.

        Raises:
          ValueError: `c` is not 3: there are other input streams.
        """
        return self._features(clips, train).mean(axis=(1, 2, 3))

    def tokens(
        self, clips: Float[Array, "B M T V c"], capacity: int | None = None
    ) -> Float[Array, "B segments P n"]:
        """Tokens of the cells, row by row: segment means in time.

        Raises:
          ValueError: `c` is not 3: there are other input streams.
        """
        x = self._features(clips, train=False)
        b, frames, h, w, n = x.shape
        weights = segment_weights(jnp.array([frames], x.dtype), self.settings.segments, frames)[0]
        return jnp.einsum("st,btpn->bspn", weights, x.reshape(b, frames, h * w, n))


def make(settings: PoseC3DSettings, skeleton: Skeleton) -> PoseC3D:
    """The encoder; the number of joints is that of the clips."""
    return PoseC3D(settings)


ENTRY = EncoderEntry(
    make,
    PoseC3DSettings,
    description="3D convolutions on heatmaps of joints; tokens of a grid",
    paper=Paper("Duan et al., CVPR 2022", "https://arxiv.org/abs/2104.13586"),
)
