"""The restricted pickle loader: plain data is loaded, attacks are refused."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from data_pipelines.formats.pickles import load_pickle
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import DataError


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol):
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


def test_a_pickle_cannot_turn_bytes_into_pointers():
    """dtypes that declare objects, or fields far outside of their bytes."""
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
            with pytest.raises(DataError, match="which is not plain data"):
                load_pickle(pickle.dumps({"x": attack}), "x.pkl")


def test_other_functions_in_a_pickle_are_refused():
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


def test_the_restricted_loader_keeps_arrays():
    data = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1.5), (1, "x", b"y")], "c": {1, 2}}
    data |= {"d": np.asfortranarray(np.ones((2, 3), ">f8") * 2), "e": (np.array(["ab", "c"]),)}
    for protocol in range(6):
        back = load_pickle(pickle.dumps(data, protocol=protocol), "x.pkl")
        np.testing.assert_array_equal(back["a"], data["a"])
        np.testing.assert_array_equal(back["d"], data["d"])
        np.testing.assert_array_equal(back["e"][0], data["e"][0])
        assert back["b"] == data["b"]
        assert back["c"] == data["c"]


@pytest.mark.parametrize("make", [lambda x: (x, x), lambda x: [x, x], lambda x: {"a": x, "b": x}])
def test_endlessly_shared_parts_are_refused(make):
    laughs = make(1)
    for _ in range(60):
        laughs = make(laughs)
    with pytest.raises(DataError, match="shared parts repeat to more"):
        load_pickle(pickle.dumps(laughs), "x.pkl")


def test_shared_tuples_stay_shared():
    twice = (np.zeros(1), 1)
    for _ in range(6):
        twice = (twice, twice)
    found = load_pickle(pickle.dumps(twice), "x.pkl")
    assert found[0] is found[1]


def test_parts_shared_a_few_times_are_loaded():
    size = (1080, 1920)
    data = [{"img_shape": size, "keypoint": np.ones(3)} for _ in range(1000)]
    back = load_pickle(pickle.dumps((data, data)), "x.pkl")
    assert back[0][999]["img_shape"] == size
    np.testing.assert_array_equal(back[1][5]["keypoint"], np.ones(3))
    assert back[0] is back[1]


NESTED = b"K\x01" + b"2\x86" * 200  # a tuple of itself twice, of itself twice, ...
GLOBAL = b"c_codecs\nencode\n"
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"}" + NESTED + b"K\x01s.", "a key, or an element of a set, that is a .*tuple"),
        (b"}(" + NESTED + b"K\x01u.", "a key, or an element of a set, that is a .*tuple"),
        (b"(" + NESTED + b"K\x01d.", "a key, or an element of a set, that is a .*tuple"),
        (b"\x8f(" + NESTED + b"\x90.", "a key, or an element of a set, that is a .*tuple"),
        (b"(" + NESTED + b"\x91.", "a key, or an element of a set, that is a .*tuple"),
        (b"cbuiltins\nset\n](" + NESTED + b"e\x85R.", "an element of a set, that is a .*tuple"),
        (DTYPE + NESTED + b"\x85R.", "a dtype that is named by a .*tuple"),
        (GLOBAL + NESTED + b"K\x01\x86R.", "bytes that are not written as latin1"),
        (b"cbuiltins\nbytearray\n" + b"\x8a\x06\0\0\0\0\0\x01\x85R.", "without its bytes"),
        (GLOBAL + b"N}X\x04\0\0\0evilK\x01s\x86b.", "it sets the state of a .*function"),
        (b"](h\0e.", "not a pickle of plain data"),
        (b"]\x94h\0a.", "a part of itself"),
    ],
)
def test_pickles_that_hang_or_change_program_state_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        load_pickle(b"\x80\x04" + content, "x.pkl")


def test_a_pickle_allocates_no_more_than_its_bytes():
    empty = np.zeros((0, 3))
    vast = pickle.dumps(empty).replace(b"K\x00K\x03\x86", b"K\x00\x8a\x06" + bytes(5) + b"\x01\x86")
    tracemalloc.start()
    assert load_pickle(b"\x80\x02Nr" + struct.pack("<I", 2**31) + b".", "x.pkl") is None
    with pytest.raises(DataError, match="an array of shape"):
        load_pickle(vast, "x.pkl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert load_pickle(pickle.dumps(empty), "x.pkl").shape == (0, 3)
