"""Dataset names to their builders."""

from pathlib import Path

from data_pipelines.builders.base import SkeletonBuilder
from data_pipelines.builders.kinect_v1 import KinderGator, NwUcla, UtdMhad
from data_pipelines.builders.ntu import NtuRgbd60, NtuRgbd120
from data_pipelines.builders.custom import CustomDataset
from data_pipelines.builders.pku_mmd import PkuMmd, PkuMmd2

BUILDERS: dict[str, type[SkeletonBuilder]] = {
    builder.DATASET: builder
    for builder in (UtdMhad, NwUcla, KinderGator, NtuRgbd60, NtuRgbd120, PkuMmd, PkuMmd2)
}


def make_builder(name: str, manual_dir: Path, **options) -> SkeletonBuilder:
    """The builder of a dataset; `own` is described by a file in its folder."""
    if name == "own":
        return CustomDataset(manual_dir, **options)
    return BUILDERS[name](**options)
