"""Pickles of plain data are loaded, others are refused before anything of theirs is executed."""

import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import untrusted
from data_pipelines.errors import DataError


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def load(tmp_path):
    """Loads the bytes of a pickle."""

    def load(content):
        (tmp_path / "x.pkl").write_bytes(content)
        return untrusted.load_pickle(tmp_path / "x.pkl")

    return load


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_not_executed(load, tmp_path, protocol):
    mark = tmp_path / "hacked"
    attack = {"split": {}, "annotations": [{"frame_dir": Attack(f"touch {mark}")}]}
    with pytest.raises(DataError, match=r"x\.pkl: not a readable pickle .*\.system.*malicious"):
        load(pickle.dumps(attack, protocol=protocol))
    assert not mark.exists()


def _reduced(function, *arguments, state=None):
    class Reduced:
        def __reduce__(self):
            return (function, arguments) if state is None else (function, arguments, state)

    return Reduced()


def test_a_pickle_cannot_turn_bytes_into_pointers(load):
    """dtypes that declare objects, or fields far outside of their bytes."""
    multiarray = np._core.multiarray
    objects = _reduced(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))
    far = (3, "|", None, ("a",), {"a": (np.dtype("u8"), 10**12)}, 8, 1, 16)
    fields = _reduced(np.dtype, "V8", False, True, state=far)
    late = _reduced(np.dtype, "u8", False, True, state=(3, "<", None, ("a",), far[4], 8, 1, 63))
    for dtype in (objects, fields):
        array = (1, (1,), dtype, False, b"A" * 8)
        for attack in (
            _reduced(multiarray.scalar, dtype, b"A" * 8),
            _reduced(multiarray._reconstruct, np.ndarray, (0,), b"b", state=array),
        ):
            with pytest.raises(DataError, match="that is not plain data"):
                load(pickle.dumps({"x": attack}))
    # Of the state of a dtype, only its byte order is used.
    assert load(pickle.dumps(_reduced(multiarray.scalar, late, b"A" * 8))) == 0x4141414141414141
    for shape in ((2,), (-1,), (2**62, 4)):
        array = (1, shape, np.dtype("u8"), False, b"A" * 8)
        attack = _reduced(multiarray._reconstruct, np.ndarray, (0,), b"b", state=array)
        with pytest.raises(DataError, match="not a readable pickle"):
            load(pickle.dumps(attack))


def test_other_functions_in_a_pickle_are_refused(load):
    for text in (
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"c_codecs\nopen\n.",
        b"cdata_pipelines.untrusted\npickle.loads\n.",
        b"\x80\x04\x8c\x06pickle\x8c\x05loads\x93.",
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # makes an object without its constructor
    ):
        with pytest.raises(DataError, match="not a readable pickle of plain data"):
            load(text)


def test_a_pickle_cannot_change_the_program(load):
    """A pickle may set attributes of the functions that it gets."""
    for state in (b"}X\x08\0\0\0__code__Ns", b"N}X\x0c\0\0\0__defaults__K\x01\x85s\x86"):
        try:
            load(b"\x80\x04c_codecs\nencode\n" + state + b"b0N.")
        except DataError:
            continue
    assert untrusted._ALLOWED["_codecs", "encode"].__defaults__ is None
    assert load(pickle.dumps(b"abc", protocol=2)) == b"abc"


@given(
    protocol=st.integers(0, 5),
    damages=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_pickle_is_an_error_or_loads_and_changes_nothing(
    tmp_path_factory, protocol, damages
):
    """No other error; the table of what a pickle may use stays as it was."""
    data = {"a": np.arange(3.0), "b": [np.float32(1.5), b"x", {2}]}
    content = bytearray(pickle.dumps(data, protocol=protocol))
    for place, value in damages:
        content[place % len(content)] = value
    file = tmp_path_factory.getbasetemp() / "damaged.pkl"
    file.write_bytes(content)
    before = dict(untrusted._ALLOWED)
    with suppress(DataError):  # any other error fails
        untrusted.load_pickle(file)
    assert before == untrusted._ALLOWED
    assert all(getattr(made, "__defaults__", None) is None for made in before.values())


def test_the_restricted_loader_keeps_arrays(load):
    data = {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1.5), (1, "x", b"y")], "c": {1, 2}}
    data |= {"d": np.asfortranarray(np.ones((2, 3), ">f8") * 2), "e": (np.array(["ab", "c"]),)}
    data |= {"f": np.zeros((0, 3))}
    data["again"] = data["a"]
    for protocol in range(6):
        back = load(pickle.dumps(data, protocol=protocol))
        np.testing.assert_array_equal(back["a"], data["a"])
        np.testing.assert_array_equal(back["d"], data["d"])
        np.testing.assert_array_equal(back["e"][0], data["e"][0])
        assert back["b"] == data["b"]
        assert back["c"] == data["c"]
        assert back["f"].shape == (0, 3)
        assert back["again"] is back["a"]


def test_strings_of_python_2_are_read(load):
    """An array of Python 2: its bytes are text, and its modules have other names."""
    text = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    text += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\xe9A'\ntb."
    np.testing.assert_array_equal(load(text), [0xE9, 0x41])
