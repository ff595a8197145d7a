"""A run's page: what is in the file, and how it behaves in a real browser."""

import base64
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.evaluation.inspection import Inspection
from dynapurls_jax.evaluation.page.viewer import (
    Clips,
    Figure,
    Page,
    quantised,
    viewer_data,
    write_html,
)
from dynapurls_jax.text.granularities import GRANULARITIES
from tests.helpers.browser import frame, heads, open_page, outcomes, rows

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
NAMES = ("wave", "kick & <b>run</b>", EVIL)
SEGMENTS, V = 3, KINECT_V2.num_joints


def small_run(count=12, persons=2, frames=40, seed=0):
    """Labels, inspection and clips of an invented run."""
    rng = np.random.default_rng(seed)
    static = rng.dirichlet(np.ones(len(NAMES)), count).astype(np.float32)
    adapted = rng.dirichlet(np.ones(len(NAMES)), count).astype(np.float32)
    inspection = Inspection(
        samples=np.arange(count),
        order=rng.permutation(count),
        static=static,
        adapted=adapted,
        attention=rng.dirichlet(np.ones(SEGMENTS * V), (count, 8)).astype(np.float32),
        features=rng.normal(size=(count, 4)),
        class_vectors=rng.normal(size=(4, len(NAMES), 4)),
    )
    joints = rng.normal(size=(count, persons, frames, V, 3)).astype(np.float32)
    joints[::2, 1:] = 0  # every other clip has one person
    ids = [f"clip {n} {EVIL}" for n in range(count)]
    texts = [[f"{name}, {row}" for row in GRANULARITIES] for name in NAMES]
    labels = rng.integers(0, len(NAMES), count)
    return labels, inspection, Clips(joints, np.arange(count), ids, KINECT_V2, "the class", texts)


def write_page(folder, labels, inspection, clips, compared=True):
    """A page with one figure."""
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    figure.savefig(folder / "line.png")
    plt.close(figure)
    path = folder / "page.html"
    page = Page(
        title=f"a run {EVIL}",
        warning="SYNTHETIC",
        command="python -m something --name='<x>'",
        summary=[("split", EVIL)],
        figures=[Figure(folder / "line.png", "A line", "It rises.")],
    )
    write_html(path, page, viewer_data(NAMES, labels, inspection, clips, compared))
    return path


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """A page, and the labels and inspection in it."""
    run = small_run()
    return write_page(tmp_path_factory.mktemp("page"), *run), *run[:2]


def test_a_clip_in_bytes_keeps_its_shape_without_absent_persons_and_frames():
    rng = np.random.default_rng(1)
    clip = rng.normal(size=(2, 90, V, 3)).astype(np.float32)
    clip[1] = 0
    clip[:, 70:] = 0  # padded
    packed = quantised(clip)
    assert (packed["persons"], packed["frames"]) == (1, 32)
    data = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(1, 32, V, 3)
    kept = clip[:1, np.linspace(0, 69, 32).round().astype(int)]
    low, side = kept.min((0, 1, 2)), np.ptp(kept, axis=(0, 1, 2)).max()
    np.testing.assert_allclose(data / 255 * side + low, kept, atol=side / 255)
    middle = (kept.min((0, 1, 2)) + kept.max((0, 1, 2))) / 2
    np.testing.assert_allclose(np.array(packed["centre"]) * side + low, middle, atol=side / 500)
    assert quantised(np.zeros((1, 5, V, 3), np.float32))["frames"] == 1


def test_viewer_data_has_top_classes_attention_and_the_place_in_the_stream():
    labels, inspection, clips = small_run()
    record = viewer_data(NAMES, labels, inspection, clips)
    json.dumps(record)
    assert record["left_out"] == 0
    for n, clip in enumerate(record["clips"]):
        assert clip["label"] == labels[n]
        assert inspection.order[clip["place"]] == n
        for when, p in (("static", inspection.static[n]), ("adapted", inspection.adapted[n])):
            assert [c for c, _ in clip[when]] == np.argsort(-p).tolist()
            np.testing.assert_allclose(
                [share for _, share in clip[when]], np.sort(p)[::-1], atol=1e-3
            )
        strength = np.frombuffer(base64.b64decode(clip["attention"]), np.uint8).reshape(8, -1)
        np.testing.assert_array_equal(strength.argmax(1), inspection.attention[n].argmax(1))
        assert (strength.min(1) == 0).all()
        assert (strength.max(1) == 255).all()
        extremes = np.stack([inspection.attention[n].min(1), inspection.attention[n].max(1)], 1)
        np.testing.assert_allclose(clip["range"], extremes * SEGMENTS * V, atol=0.01)


