"""Downloads that were changed on their way, and names that try to be more than names."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from data_pipelines.builders.kinect_v1 import UtdMhad
from data_pipelines.datasets import load_corpus
from data_pipelines.errors import DataError
from dynapurls_jax.evaluation.markdown import escaped
from dynapurls_jax.evaluation.report import RunResult, write_report
from dynapurls_jax.evaluation.streams import Streams
from dynapurls_jax.reproduction.pages import Cell, Page, markdown, readme_table
from tests.conftest import tiny_corpus
from tests.test_attacks import zeros_in_zip

PUBLISHED = UtdMhad.SHA256
EVIL = (
    "<script>alert(1)</script>",
    "a | b",
    "two\nlines",
    "[x](javascript:alert(1))",
    "\x1b[2J`x`",
)


@pytest.fixture
def site():
    """A web server that gives out `site.content`, whatever it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(self.server.content)

        def log_message(self, *args):
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def downloads(site, tmp_path, monkeypatch):
    """UTD-MHAD comes from that server, whose archive is what it should be."""
    site.content = zeros_in_zip(tmp_path / "x.zip", "a1_s1_t1_skeleton.mat", 0).read_bytes()
    monkeypatch.setattr(UtdMhad, "URL", f"http://127.0.0.1:{site.server_port}/Skeleton.zip")
    monkeypatch.setattr(UtdMhad, "SHA256", hashlib.sha256(site.content).hexdigest())
    for name in ("DYNAPURLS_CACHE", "DYNAPURLS_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return site


def test_a_download_that_was_changed_on_its_way_is_refused(downloads, tmp_path):
    good = downloads.content
    # Its own file is empty, which is found when it is read: so it was taken.
    with pytest.raises(DataError, match=r"not a readable \.mat"):
        load_corpus("utd_mhad")
    changed = bytearray(good)
    changed[10] ^= 1
    for content in (bytes(changed), good + b"\0", b"<html>Sign in to this network</html>", b""):
        downloads.content = content
        found = hashlib.sha256(content).hexdigest()
        message = rf"sha256 {UtdMhad.SHA256}, got {len(content)} with {found}: another file"
        with pytest.raises(DataError, match=message):
            load_corpus("utd_mhad")
    assert not list(tmp_path.rglob("*.array_record"))


def test_an_archive_that_was_put_there_by_hand_may_be_another(downloads, tmp_path):
    (tmp_path / "hand").mkdir()
    zeros_in_zip(tmp_path / "hand" / "Skeleton.zip", "again/a1_s1_t1_skeleton.mat", 0)
    with pytest.raises(DataError, match=r"again/a1_s1_t1_skeleton\.mat: not a readable \.mat"):
        load_corpus("utd_mhad", str(tmp_path / "hand"))


@pytest.mark.shared_data
def test_the_published_archive_is_taken_on_a_fresh_machine(
    downloads, monkeypatch, shared_data, tmp_path
):
    downloads.content = (shared_data / "utd_mhad" / "Skeleton.zip").read_bytes()
    monkeypatch.setattr(UtdMhad, "SHA256", PUBLISHED)
    assert len(downloads.content) == UtdMhad.BYTES
    assert len(load_corpus("utd_mhad")) == 861


def cells(line: str) -> int:
    """Of a row of a Markdown table."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_names_stay_text_in_reports(tmp_path):
    names = tuple(EVIL)
    labels = np.arange(len(names))
    same = labels[None]
    yes = np.ones(same.shape)
    streams = Streams(order=same, predicted=same, confidence=yes, admitted=yes, adapted=yes)
    methods = {"static": streams, "balanced": streams}
    results = [RunResult(split, 0, names, labels, methods, None, {}) for split in ("2_1", "|[<b>")]
    corpus = tiny_corpus(classes=2)
    text = write_report(tmp_path, results, corpus, "balanced", "label_free", "the command")
    oracle = [RunResult("|[<b>", 0, names, labels, {}, 0.5, {})]
    text += write_report(tmp_path, oracle, corpus, "balanced", "oracle_label", "the command")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [cells(line) for line in rows]
    for head, width in ((0, 10), (4, 4)):
        assert widths[head] == width
    assert set(widths) == {10, 4, 6}
    assert len(rows) == 4 + 2 + 2 * len(names) + 3
    assert not re.search(r"<script|<b>|\x1b|\n(lines|two$)|(?<!\\)\[x(?<!\\)\]", text)
    assert r"| &lt;script&gt;alert(1)&lt;/script&gt; |" in text
    assert r"| a \| b |" in text
    assert "| two lines |" in text
    assert r"\x1b" in text
    assert "(%7C%5B%3Cb%3E-seed0.html)" in text


def test_names_stay_text_in_tables_of_results():
    found = [Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("chance", "static")]
    found += [
        Cell("|<b>", "", column, 1.0, 0.0, [1.0], None) for column in ("balanced", "dynapurls")
    ]
    page = Page("3", "A table", "", "own", False, 1, ["abc"], ["cpu"], "the command", found)
    for text in (markdown(page), readme_table([page])):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({cells(row) for row in rows}) == 1
        assert r"\|&lt;b&gt;" in text


@pytest.mark.parametrize(
    "name", ["walk", "sit down (chair)", "pick_up", "55_5", "größer", "a, b-c"]
)
def test_ordinary_names_stay_as_they_are(name):
    assert escaped(name) == name


def test_an_error_cannot_steer_the_terminal():
    error = DataError("got \x1b]0;owned\x07 and \u202e", "a\x1b[2J.mat\r")
    assert str(error) == r"a\x1b[2J.mat\r: got \x1b]0;owned\x07 and \u202e"
    assert str(DataError("expected größer", "x\udcff.mat")) == r"x\udcff.mat: expected größer"
    str(DataError("", "\udcff")).encode()


def test_a_class_name_is_no_formula(tmp_path):
    import matplotlib.pyplot as plt

    figure = plt.figure()
    figure.suptitle(r"$\frac{$")
    figure.savefig(tmp_path / "x.png")  # an error, if it were read as one
    plt.close(figure)
    assert (tmp_path / "x.png").stat().st_size > 1000
