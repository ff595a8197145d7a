"""A run's page in a browser."""

import re

import numpy as np
import pytest

from tests.helpers.browser import frame, heads, open_page, outcomes, rows, show
from tests.helpers.pages import NAMES, SEGMENTS, V, small_run, write_page


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """A page, its labels and its inspection."""
    run = small_run()
    return write_page(tmp_path_factory.mktemp("page"), *run), *run[:2]


@pytest.fixture
def opened(browser, small_page):
    """The page, its labels and its inspection."""
    path, labels, inspection = small_page
    with open_page(browser, path) as page:
        yield page, labels, inspection


def test_the_player_plays_seeks_and_turns(opened):
    page, *_ = opened
    assert frame(page)[0] == "1 of 40"
    first = frame(page)
    page.click("#play")
    page.wait_for_function("document.getElementById('frame').textContent.startsWith('5 ')")
    page.click("#play")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    assert frame(page)[1] != first[1]
    page.fill("#seek", "20")
    assert frame(page)[0] == "21 of 40"
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
    assert frame(page)[0] == "3 of 40"
    page.keyboard.press(" ")
    page.wait_for_function("document.getElementById('frame').textContent.startsWith('7 ')")
    page.keyboard.press(" ")
    plain = frame(page)
    page.keyboard.press("4")
    assert frame(page)[1] != plain[1]
    assert re.search(r" times .* Query: “.*, torso”$", page.inner_text("#description"))
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    assert page.inner_text("#clip-title") == title
    page.focus("#play")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "seek"


def test_the_first_clip_has_a_changed_prediction_and_plays(browser, small_page):
    path, labels, inspection = small_page
    before, after = inspection.static.argmax(1), inspection.adapted.argmax(1)
    first = next(n for n in inspection.order if before[n] != after[n])
    with open_page(browser, path, motion="no-preference") as page:
        assert page.inner_text("#play") == "Pause"
        page.wait_for_function("document.getElementById('frame').textContent.startsWith('5 ')")
        assert page.inner_text("#truth b") == NAMES[labels[first]]
        for id, answers, p in (
            ("before", before, inspection.static),
            ("after", after, inspection.adapted),
        ):
            assert page.inner_text(f"#{id} b") == NAMES[answers[first]]
            assert page.inner_text(f"#{id} i") == f"confidence {100 * p[first].max():.0f} %"
            right = answers[first] == labels[first]
            assert page.locator(f"#{id}.{'hit' if right else 'miss'}").count() == 1
        assert page.inner_text("#change").startswith("Refinement changed the prediction")


def test_a_click_on_the_strip_chooses_its_clip(opened):
    page, labels, _ = opened
    show(page, "changed")
    width = page.locator("#strip").bounding_box()["width"]
    for place in (len(labels) - 1, 0):
        x = (place + 0.5) / len(labels) * width
        page.click("#strip", position={"x": x, "y": 10})
        assert page.inner_text("#clip-title").startswith(f"Clip {place + 1} of {len(labels)}: ")
    page.click("#next")
    assert page.inner_text("#clip-title").startswith("Clip 2 of ")


def test_the_policy_blocks_other_scripts(browser, small_page):
    page, messages = browser.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(small_page[0].as_uri())
    assert page.inner_text("#clip-title").startswith("Clip ")
    assert page.evaluate("getComputedStyle(document.querySelector('.columns')).display") == "grid"
    assert messages == []
    blocked = page.evaluate(
        """() => new Promise((done) => {
          document.addEventListener("securitypolicyviolation", (event) => done(event.blockedURI));
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
        })"""
    )
    assert blocked == "inline"
    assert page.evaluate("window.hacked") is None
    page.close()


def test_the_list_is_filtered_and_sorted(opened):
    page, labels, inspection = opened
    before, after = inspection.static.argmax(1), inspection.adapted.argmax(1)
    assert len(rows(page)) == len(labels)
    places = np.argsort(inspection.order)
    stream = [NAMES[labels[n]] for n in inspection.order]
    assert [row[1] for row in rows(page)] == stream
    for outcome, kept in {
        "changed": before != after,
        "fixed": (before != labels) & (after == labels),
        "broken": (before == labels) & (after != labels),
        "wrong": after != labels,
    }.items():
        show(page, outcome)
        assert len(rows(page)) == kept.sum(), outcome
    show(page, "all")
    page.select_option("#by-class", "1")
    assert len(rows(page)) == (labels == 1).sum()
    page.select_option("#by-class", "")
    assert page.inner_text("#count") == f"{len(labels)} of {len(labels)} clips"
    page.click("[data-sort=confidence]")
    page.click("[data-sort=confidence]")
    shown = [row[4] for row in rows(page)]
    order = sorted(
        range(len(labels)), key=lambda n: (-inspection.adapted[n].max().round(3), places[n])
    )
    assert shown == [f"{100 * inspection.adapted[n].max().round(3):.0f} %" for n in order]
    page.click("[data-sort=label]")
    assert [row[1] for row in rows(page)] == sorted(NAMES[y] for y in labels)


