"""The page of clips that users bring, in the file and in a real browser."""

import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.clip_files import Clip
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.serving.clip_page import ClipPage, summary_of, write_clip_page
from dynapurls_jax.serving.recognition import Recognition
from tests.helpers.browser import frame, heads, open_page, outcomes, rows

ACTIONS = ("wave", "sit <b>down</b>", "jump", "run", "bow", "kick")
SCORES = {"clips": 2, "classes": 2, "accuracy": 0.5, "macro_accuracy": 0.5}
SCORES |= {"static_macro_accuracy": 0.25}


def recognition(seed):
    """Invented probabilities, the highest first."""
    values = np.random.default_rng(seed).dirichlet(np.ones(len(ACTIONS)))
    order = np.argsort(-values)
    return Recognition(tuple(ACTIONS[n] for n in order), values[order])


@pytest.fixture(scope="module")
def answered():
    """Clips of different lengths; two have labels, of which one is no action."""
    sketch = parse_sketch({"right hand": "hang > (head out > head near)*2"}, "wave", "test")
    labels = ("wave", None, "hidden label", None)
    clips = []
    for n, label in enumerate(labels):
        joints, said = animate(sketch, 20 + 8 * n)[None], ("up is z",) * (n > 1)
        clips.append(Clip(f"clip {n}", joints, 30.0, label, said))
    return [(clip, recognition(n), recognition(10 + n)) for n, clip in enumerate(clips)]


def info_of(adapter="recentred", **changes):
    """What the page says of a command."""
    info = ClipPage("folder", "the command", "universal", adapter, False, ACTIONS, 1)
    return info._replace(**changes)


def check_bars(page, name, recognition):
    """The page shows the first five actions of a recognition, in percent."""
    bars = [text.split() for text in page.locator(f"#top-{name} li").all_inner_texts()]
    assert [" ".join(words[:-2]) for words in bars] == list(recognition.labels[:5])
    shown = [float(words[-2]) for words in bars]
    np.testing.assert_allclose(shown, 100 * recognition.probabilities[:5], atol=0.6)


def test_it_plays_every_clip_with_both_answers(answered, browser, tmp_path):
    path = tmp_path / "new folder" / "page.html"
    write_clip_page(path, answered, info_of())
    assert "hidden label" not in path.read_text("utf-8")  # labels come with scores alone
    with open_page(browser, path) as page:
        assert page.title() == "folder: static and recentred"
        assert page.locator("h2").all_inner_texts() == ["Summary", "Clips"]
        assert heads(page) == ["clip", "static", "refined", "changed", "confidence"]
        assert outcomes(page) == ["all", "changed by refinement"]
        for clip, refined, static in answered:
            number = int(clip.id.split()[1])
            assert page.inner_text("#clip-title") == f"{clip.id} (number {number + 1})"
            assert rows(page)[number][:3] == [clip.id, static.label, refined.label]
            check_bars(page, "adapted", refined)
            check_bars(page, "static", static)
            assert frame(page)[0] == f"1 of {min(32, clip.joints.shape[1])}"
            first = frame(page)[1]
            page.keyboard.press("ArrowRight")
            assert frame(page)[1] != first
            page.keyboard.press("ArrowDown")


def test_labels_come_with_scores(answered, browser, tmp_path):
    path = tmp_path / "page.html"
    write_clip_page(path, answered, info_of(), SCORES)
    with open_page(browser, path) as page:
        assert heads(page) == ["class", "static", "refined", "changed", "confidence"]
        assert [row[0] for row in rows(page)] == ["wave", "", "hidden label", ""]
        assert page.inner_text("#clip-title") == "wave (clip 0, number 1)"
        assert page.locator("#top-adapted li.true").count() == 1
        page.select_option("#by-outcome", "wrong")
        assert "hidden label" in [row[0] for row in rows(page)]
        assert "" not in [row[0] for row in rows(page)]


def test_static_answers_stand_alone(answered, browser, tmp_path):
    path = tmp_path / "page.html"
    write_clip_page(path, [(a, b, b) for a, b, _ in answered], info_of("static"))
    with open_page(browser, path) as page:
        assert page.title() == "folder: static"
        assert heads(page) == ["clip", "static", "confidence"]
        assert "refine" not in page.inner_text("body")


def test_a_page_without_clips_is_no_error(browser, tmp_path):
    write_clip_page(tmp_path / "page.html", [], info_of())
    with open_page(browser, tmp_path / "page.html") as page:
        assert page.inner_text("#clip-title") == "No clip"
        assert not page.is_visible("#no-clip")


def test_the_summary_says_what_was_assumed(answered):
    clips = [clip for clip, _, _ in answered]
    rows = dict(summary_of(clips, info_of(), SCORES))
    assert rows["clips"] == "4; 1 more cannot be used"
    assert rows["actions"] == "6: wave, sit <b>down</b>, jump, run, bow, kick"
    assert rows["test-time method"] == "recentred, learns from all clips, then answers"
    assert rows["assumed or changed"] == "up is z (2 clips)"
    assert rows["static macro accuracy"] == "25.0 %"
    online = dict(summary_of(clips, info_of(online=True, left_out=0), None))
    assert online["clips"] == "4"
    assert online["test-time method"] == "recentred, answers each clip, then learns from it"
    assert "accuracy" not in online
    static = dict(summary_of(clips, info_of("static"), SCORES))
    assert static["test-time method"] == "static, each clip alone"
    assert "static macro accuracy" not in static
