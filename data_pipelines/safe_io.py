"""Bombs: few bytes that become very many when they are unpacked.

Whatever is packed says how large it will be. That claim is judged before anything is unpacked, and
nothing is unpacked beyond it. docs/security.md has the limits and where they are tested.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data_pipelines.errors import DataError

LARGEST = 2**28  # bytes of one recording; an hour of PKU-MMD's text has 2 * 10^8
HARMLESS = 2**24  # bytes that may come from anywhere; the recordings at hand have 3.5 * 10^5
# Recordings shrink to a third at best, clips padded with zeros to a fifth, but a bomb to a
# thousandth.
MOST_EXPANSION = 200
_PARTS_A_BYTE = 10
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_claim(
    claimed: int, packed: int, where: object, largest: int = LARGEST, harmless: int = HARMLESS
) -> None:
    """Refuses what would become too large.

    Args:
      claimed: bytes when unpacked, as it says itself.
      packed: bytes that it has now.
      where: named in the error.
      harmless: bytes below which the proportion of the two does not matter.

    Raises:
      DataError: it would be larger than `largest`, or too large for what it is made from.
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
    """A member of a zip, for reading with sizes: without one, `zipfile` trusts no claim.

    Raises:
      DataError: it is a bomb, or packed in a way whose unpacking knows no bounds, or damaged.
    """
    if info.compress_type not in _METHODS:
        reason = f"packed by method {info.compress_type}: expected deflated or stored, pack it anew"
        raise DataError(reason, where)
    if info.header_offset + info.compress_size > archive.start_dir:  # the list of members follows
        raise DataError("damaged in its zip archive (it would end behind the archive)", where)
    check_claim(info.file_size, info.compress_size, where, largest, harmless)
    try:
        with archive.open(info) as member:
            yield member
    except DataError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"damaged in its zip archive ({error})", where) from error
    except Exception as error:  # zlib.error has no public base of its own
        raise DataError(f"cannot be unpacked ({error})", where) from error


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: object) -> bytes:
    """The bytes of a member, never more than it claims.

    Raises:
      DataError: see `opened_member`.
    """
    with opened_member(archive, info, where) as member:
        content = member.read(info.file_size)
    if len(content) < info.file_size:
        raise DataError(f"expected {info.file_size} bytes, got {len(content)}", where)
    return content


def unpacked_copy(file: Path) -> io.BytesIO:
    """The same zip, nothing in it compressed, for readers that trust what a zip says.

    Raises:
      DataError: a member is a bomb, or all of them together are.
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
    """Refuses lists in lists whose parts are so often the same that they are few only in memory.

    Whoever goes through them, to print or to compare them, would go through each part anew.

    Args:
      loaded: dicts, lists, tuples and sets, and in them whatever else.
      size: bytes that they were read from.

    Raises:
      ValueError: there are too many for that, or something is a part of itself.
    """
    most = _PARTS_A_BYTE * (size + 1)
    counted: dict[int, int] = {}  # 0 while it is being counted

    def count(item: Any) -> int:
        if not isinstance(item, dict | list | tuple | set | frozenset):
            return 1
        known = counted.get(id(item))
        if known == 0:
            raise ValueError("a list or a dict that is a part of itself")
        if known is None:
            counted[id(item)] = 0
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            known = counted[id(item)] = 1 + sum(map(count, parts))
            if known > most:
                raise ValueError(f"expected at most {most} parts, they repeat to more")
        return known

    count(loaded)
