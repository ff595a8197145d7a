"""The sample clip of the package."""

import numpy as np

from data_pipelines.animation import animate
from data_pipelines.clip_files import load_clips
from data_pipelines.sample_clip import FILE, SKETCH, sample_text
from data_pipelines.sketches import parse_sketch


def test_the_file_equals_the_generated_text():
    assert FILE.read_bytes() == sample_text().encode()
    assert FILE.stat().st_size < 30_000


def test_the_file_is_read_back_as_the_animation():
    [clip] = load_clips(FILE)
    assert clip.statements == ("lengths are in centimetres (a body is 169 tall): converted",)
    assert round(clip.fps) == 30
    motion = animate(parse_sketch(SKETCH, "wave", "a test"), clip.joints.shape[1])
    motion -= motion[0, 0]
    np.testing.assert_allclose(clip.joints[0] - clip.joints[0, 0, 0], motion, atol=2e-4)
