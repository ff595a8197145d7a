"""The page of a user's own clips, in the file and in a browser."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.clip_files import Clip
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.serving.clip_page import ClipPage, summary_of, write_clip_page
from dynapurls_jax.serving.recognition import Recognition
from tests.helpers.browser import frame, heads, open_page, outcomes, rows, show

ACTIONS = ("wave", "sit <b>down</b>", "jump", "run", "bow", "kick")
SCORES = {"clips": 2, "classes": 2, "accuracy": 0.5, "macro_accuracy": 0.5}
SCORES |= {"static_macro_accuracy": 0.25}


def recognition(seed):
    """Random probabilities in descending order."""
    values = np.random.default_rng(seed).dirichlet(np.ones(len(ACTIONS)))
    order = np.argsort(-values)
    return Recognition(tuple(ACTIONS[n] for n in order), values[order])


@pytest.fixture(scope="module")
def answered():
    """Clips of different lengths; two have labels, one of which is not among the actions."""
    sketch = parse_sketch({"right hand": "hang > (head out > head near)*2"}, "wave", "test")
    labels = ("wave", None, "hidden label", None)
    clips = []
    for n, label in enumerate(labels):
        joints, statements = animate(sketch, 20 + 8 * n)[None], ("up is z",) * (n > 1)
        clips.append(Clip(f"clip {n}", joints, 30.0, label, statements))
    return [
        (clip, replace(recognition(n), none_of_these=n == 0), recognition(10 + n))
        for n, clip in enumerate(clips)
    ]


def info_of(adapter="recentred", **changes):
    """The information of a page."""
    info = ClipPage("folder", "the command", "universal", adapter, False, ACTIONS, 1)
    return info._replace(**changes)


def check_answers(page, static, refined):
    """The page shows the most probable actions of both recognitions, in percent."""
    items = page.locator("#answers li")
    names = items.locator(".name").all_inner_texts()
    assert names[:5] == list(refined.labels[:5])
    assert set(names) == {*static.labels[:5], *refined.labels[:5]}
    shown = [float(text.split()[0]) for text in items.locator(".value").all_inner_texts()]
    for start, found in enumerate((static, refined)):
        of_name = dict(zip(found.labels, found.probabilities, strict=True))
        expected = [100 * of_name[name] for name in names]
        np.testing.assert_allclose(shown[start::2], expected, atol=0.6)


def test_the_page_plays_every_clip_with_both_predictions(answered, browser, tmp_path):
    path = tmp_path / "new folder" / "page.html"
    write_clip_page(path, answered, info_of())
    assert "hidden label" not in path.read_text("utf-8")  # labels are shown only with scores
    with open_page(browser, path) as page:
        assert page.title() == "folder: actions recognised from text"
        assert heads(page) == ["clip", "name", "before", "after", "confidence"]
        assert outcomes(page) == ["all", "prediction changed"]
        page.click("#clips tbody tr >> nth=0")
        for clip, refined, static in answered:
            number = int(clip.id.split()[1])
            assert page.inner_text("#clip-title") == f"Clip {number + 1} of 4: {clip.id}"
            assert rows(page)[number][1:4] == [clip.id, static.label, refined.label]
            check_answers(page, static, refined)
            note = "The clip probably shows none of the actions."
            assert (note in page.inner_text("#change")) == (number == 0)
            assert frame(page)[0] == f"1 of {clip.joints.shape[1]}"
            first = frame(page)[1]
            page.keyboard.press("ArrowRight")
            assert frame(page)[1] != first
            page.keyboard.press("ArrowDown")


def test_labels_are_shown_with_scores(answered, browser, tmp_path):
    path = tmp_path / "page.html"
    write_clip_page(path, answered, info_of(), SCORES)
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "true action", "before", "after", "confidence"]
        assert [row[1] for row in rows(page)] == ["wave", "", "hidden label", ""]
        page.click("#clips tbody tr >> nth=0")
        assert page.inner_text("#truth b") == "wave"
        assert page.locator("#answers li.true").count() == 1
        assert page.locator(".facts dd").all_inner_texts() == ["25.0 → 50.0 %"]
        show(page, "wrong")
        assert "hidden label" in [row[1] for row in rows(page)]
        assert "" not in [row[1] for row in rows(page)]


def test_static_predictions_are_not_compared(answered, browser, tmp_path):
    path = tmp_path / "page.html"
    write_clip_page(path, [(a, b, b) for a, b, _ in answered], info_of("static"))
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "name", "prediction", "confidence"]
        assert "refine" not in page.inner_text("body")


def test_a_page_without_clips_is_no_error(browser, tmp_path):
    write_clip_page(tmp_path / "page.html", [], info_of())
    with open_page(browser, tmp_path / "page.html") as page:
        assert page.inner_text("#clip-title") == "No clip"
        assert not page.is_visible("#no-clip")


def test_the_details_have_the_assumptions(answered):
    clips = [clip for clip, _, _ in answered]
    rows = dict(summary_of(clips, info_of(), SCORES))
    assert rows["clips"] == "4; 1 more cannot be used"
    assert rows["actions"] == "6: wave, sit <b>down</b>, jump, run, bow, kick"
    assert rows["test-time method"] == "recentred, adapts to all clips, then predicts"
    assert rows["assumed or changed"] == "up is z (2 clips)"
    assert rows["static macro accuracy"] == "25.0 %"
    online = dict(summary_of(clips, info_of(online=True, left_out=0), None))
    assert online["clips"] == "4"
    assert online["test-time method"] == "recentred, predicts each clip, then adapts to it"
    assert "accuracy" not in online
    static = dict(summary_of(clips, info_of("static"), SCORES))
    assert static["test-time method"] == "static, each clip alone"
    assert "static macro accuracy" not in static