def test_an_empty_list_is_no_error(opened):
    page, *_ = opened
    show(page, "broken")
    kept = {row[1] for row in rows(page)}
    page.select_option(
        "#by-class", str(next(n for n, name in enumerate(NAMES) if name not in kept))
    )
    assert rows(page) == []
    assert page.inner_text("#clip-title") == "No clip"
    page.click("#play")
    page.keyboard.press("ArrowDown")


@pytest.mark.parametrize("width", [1320, 900, 390])
def test_the_page_fits_every_width(browser, small_page, width):
    wide = "(box) => box.scrollWidth - box.clientWidth"
    with open_page(browser, small_page[0], width) as page:
        for box in ("html", ".list", ".player", "#verdict"):
            assert page.eval_on_selector(box, wide) <= 0, box
        shown = page.locator("#skeleton").bounding_box()
        assert shown["width"] >= 300
        assert shown["height"] >= 300


def test_the_page_can_be_printed(opened):
    page, *_ = opened
    page.emulate_media(media="print")
    assert not page.is_visible("#clips")
    assert not page.is_visible("#play")
    assert page.is_visible("figure img")
    assert page.is_visible("#answers")


@pytest.mark.parametrize("even", [True, False])
def test_uniform_or_missing_attention_is_not_shown(browser, tmp_path, even):
    labels, inspection, clips = small_run()
    attention = np.full_like(inspection.attention, 1 / (SEGMENTS * V)) if even else None
    path = write_page(tmp_path, labels, inspection._replace(attention=attention), clips)
    with open_page(browser, path) as page:
        assert not page.is_visible("#descriptions")
        page.keyboard.press("3")
        page.keyboard.press("ArrowDown")
        assert page.inner_text("#description") == ""
        assert frame(page)[0] == "1 of 40"


CHANGES = ["prediction changed"]
OF_LABELS = ["wrong, then right", "right, then wrong", "wrong after refinement"]


def test_parts_that_need_labels_are_hidden_without_labels(browser, tmp_path):
    labels, inspection, clips = small_run()
    path = write_page(tmp_path, np.full_like(labels, -1), inspection, clips)
    before, after = inspection.static.argmax(1), inspection.adapted.argmax(1)
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "name", "before", "after", "confidence"]
        assert outcomes(page) == ["all", *CHANGES]
        order = inspection.order
        assert [row[1] for row in rows(page)] == [clips.ids[n] for n in order]
        assert [row[2:4] for row in rows(page)] == [
            [NAMES[before[n]], NAMES[after[n]]] for n in order
        ]
        assert page.locator(".hit, .miss, .true").count() == 0
        assert not page.is_visible("#truth")
        first = next(place for place, n in enumerate(order) if before[n] != after[n])
        title = f"Clip {first + 1} of 12: {clips.ids[order[first]]}"
        assert page.inner_text("#clip-title") == title
        show(page, "changed")
        assert len(rows(page)) == (before != after).sum()
        show(page, "all")
        assert page.is_visible("text=predicted action")
        page.select_option("#by-class", "1")
        assert len(rows(page)) == (after == 1).sum()


def test_some_clips_may_have_labels(browser, tmp_path):
    labels, inspection, clips = small_run()
    labels[::3] = -1
    after = inspection.adapted.argmax(1)
    with open_page(browser, write_page(tmp_path, labels, inspection, clips)) as page:
        assert outcomes(page) == ["all", *CHANGES, *OF_LABELS]
        assert [row[1] for row in rows(page)] == [
            "" if labels[n] < 0 else NAMES[labels[n]] for n in inspection.order
        ]
        assert page.locator("td.hit, td.miss").count() == 2 * (labels >= 0).sum()
        show(page, "wrong")
        assert len(rows(page)) == ((labels >= 0) & (after != labels)).sum()
        show(page, "all")
        page.click("[data-sort=label]")
        assert [row[1] for row in rows(page)] == sorted("" if y < 0 else NAMES[y] for y in labels)


def test_the_static_method_alone_is_not_compared_with_itself(browser, tmp_path):
    labels, inspection, clips = small_run()
    path = write_page(tmp_path, labels, inspection, clips, compared=False)
    wrong = inspection.static.argmax(1) != labels
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "true action", "prediction", "confidence"]
        assert outcomes(page) == ["all", "wrong"]
        show(page, "wrong")
        assert len(rows(page)) == wrong.sum()
        assert not page.is_visible("#after")
        assert "refine" not in page.inner_text("main")
    path = write_page(tmp_path, np.full_like(labels, -1), inspection, clips, compared=False)
    with open_page(browser, path) as page:
        assert heads(page) == ["clip", "name", "prediction", "confidence"]
        assert not page.is_visible("#outcomes")
        assert not page.is_visible("#strip")
