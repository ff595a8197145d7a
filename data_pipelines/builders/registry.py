"""Registry of datasets: the name of each, and the class that describes it.

A public dataset is one file of this package, with a subclass of `base.Dataset`, and one line in
`PUBLIC`. The file is imported on first use; listing the names imports none.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.errors import check_choice

if TYPE_CHECKING:
    from data_pipelines.builders.base import Dataset

DEMO = "demo"  # generated, SYNTHETIC
CUSTOM = "custom"  # a folder with a dataset.yaml, or with clip archives
PUBLIC = {
    "utd_mhad": "data_pipelines.builders.utd_mhad:UtdMhad",
    "nw_ucla": "data_pipelines.builders.nw_ucla:NwUcla",
    "kinder_gator": "data_pipelines.builders.kinder_gator:KinderGator",
    "ntu60": "data_pipelines.builders.ntu:NtuRgbd60",
    "ntu120": "data_pipelines.builders.ntu:NtuRgbd120",
    "pku_mmd": "data_pipelines.builders.pku_mmd:PkuMmd",
    "pku_mmd_2": "data_pipelines.builders.pku_mmd:PkuMmd2",
}
DATASETS = (DEMO, *PUBLIC, CUSTOM)


def public_dataset(name: str) -> "Dataset":
    """A public dataset: joint layout, classes, splits, and location of the raw files.

    Raises:
      ValueError: no public dataset has this name; the message suggests the nearest.
    """
    check_choice("public dataset", name, PUBLIC)
    module, _, attribute = PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute)(name)


def dataset_of(name: str, manual_dir: Path) -> "Dataset":
    """A public dataset, or the custom one of the dataset.yaml or clip archives in `manual_dir`.

    Raises:
      ValueError, FileNotFoundError: unknown dataset; invalid dataset.yaml; or neither dataset.yaml
        nor archives.
    """
    if name != CUSTOM:
        return public_dataset(name)
    return import_module("data_pipelines.builders.custom").custom_dataset(manual_dir)
