"""Pickles that hold data and nothing else: any other is refused before a line of it runs."""

import io
import pickle
from typing import Any

from data_pipelines.errors import DataError

# What arrays and plain containers are made of. None of these runs what the file says.
_ALLOWED = {
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which data has no use for; it may be malicious"
            )
        return super().find_class(module, name)


def load_pickle(content: bytes, file: object) -> Any:
    """Unpickles plain containers, strings, numbers and numpy arrays.

    Raises:
      DataError: the pickle is damaged, or asks for anything else; nothing of it was executed.
    """
    try:
        # Python 2 wrote many of these files; its strings are bytes to Python 3.
        return _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(f"not a pickle of plain data ({error})", file) from error