def test_a_thousand_long_clips_of_two_persons_stay_below_ten_megabytes(tmp_path):
    labels, inspection, clips = small_run(count=1001, frames=64)
    path = write_page(tmp_path, labels, inspection, clips)
    assert path.stat().st_size < 9e6  # a megabyte is left for the figures
    assert '"left_out":1,' in path.read_text("utf-8")


def test_nothing_is_fetched_and_names_stay_text(small_page):
    text = small_page[0].read_text("utf-8")
    assert EVIL not in text
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", text)
    assert "<!--" not in text.replace("<!doctype", "")  # every mark was replaced


def test_features_without_clips_have_a_page_too():
    labels, inspection, clips = small_run()
    record = viewer_data(NAMES, labels, inspection, clips._replace(joints=None, texts=None))
    assert all("data" not in clip for clip in record["clips"])


# In the browser -----------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, small_page):
    """The page, its labels and its inspection."""
    path, labels, inspection = small_page
    with open_page(browser, path) as page:
        yield page, labels, inspection


def test_it_plays_seeks_and_turns(opened):
    page, *_ = opened
    assert frame(page)[0] == "1 of 32"
    first = frame(page)
    page.click("#play")
    page.wait_for_function("document.getElementById('frame').textContent.startsWith('5 ')")
    page.click("#play")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    assert frame(page)[1] != first[1]
    page.fill("#seek", "20")
    assert frame(page)[0] == "21 of 32"
    before = frame(page)
    page.fill("#turn", "-90")
    assert frame(page)[1] != before[1]


def test_every_control_has_a_key(opened):
    page, *_ = opened
    title = page.inner_text("#clip-title")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#clip-title") != title
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#clip-title") == title
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert frame(page)[0] == "3 of 32"
    page.keyboard.press(" ")
    page.wait_for_function("document.getElementById('frame').textContent.startsWith('7 ')")
    page.keyboard.press(" ")
    plain = frame(page)
    page.keyboard.press("4")
    assert frame(page)[1] != plain[1]
    assert re.search(
        r"^Query: .*, torso\. Weakest .* times an even share", page.inner_text("#description")
    )
    page.focus("#by-class")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "by-outcome"


def test_it_filters_and_sorts(opened):
    page, labels, inspection = opened
    before, after = inspection.static.argmax(1), inspection.adapted.argmax(1)
    assert len(rows(page)) == len(labels)
    places = np.argsort(inspection.order)
    stream = [NAMES[labels[n]] for n in inspection.order]
    assert [row[0] for row in rows(page)] == stream
    for outcome, kept in {
        "changed": before != after,
        "fixed": (before != labels) & (after == labels),
        "broken": (before == labels) & (after != labels),
        "wrong": after != labels,
    }.items():
        page.select_option("#by-outcome", outcome)
        assert len(rows(page)) == kept.sum(), outcome
    page.select_option("#by-outcome", "")
    page.select_option("#by-class", "1")
    assert len(rows(page)) == (labels == 1).sum()
    page.select_option("#by-class", "")
    page.fill("#by-confidence", "60")
    confident = inspection.adapted.max(1).round(3) >= 0.6
    assert len(rows(page)) == confident.sum()
    assert page.inner_text("#count") == f"{confident.sum()} of {len(labels)} clips"
    page.fill("#by-confidence", "0")
    page.click("[data-sort=confidence]")
    page.click("[data-sort=confidence]")
    shown = [row[4] for row in rows(page)]
    order = sorted(
        range(len(labels)), key=lambda n: (-inspection.adapted[n].max().round(3), places[n])
    )
    assert shown == [f"{100 * inspection.adapted[n].max().round(3):.0f} %" for n in order]
    page.click("[data-sort=label]")
    assert [row[0] for row in rows(page)] == sorted(NAMES[y] for y in labels)


