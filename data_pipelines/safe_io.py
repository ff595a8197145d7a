"""Unpacking with limits, against decompression bombs.

Packed data declares its unpacked size. The declared size is checked before unpacking, and unpacking
stops at it. docs/security.md has the limits and their tests.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_pipelines.errors import DataError

LARGEST = 2**28  # bytes of one recording; an hour of PKU-MMD's text has 2 * 10^8
HARMLESS = 2**24  # bytes below which any expansion is allowed; real recordings have 3.5 * 10^5
# Compression ratios: recordings up to 3, clips padded with zeros up to 5, bombs about 1000.
MOST_EXPANSION = 200
_PARTS_PER_BYTE = 10
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_claim(
    claimed: int, packed: int, where: object, largest: int = LARGEST, harmless: int = HARMLESS
) -> None:
    """Refuses packed data whose declared unpacked size is too large.

    Args:
      claimed: declared size when unpacked, bytes.
      packed: packed size, bytes.
      where: name for the error message.
      largest: maximum unpacked size, bytes.
      harmless: unpacked size below which the expansion is not checked, bytes.

    Raises:
      DataError: `claimed` exceeds `largest`, or `MOST_EXPANSION` times the packed size.
    """
    if claimed > largest:
        reason = f"expected at most {largest} bytes when unpacked, it claims to have {claimed}"
        raise DataError(reason, where)
    if claimed > max(harmless, MOST_EXPANSION * packed):
        raise DataError(
            f"{packed} bytes that claim to unpack to {claimed}, more than {MOST_EXPANSION} times "
            "as many: it may be a decompression bomb",
            where,
        )


@contextmanager
def opened_member(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    where: object,
    largest: int = LARGEST,
    harmless: int = HARMLESS,
) -> Iterator[IO[bytes]]:
    """Opens a member of a zip; the caller must read with sizes, to which `zipfile` keeps.

    Raises:
      DataError: it is a bomb, damaged, or packed by a method that cannot be unpacked in steps.
    """
    if info.compress_type not in _METHODS:
        reason = f"packed by method {info.compress_type}: expected deflated or stored; repack it"
        raise DataError(reason, where)
    if info.header_offset + info.compress_size > archive.start_dir:  # where the directory begins
        raise DataError("damaged in its zip archive (it would end after the archive)", where)
    check_claim(info.file_size, info.compress_size, where, largest, harmless)
    try:
        with archive.open(info) as member:
            yield member
    except DataError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"damaged in its zip archive ({error})", where) from error
    except Exception as error:  # zlib.error among others
        raise DataError(f"cannot be unpacked ({error})", where) from error


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: object) -> bytes:
    """The bytes of a member, at most its declared size.

    Raises:
      DataError: see `opened_member`.
    """
    with opened_member(archive, info, where) as member:
        content = member.read(info.file_size)
    if len(content) < info.file_size:
        raise DataError(f"expected {info.file_size} bytes, got {len(content)}", where)
    return content


def unpacked_copy(file: Path) -> io.BytesIO:
    """An uncompressed copy of a zip, for readers without limits of their own.

    Raises:
      DataError: a member is a bomb, or all members together are.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(copy, "w") as plain:
        members = {info.filename: info for info in archive.infolist()}
        check_claim(sum(info.file_size for info in members.values()), file.stat().st_size, file)
        for name, info in members.items():
            plain.writestr(name, read_member(archive, info, f"{file}, {name}"))
    copy.seek(0)
    return copy


def check_parts(loaded: Any, size: int) -> None:
    """Refuses nested containers that expand a few shared parts to very many ("billion laughs").

    Printing or comparing such containers visits a shared part each time it occurs.

    Args:
      loaded: nested dicts, lists, tuples and sets, with any leaves.
      size: size of their file, bytes.

    Raises:
      ValueError: there are more than `10 * size` parts, where a shared part counts each time it
        occurs, or a container contains itself.
    """
    most = _PARTS_PER_BYTE * (size + 1)
    counts: dict[int, int] = {}  # by id; 0 while a container is being counted

    def count(item: Any) -> int:
        if not isinstance(item, dict | list | tuple | set | frozenset):
            return 1
        found = counts.get(id(item))
        if found == 0:
            raise ValueError("a list or a dict that is a part of itself")
        if found is None:
            counts[id(item)] = 0
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            found = counts[id(item)] = 1 + sum(map(count, parts))
            if found > most:
                raise ValueError(f"expected at most {most} parts, shared parts repeat to more")
        return found

    count(loaded)
