"""Fixtures for tests of data pipelines."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Cache folder of a single test."""
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
