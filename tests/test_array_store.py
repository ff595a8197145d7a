"""Stores of arrays: whole or not at all, of one origin, gone on with after an interruption."""

import numpy as np
import pytest

from data_pipelines.array_store import StaleStoreError, open_or_make, open_store


def test_a_store_is_made_once_and_never_of_another_origin(tmp_path, capsys):
    tokens = np.random.default_rng(0).normal(size=(5, 3, 2, 4)).astype(np.float16)
    origin = {"checkpoint": "abc", "config": {"width": 8}}
    store, asked = tmp_path / "store", []

    def chunks(first):
        asked.append(first)
        return [tokens[first:3], tokens[3:]]

    def make(origin=origin, shape=tokens.shape, chunks=chunks):
        return open_or_make(store, origin, shape, np.float16, chunks)

    np.testing.assert_array_equal(make(), tokens)
    np.testing.assert_array_equal(make(), tokens)
    assert asked == [0]  # the second call only opened it
    other = origin | {"checkpoint": "new"}
    with pytest.raises(StaleStoreError, match="checkpoint is 'new' now, was 'abc'"):
        open_store(store, other)
    with pytest.raises(StaleStoreError, match="width"):
        open_store(store, origin | {"config": {"width": 16}})
    with pytest.raises(ValueError, match="expected 6 rows, got 5"):
        make(other, (6, 3, 2, 4), lambda first: [tokens[first:]])
    with pytest.raises(ValueError, match=r"rows of \[5, 3, 2, 4\], got \[5, 3, 2, 3\] at 0"):
        make(other, chunks=lambda first: [tokens[..., :3]])
    np.testing.assert_array_equal(make(), tokens)  # a failed write leaves the one before
    make(other)
    assert "checkpoint is 'new' now, was 'abc'; making it again" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "store.lock"]
    with pytest.raises(FileNotFoundError, match="no complete store"):
        open_store(tmp_path / "other", origin)


def test_an_interrupted_store_is_gone_on_with(tmp_path):
    rows, asked = np.arange(10, dtype=np.float32)[:, None], []

    def chunks(first, stop=10):
        asked.append(first)
        for start in range(first, 10, 2):
            if start >= stop:
                raise KeyboardInterrupt
            yield rows[start : start + 2]

    def make(version, chunks=chunks):
        return open_or_make(tmp_path / "store", {"version": version}, (10, 1), np.float32, chunks)

    for stop in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            make(1, lambda first, stop=stop: chunks(first, stop))
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store", {"version": 1})
    np.testing.assert_array_equal(make(1), rows)
    assert asked == [0, 4, 8]
    with pytest.raises(KeyboardInterrupt):
        make(2, lambda first: chunks(first, 4))
    make(3)  # what was begun of another array is no part of this one
    assert asked[3:] == [0, 0]
