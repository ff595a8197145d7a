"""Fixtures of data pipelines."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache for one test, in `tmp_path`."""
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
