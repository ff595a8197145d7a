"""Downloads: the published archive is accepted, a changed one is refused."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.builders.utd_mhad import UtdMhad
from data_pipelines.errors import DataError
from tests.conftest import ROOT
from tests.helpers.attacks import zeros_in_zip
from tests.helpers.raw_files import load

PUBLISHED = UtdMhad.SHA256


@pytest.fixture
def site():
    """A web server that serves `site.content` at every path."""

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
    """UTD-MHAD comes from that server, which has no https, with an archive of the right hash."""
    site.content = zeros_in_zip(tmp_path / "x.zip", "a1_s1_t1_skeleton.mat", 0).read_bytes()
    monkeypatch.setattr(UtdMhad, "URL", f"http://127.0.0.1:{site.server_port}/Skeleton.zip")
    monkeypatch.setattr(UtdMhad, "SHA256", hashlib.sha256(site.content).hexdigest())
    for name in ("DYNAPURLS_CACHE", "DYNAPURLS_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return site


def test_a_changed_download_is_refused(downloads, tmp_path, monkeypatch):
    good = downloads.content
    # The download is accepted: the error is that of its empty file.
    with pytest.raises(DataError, match=r"not a readable \.mat"):
        load("utd_mhad")
    changed = bytearray(good)
    changed[10] ^= 1
    for content in (bytes(changed), b"<html>Sign in to this network</html>", b""):
        downloads.content = content
        message = rf"sha256 {UtdMhad.SHA256}, got {len(content)} others: another file"
        with pytest.raises(DataError, match=message):
            load("utd_mhad")
    monkeypatch.setattr(UtdMhad, "BYTES", 10)
    downloads.content = bytes(2**24)
    with pytest.raises(DataError, match=f"the 10 bytes .* got {2**18} others"):
        load("utd_mhad")
    assert not list(tmp_path.rglob("*.array_record"))


def test_without_a_network_the_error_comes_at_once(tmp_path, monkeypatch, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(UtdMhad, "URL", f"https://127.0.0.1:{port}/Skeleton.zip")
    for name in ("DYNAPURLS_CACHE", "DYNAPURLS_DATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    before = time.monotonic()
    with pytest.raises(
        FileNotFoundError, match=r"(?s)could not be downloaded .* put Skeleton.zip into"
    ):
        load("utd_mhad")
    assert time.monotonic() - before < 30
    assert "Skeleton.zip, 15 MB" in capsys.readouterr().err


def test_an_archive_in_manual_dir_may_be_another(downloads, tmp_path):
    (tmp_path / "hand").mkdir()
    zeros_in_zip(tmp_path / "hand" / "Skeleton.zip", "again/a1_s1_t1_skeleton.mat", 0)
    with pytest.raises(DataError, match=r"again/a1_s1_t1_skeleton\.mat: not a readable \.mat"):
        load("utd_mhad", tmp_path / "hand")


STALLED = """
import pathlib, sys
from data_pipelines import download
from dynapurls_jax.training.signals import Stopped, stop_on_signals

stop_on_signals()
try:
    download.download(sys.argv[1], pathlib.Path("x/archive.zip"), 9, "")
except Stopped as stopped:
    sys.exit(stopped.status)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_download_that_stalls_ends_at_a_signal(kind, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/archive.zip"
        call = [sys.executable, "-c", STALLED, url]
        process = subprocess.Popen(call, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head + b"1234")
            time.sleep(0.2)
            process.send_signal(kind)
            assert process.wait(timeout=5) == 128 + kind
    assert not list((tmp_path / "x").glob("*"))


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_published_archive_is_accepted(downloads, monkeypatch, shared_data, tmp_path):
    downloads.content = (shared_data / "utd_mhad" / "Skeleton.zip").read_bytes()
    monkeypatch.setattr(UtdMhad, "SHA256", PUBLISHED)
    assert len(downloads.content) == UtdMhad.BYTES
    assert len(load("utd_mhad")) == 861
