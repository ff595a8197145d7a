"""Opens pages in a real browser."""

import os
import shutil
from contextlib import contextmanager

import pytest


def browser_path() -> str | None:
    """Path of Chromium or Chrome, if installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = (shutil.which(name) for name in names)
    return os.environ.get("CHROMIUM") or next(filter(None, found), None)


@contextmanager
def launched():
    """Headless Chromium; without one the test is skipped, or fails with CI=true."""
    path = browser_path()
    if path is None:
        reason = "no browser: install chromium, or set CHROMIUM to its path"
        if os.environ.get("CI"):
            raise FileNotFoundError(reason)
        pytest.skip(reason)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def open_page(browser, path, width=900, motion="reduce"):
    """Opens a page without automatic playback; checks at the end for errors and requests."""
    page = browser.new_page(
        viewport={"width": width, "height": 800},
        reduced_motion=motion,
        bypass_csp=True,  # needed to wait for conditions
    )
    page.set_default_timeout(10_000)
    messages, urls = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert messages == []
    assert all(url.startswith(("file:", "data:")) for url in urls)
    assert page.evaluate("window.hacked") is None
    page.close()


def frame(page):
    """The number and the image of the displayed frame."""
    return page.inner_text("#frame"), page.evaluate(
        "document.getElementById('skeleton').toDataURL()"
    )


def heads(page):
    """Column titles of the list."""
    return page.eval_on_selector_all("#clips th", "all => all.map(head => head.textContent)")


def rows(page):
    """Cells of each row of the list."""
    return page.eval_on_selector_all(
        "#clips tbody tr", "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )


def outcomes(page):
    """The choices of the filter by outcome, without their counts."""
    buttons = "all => all.map(button => button.textContent.replace(/ [(].*/, ''))"
    return page.eval_on_selector_all("#outcomes button", buttons)


def show(page, outcome):
    """Chooses an outcome."""
    page.click(f"#outcomes button[value={outcome}]")