def test_no_clip_left_is_no_error(opened):
    page, *_ = opened
    page.fill("#by-confidence", "100")
    assert rows(page) == []
    assert page.inner_text("#clip-title") == "No clip"
    page.click("#play")
    page.keyboard.press("ArrowDown")


def test_it_fits_a_narrow_window_and_paper(opened):
    page, *_ = opened
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    assert (
        page.evaluate(wide.replace("document.documentElement", "document.querySelector('.list')"))
        <= 0
    )
    page.emulate_media(media="print")
    assert not page.is_visible("#clips")
    assert not page.is_visible("#play")
    assert page.is_visible("figure img")
    assert page.is_visible("#top-adapted")


def test_without_attention_there_is_no_choice_of_descriptions(browser, tmp_path):
    labels, inspection, clips = small_run()
    path = write_page(tmp_path, labels, inspection._replace(attention=None), clips)
    with open_page(browser, path) as page:
        assert not page.is_visible("#descriptions")
        assert not page.is_visible("#attention-hint")
        page.keyboard.press("3")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#description") == ""
        assert frame(page)[0] == "1 of 32"


CHANGES = ["changed by refinement"]
OF_LABELS = ["wrong, then right", "right, then wrong", "wrong after refinement"]


def test_what_needs_labels_is_hidden_without_them(browser, tmp_path):
    labels, inspection, clips = small_run()
    path = write_page(tmp_path, np.full_like(labels, -1), inspection, clips)
    before, after = inspection.static.argmax(1), inspection.adapted.argmax(1)
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "static", "refined", "changed", "confidence"]
        assert outcomes(page) == ["all", *CHANGES]
        order = inspection.order
        assert [row[0] for row in rows(page)] == [clips.ids[n] for n in order]
        assert [row[1:3] for row in rows(page)] == [
            [NAMES[before[n]], NAMES[after[n]]] for n in order
        ]
        assert page.locator(".hit, .miss, .true").count() == 0
        assert page.inner_text("#clip-title") == f"{clips.ids[order[0]]} (number 1)"
        page.select_option("#by-outcome", "changed")
        assert len(rows(page)) == (before != after).sum()
        page.select_option("#by-outcome", "")
        assert page.is_visible("text=predicted class")
        page.select_option("#by-class", "1")
        assert len(rows(page)) == (after == 1).sum()


def test_some_clips_may_have_labels(browser, tmp_path):
    labels, inspection, clips = small_run()
    labels[::3] = -1
    after = inspection.adapted.argmax(1)
    with open_page(browser, write_page(tmp_path, labels, inspection, clips)) as page:
        assert outcomes(page) == ["all", *CHANGES, *OF_LABELS]
        assert [row[0] for row in rows(page)] == [
            "" if labels[n] < 0 else NAMES[labels[n]] for n in inspection.order
        ]
        assert page.locator(".hit, .miss").count() == 2 * (labels >= 0).sum()
        page.select_option("#by-outcome", "wrong")
        assert len(rows(page)) == ((labels >= 0) & (after != labels)).sum()
        page.select_option("#by-outcome", "")
        page.click("[data-sort=label]")
        assert [row[0] for row in rows(page)] == sorted("" if y < 0 else NAMES[y] for y in labels)


def test_the_static_method_alone_is_not_compared_with_itself(browser, tmp_path):
    labels, inspection, clips = small_run()
    path = write_page(tmp_path, labels, inspection, clips, compared=False)
    wrong = inspection.static.argmax(1) != labels
    with open_page(browser, path) as page:
        assert heads(page) == ["class", "static", "confidence"]
        assert outcomes(page) == ["all", "wrong"]
        page.select_option("#by-outcome", "wrong")
        assert len(rows(page)) == wrong.sum()
        assert page.locator(".bars h4").all_inner_texts() == ["static"]
        page.select_option("#by-outcome", "")
        page.fill("#by-confidence", "60")
        assert len(rows(page)) == (inspection.static.max(1).round(3) >= 0.6).sum()
    path = write_page(tmp_path, np.full_like(labels, -1), inspection, clips, compared=False)
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "static", "confidence"]
        assert not page.is_visible("#by-outcome")
