"""Body height, and the refusal of clips in wrong units."""

import numpy as np
import pytest

from data_pipelines.body_height import body_height, check_metres
from data_pipelines.errors import BadFilesError
from data_pipelines.layouts import COMMON
from data_pipelines.skeletons import KINECT_V2, OPENPOSE_18
from tests.helpers.clips import person
from tests.helpers.custom_folder import write_folder
from tests.helpers.raw_files import load

J = {name: index for index, name in enumerate(COMMON.joints)}
PERSON = person(16)[None].astype(np.float64)


def test_height_is_robust_to_noise_and_needs_legs_and_a_head():
    height = body_height(PERSON[0], COMMON)
    assert height == pytest.approx(1.69, abs=0.03)
    noisy = PERSON[0].copy()
    noisy[3:6, J["head"]] += 5
    assert body_height(noisy, COMMON) == pytest.approx(height, abs=0.02)
    kinect_v2 = np.zeros((16, 25, 3))
    for joint, other in (("spine_base", "hip_center"), ("spine_mid", "spine"), ("head", "head")):
        kinect_v2[:, KINECT_V2.joints.index(joint)] = PERSON[0, :, J[other]]
    kinect_v2[:, KINECT_V2.joints.index("spine_shoulder")] = PERSON[0, :, J["shoulder_center"]]
    for name in set(KINECT_V2.joints) & set(J):
        kinect_v2[:, KINECT_V2.joints.index(name)] = PERSON[0, :, J[name]]
    assert body_height(kinect_v2, KINECT_V2) == pytest.approx(height)
    assert body_height(np.zeros((4, 18, 3)), OPENPOSE_18) is None


@pytest.mark.parametrize("unit", [0.001, 0.01, 100, 1000])
def test_other_units_are_refused(unit):
    check_metres(PERSON, COMMON)
    with pytest.raises(ValueError, match=r"expected a body of 0\.5 to 2\.5 m, got"):
        check_metres(PERSON * unit, COMMON)
    untracked = PERSON * unit
    untracked[:, :, 3] = 0
    check_metres(untracked, COMMON)  # frames with untracked joints are not checked


def test_a_custom_dataset_in_another_unit_is_refused(tmp_path, cache):
    folder = write_folder(tmp_path / "gym", metres=1)
    with pytest.raises(BadFilesError, match=r"48 of 48 files(.|\n)*The key metres of dataset.yaml"):
        load("custom", folder)
