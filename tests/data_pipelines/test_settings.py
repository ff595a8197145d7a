"""Dataset names and data settings: consistent, checked, fast to import."""

import subprocess
import sys
from dataclasses import asdict

import pytest

from data_pipelines.builders.registry import PUBLIC, public_dataset
from data_pipelines.protocols import published_splits
from data_pipelines.settings import STREAMS, Augmentation, DataSettings
from data_pipelines.skeletons import SKELETONS


def test_settings_import_neither_jax_nor_tfds():
    code = "import sys, data_pipelines.settings\n"
    code += "assert not {'jax', 'sklearn', 'tensorflow_datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_dataset_has_a_layout_classes_splits_and_instructions(name, tmp_path):
    dataset = public_dataset(name)
    assert dataset.name == name
    assert dataset.SKELETON in SKELETONS.values()
    assert len(set(dataset.CLASSES)) == len(dataset.CLASSES)
    total = len(dataset.CLASSES)
    for split, unseen in dataset.splits.items():
        assert len(set(unseen)) == len(unseen)
        assert 0 <= min(unseen) <= max(unseen) < total
        if "_" in split:  # numbers of seen and unseen classes
            assert tuple(map(int, split.split("_"))) == (total - len(unseen), len(unseen))
    assert dataset.find_source(tmp_path) is None
    assert str(tmp_path) in dataset.missing(tmp_path)


def test_parts_of_a_dataset_share_its_splits_and_descriptions():
    second = public_dataset("pku_mmd_2")
    assert second.splits == published_splits("pku_mmd") != {}
    assert second.descriptions == "pku_mmd"
    assert public_dataset("ntu60").descriptions == "ntu120"


def test_defaults_are_valid_and_lists_become_tuples():
    assert asdict(DataSettings())["frames"] == 64
    settings = DataSettings(streams=["joint", "bone"])
    assert settings.streams == ("joint", "bone")
    assert hash(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "utd_mad"}, "unknown dataset 'utd_mad'; did you mean 'utd_mhad'"),
        ({"name": ""}, "unknown dataset ''"),
        ({"frames": 0}, "frames: expected a multiple of 4, got 0"),
        ({"frames": 30}, "frames: expected a multiple of 4, got 30"),
        ({"temporal_sampling": "resampel"}, "did you mean 'resample'"),
        ({"streams": ()}, f"streams: expected one or more of {', '.join(STREAMS)}"),
        ({"streams": ("joint", "bones")}, "unknown stream 'bones'; did you mean 'bone'"),
        ({"joints": "openpose18"}, "unknown joints 'openpose18'; did you mean 'openpose_18'"),
    ],
)
def test_wrong_data_settings_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        DataSettings(**changes)


@pytest.mark.parametrize("changes", [{"crop": 0}, {"crop": 1.1}, {"turn": -1}, {"noise": -0.1}])
def test_wrong_augmentation_is_an_error(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: expected"):
        Augmentation(**changes)
