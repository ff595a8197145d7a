"""Settings of the data of a run: names, defaults and checks. Imports neither JAX nor TFDS."""

from dataclasses import dataclass

from data_pipelines.builders.registry import DATASETS, DEMO
from data_pipelines.errors import check_at_least, check_choice
from data_pipelines.skeletons import SKELETONS
from data_pipelines.temporal_sampling import TEMPORAL_SAMPLING

# Input streams of an encoder, each three channels; see `preprocess.to_streams`.
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
STRIDE = 4  # frames of a clip per frame of an encoder's last stage


@dataclass(frozen=True)
class DataSettings:
    """The dataset of a run and the shape of its clips.

    Attributes:
      name: one of `DATASETS`; "custom" reads a dataset.yaml or clip archives in `manual_dir`.
      manual_dir: folder with the owner's archive; empty: see `paths.find_manual_dir`.
      frames: `T`, a multiple of 4.
      temporal_sampling: how clips are sampled to `T` frames, one of `TEMPORAL_SAMPLING`.
      protocol: division into training and test clips, such as "xsub"; empty: the default.
      streams: elements of `STREAMS`, fused by the encoder's first layer.
      joints: joint layout to map to, one of `SKELETONS`; empty: as recorded.
      features: folder of backbone features, used instead of clips and an encoder.
      skip_bad: skip unreadable files, and count them.
      seed: seed of the demo corpus.

    Raises:
      ValueError: a value is invalid; the message has the expected and the actual value.
    """

    name: str = DEMO
    manual_dir: str = ""
    frames: int = 64
    temporal_sampling: str = "resample"
    protocol: str = ""
    streams: tuple[str, ...] = ("joint",)
    joints: str = ""
    features: str = ""
    skip_bad: bool = False
    seed: int = 0

    def __post_init__(self):
        """Checks the values, without the data."""
        check_choice("dataset", self.name, DATASETS)
        check_choice("temporal_sampling", self.temporal_sampling, TEMPORAL_SAMPLING)
        check_choice("joints", self.joints, ("", *SKELETONS))
        if self.frames < STRIDE or self.frames % STRIDE:
            raise ValueError(f"frames: expected a multiple of {STRIDE}, got {self.frames}")
        object.__setattr__(self, "streams", tuple(self.streams))
        if not self.streams:
            raise ValueError(f"streams: expected one or more of {', '.join(STREAMS)}")
        for stream in self.streams:
            check_choice("stream", stream, STREAMS)


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentation in training; all zero and crop 1 is the identity.

    Attributes:
      turn: rotation about the vertical axis, uniform in +-turn radians.
      tilt: rotation about both horizontal axes, uniform in +-tilt radians.
      crop: minimum share of the clip that a random temporal crop keeps, in (0, 1].
      scale: body size, uniform in 1 +- scale.
      noise: standard deviation of the joint noise, metres.

    Raises:
      ValueError: a value cannot be used.
    """

    turn: float = 0.3
    tilt: float = 0.1
    crop: float = 0.75
    scale: float = 0.1
    noise: float = 0.005

    def __post_init__(self):
        """Checks the ranges."""
        check_at_least(0, turn=self.turn, tilt=self.tilt, scale=self.scale, noise=self.noise)
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop: expected a share above 0, at most 1, got {self.crop}")
