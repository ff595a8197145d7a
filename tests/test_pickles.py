"""The restricted pickle loader: data comes through, attacks do not."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.formats.pickles import load_pickle


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, protocol):
    mark = tmp_path / "hacked"
    attack = {"split": {}, "annotations": [{"frame_dir": Attack(f"touch {mark}")}]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(attack, protocol=protocol))
    with pytest.raises(DataError, match=r"x\.pkl: not a pickle .*\.system.*malicious"):
        load_pickle((tmp_path / "x.pkl").read_bytes(), tmp_path / "x.pkl")
    assert not mark.exists()


def _reduced(function, *arguments, state=None):
    class Reduced:
        def __reduce__(self):
            return (function, arguments) if state is None else (function, arguments, state)

    return Reduced()


def test_a_pickle_cannot_make_bytes_into_pointers():
    """dtypes that claim to hold objects, or fields far outside of their bytes."""
    multiarray = np._core.multiarray
    objects = _reduced(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))
    far = (3, "|", None, ("a",), {"a": (np.dtype("u8"), 10**12)}, 8, 1, 16)
    fields = _reduced(np.dtype, "V8", False, True, state=far)
    for dtype in (objects, fields):
        array = (1, (1,), dtype, False, b"A" * 8)
        for attack in (
            _reduced(multiarray.scalar, dtype, b"A" * 8),
            _reduced(multiarray._reconstruct, np.ndarray, (0,), b"b", state=array),
        ):
            with pytest.raises(DataError, match="which is no plain data"):
                load_pickle(pickle.dumps({"x": attack}), "x.pkl")


def test_other_ways_out_of_a_pickle_are_closed():
    for text in (
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"c_codecs\nopen\n.",
        b"cdata_pipelines.formats.pickles\npickle.loads\n.",
    ):
        with pytest.raises(DataError, match="not a pickle of plain data"):
            load_pickle(text, "x.pkl")


@given(st.binary(max_size=100))
def test_junk_pickles_are_errors_or_plain_data(junk):
    try:
        got = load_pickle(junk, "x.pkl")
    except DataError:
        return
    assert not callable(got)


def test_arrays_survive_the_restricted_loader():
    data = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1.5), (1, "x", b"y")], "c": {1, 2}}
    data |= {"d": np.asfortranarray(np.ones((2, 3), ">f8") * 2), "e": (np.array(["ab", "c"]),)}
    for protocol in range(6):
        back = load_pickle(pickle.dumps(data, protocol=protocol), "x.pkl")
        np.testing.assert_array_equal(back["a"], data["a"])
        np.testing.assert_array_equal(back["d"], data["d"])
        np.testing.assert_array_equal(back["e"][0], data["e"][0])
        assert back["b"] == data["b"]
        assert back["c"] == data["c"]
