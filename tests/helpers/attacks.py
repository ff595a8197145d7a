"""Malicious files: code in pickles, headers with false sizes, zip bombs."""

import io
import os
import zipfile

import numpy as np

CENTRAL = b"PK\x01\x02"  # start of a zip's directory entry


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        """Stores the path of the folder."""
        self.mark = mark

    def __reduce__(self):
        """The code that unpickling would run."""
        return os.mkdir, (str(self.mark),)


def npy(array) -> bytes:
    """The bytes written by `numpy.save`."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def claim(shape, kind="<f4") -> bytes:
    """The header of an array, without the array."""
    buffer = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def npz(file, method=zipfile.ZIP_STORED, **members):
    """An npz of members with arbitrary content."""
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file


def zeros_in_zip(file, name, mebibytes, beginning=b"", others=None):
    """A zip with a member of zeros, written in steps of one MiB."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(name, "w") as member:
            member.write(beginning)
            for _ in range(mebibytes):
                member.write(bytes(2**20))
        for other, content in (others or {}).items():
            archive.writestr(other, content)
    return file


def with_false_sizes(file, claimed, crc=None):
    """Changes the declared size of the first member; returns the file."""
    content = bytearray(file.read_bytes())
    at = content.index(CENTRAL)
    content[at + 24 : at + 28] = claimed.to_bytes(4, "little")
    if crc is not None:
        content[at + 16 : at + 20] = crc.to_bytes(4, "little")
    file.write_bytes(content)
    return file
