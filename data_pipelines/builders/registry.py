"""Registry of datasets: the name of each, and the class that describes it.

A public dataset is one file of this package, with a subclass of `base.Dataset`, and one line in
`PUBLIC`. The file is imported on first use; listing the names imports none.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.errors import check_choice
from data_pipelines.papers import THIS_PROJECT, Paper

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
_MODULES = {
    DEMO: "data_pipelines.demo.generate",
    **PUBLIC,
    CUSTOM: "data_pipelines.builders.custom:CustomDataset",
}
DATASETS = tuple(_MODULES)


def module_of(name: str) -> str:
    """The module that describes a dataset."""
    return _MODULES[name].partition(":")[0]


def about(name: str) -> tuple[str, Paper]:
    """A dataset's description in one line, and its paper."""
    attribute = _MODULES[name].partition(":")[2]
    module = import_module(module_of(name))
    part = getattr(module, attribute) if attribute else module
    return part.DESCRIPTION, getattr(part, "PAPER", THIS_PROJECT)


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
