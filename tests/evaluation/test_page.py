"""A run's page: the content of the file."""

import base64
import json
import re

import numpy as np

from dynapurls_jax.evaluation.page.viewer import attended_granularities, quantised, viewer_data
from tests.helpers.pages import EVIL, NAMES, SEGMENTS, V, small_run, write_page


def test_a_quantised_clip_has_no_absent_persons_and_padded_frames():
    rng = np.random.default_rng(1)
    clip = rng.normal(size=(2, 90, V, 3)).astype(np.float32)
    clip[1] = 0
    clip[:, 70:] = 0  # padded
    packed = quantised(clip, most=32, fps=20.0)
    assert (packed["persons"], packed["frames"], packed["seconds"]) == (1, 32, 3.5)
    data = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(1, 32, V, 3)
    kept = clip[:1, np.linspace(0, 69, 32).round().astype(int)]
    low, side = kept.min((0, 1, 2)), np.ptp(kept, axis=(0, 1, 2)).max()
    np.testing.assert_allclose(data / 255 * side + low, kept, atol=side / 255)
    middle = (kept.min((0, 1, 2)) + kept.max((0, 1, 2))) / 2
    np.testing.assert_allclose(np.array(packed["centre"]) * side + low, middle, atol=side / 500)
    assert quantised(np.zeros((1, 5, V, 3), np.float32), 32)["frames"] == 1


def test_viewer_data_has_top_classes_attention_and_stream_positions():
    labels, inspection, clips = small_run()
    record = viewer_data(NAMES, labels, inspection, clips)
    json.dumps(record)
    assert record["left_out"] == 0
    for n, clip in enumerate(record["clips"]):
        assert clip["label"] == labels[n]
        assert inspection.order[clip["place"]] == n
        order = np.argsort(-inspection.adapted[n])
        assert [c for c, *_ in clip["answers"]] == order.tolist()
        both = np.stack([inspection.static[n], inspection.adapted[n]], axis=1)
        np.testing.assert_allclose(
            [shares for _, *shares in clip["answers"]], both[order], atol=1e-3
        )
        assert clip["guesses"] == both.argmax(axis=0).tolist()
        strength = np.frombuffer(base64.b64decode(clip["attention"]), np.uint8).reshape(8, -1)
        np.testing.assert_array_equal(strength.argmax(1), inspection.attention[n].argmax(1))
        assert (strength.min(1) == 0).all()
        assert (strength.max(1) == 255).all()
        extremes = np.stack([inspection.attention[n].min(1), inspection.attention[n].max(1)], 1)
        np.testing.assert_allclose(clip["range"], extremes * SEGMENTS * V, atol=0.01)


def test_a_thousand_long_clips_of_two_persons_stay_below_ten_megabytes(tmp_path):
    labels, inspection, clips = small_run(count=1001, frames=64)
    path = write_page(tmp_path, labels, inspection, clips)
    assert path.stat().st_size < 9e6  # the figures may have a megabyte
    assert '"left_out":1,' in path.read_text("utf-8")


def test_the_page_has_no_external_resources_and_names_are_escaped(tmp_path):
    text = write_page(tmp_path, *small_run()).read_text("utf-8")
    assert EVIL not in text
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", text)
    assert "<!--" not in text.replace("<!doctype", "")  # every placeholder is replaced


def test_attention_is_shown_if_half_of_the_clips_have_a_strong_token():
    attention = np.full((5, 8, 10), 0.1)
    assert attended_granularities(attention) == []
    attention[:2, 1, 0], attention[:3, 4, 0] = 0.25, 0.25  # of 5 clips
    assert attended_granularities(attention) == [4]
    assert attended_granularities(None) == []


def test_viewer_data_of_features_without_clips():
    labels, inspection, clips = small_run()
    record = viewer_data(NAMES, labels, inspection, clips._replace(joints=None, texts=None))
    assert all("data" not in clip for clip in record["clips"])
