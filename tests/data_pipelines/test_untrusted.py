"""Malicious archives, MATLAB files and JSON.

See `test_array_attacks.py`, `test_pickles.py`, `test_untrusted_folders.py` and `test_bvh.py`, too.
"""

import io
import json
import os
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

from data_pipelines import ingest as ingest_module
from data_pipelines.builders.nw_ucla import read_nw_ucla
from data_pipelines.builders.utd_mhad import read_utd_mhad
from data_pipelines.errors import DataError
from data_pipelines.formats.ntu import MOST_FRAMES, parse_skeleton, read_ntu
from data_pipelines.ingest import ingest
from data_pipelines.sources import Archive, FileSource
from data_pipelines.untrusted import LARGEST, read_mat
from tests.helpers.attacks import with_false_sizes, zeros_in_zip
from tests.helpers.raw_files import load
from tests.helpers.skeleton_text import as_bytes, one_person

MAT = "a1_s1_t1_skeleton.mat"

# Decompression bombs ------------------------------------------------------------------------------


def test_a_bomb_in_a_zip_is_refused_before_unpacking(tmp_path, cache, flat):
    (tmp_path / "in").mkdir()
    zeros_in_zip(tmp_path / "in" / "Skeleton.zip", f"Skeleton/{MAT}", 32)
    with pytest.raises(DataError, match=r"Skeleton\.zip: .* unpack to 33554432.*bomb"):
        load("utd_mhad", tmp_path / "in")
    many = {f"{number}.mat": bytes(2**19) for number in range(33)}  # each is harmless
    zeros_in_zip(tmp_path / "in" / "Skeleton.zip", "x", 1, others=many)
    with pytest.raises(DataError, match="decompression bomb"):
        load("utd_mhad", tmp_path / "in")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"claimed": 2**31}, "decompression bomb"),
        ({"claimed": 1000}, "Bad CRC-32"),
        ({"claimed": 1000, "crc": zlib.crc32(bytes(1000))}, None),
    ],
)
def test_declared_sizes_of_a_zip_are_checked_and_enforced(tmp_path, claims, message, flat):
    file = with_false_sizes(zeros_in_zip(tmp_path / "x.zip", MAT, 48), **claims)
    archive = Archive((file,), ".mat")
    if message is None:  # false but consistent values: the declared number of bytes is read
        assert archive.content(f"{file}/{MAT}") == bytes(1000)
        return
    with pytest.raises(DataError, match=message):
        archive.content(f"{file}/{MAT}")


def test_a_member_above_the_limit_is_refused(tmp_path, flat):
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("noise", os.urandom(2**21))  # so that the archive as a whole is no bomb
    content = file.read_bytes()
    with_false_sizes(file, LARGEST + 1)
    with pytest.raises(DataError, match=f"at most {LARGEST} bytes when unpacked"):
        Archive((file,), "").content(f"{file}/noise")
    file.write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"x\.zip: not a readable zip archive"):
        Archive((file,), "").files()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_bounded_unpacking_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr(MAT, b"x")
    with pytest.raises(DataError, match=r"method \d+: expected deflated or stored"):
        Archive((tmp_path / "x.zip",), ".mat").content(f"{tmp_path}/x.zip/{MAT}")


@pytest.mark.shared_data
def test_real_archives_are_far_below_every_limit(shared_data):
    for place in ("utd_mhad/Skeleton.zip", "nw_ucla/all_sqe.zip", "kinder_gator/Kinder-Gator.zip"):
        members = zipfile.ZipFile(shared_data / place).infolist()
        assert 500 * max(member.file_size for member in members) < LARGEST
        size = (shared_data / place).stat().st_size
        assert sum(member.file_size for member in members) < 20 * size


def sparse(frames: int) -> bytes:
    """A recording whose frames are empty, all but the first: text of two bytes each."""
    first = as_bytes(one_person(frames=1)).partition(b"\n")[2]
    return f"{frames}\n".encode() + first + b"0\n" * (frames - 1)


def small_zip(file, frames: int, count: int) -> FileSource:
    """A zip of some kB, with recordings that are 150 times as large as arrays.

    The clips are one part: parts end at hashes of full names, and `file` is different in each run.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"S001C001P001R{number:03d}A001.skeleton", sparse(frames))
    return FileSource(Archive((file,), ".skeleton"), read_ntu, chunk=2**32)


def test_the_clips_of_a_part_have_a_limit_and_are_not_kept(tmp_path, monkeypatch):
    """15 clips of 0.6 MB as arrays, of which 13 are within the limit."""
    monkeypatch.setattr(ingest_module, "LARGEST_PART", 8 * 10**6)
    source = small_zip(tmp_path / "x.zip", 2000, 15)
    tracemalloc.start()
    assert sum(1 for _ in ingest(source, tmp_path / "parts", "reading", skip_bad=True)) == 13
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 10**6
    assert "over 8000000 bytes" in (tmp_path / "parts.bad.txt").read_text()


@pytest.mark.slow
def test_a_zip_of_20_kb_does_not_become_3_gb(tmp_path):
    source = small_zip(tmp_path / "x.zip", MOST_FRAMES, 40)
    tracemalloc.start()
    assert sum(1 for _ in ingest(source, tmp_path / "parts", "reading", skip_bad=True)) == 27
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LARGEST


def test_too_many_empty_frames_are_refused():
    frames = MOST_FRAMES + 1
    for content in (f"{frames}\n".encode() + b"0\n" * frames, sparse(frames)):
        with pytest.raises(DataError, match=f"expected at most {MOST_FRAMES} frames, got {frames}"):
            parse_skeleton(content, "x.skeleton")


# MATLAB files -------------------------------------------------------------------------------------


def mat_of(*elements) -> bytes:
    """A MATLAB file of elements, each compressed."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {})
    content = buffer.getvalue()[:128]
    for packed in map(zlib.compress, elements):
        content += np.array([15, len(packed)], "<u4").tobytes() + packed
    return content


def tag(kind, size) -> bytes:
    return np.array([kind, size], "<u4").tobytes()


def variable(shape, values, kind=6) -> bytes:
    """A variable d_skel as MATLAB writes it; `kind` 6 is double, 4 is text."""
    dims = np.array(shape, "<i4").tobytes()
    dims += bytes(-len(dims) % 8)
    body = tag(6, 8) + tag(kind, 0) + tag(5, 4 * len(shape)) + dims
    body += tag(1, 6) + b"d_skel\0\0" + tag(9, len(values)) + values
    return tag(14, len(body)) + body


GOOD = variable((20, 3, 5), np.arange(300.0).tobytes())


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([tag(14, 2**25) + bytes(2**25)], "not a readable .mat"),
        ([tag(14, 2**30)], "not a readable .mat"),
        ([mat_of(tag(14, 2**25) + bytes(2**25))[128:]], "not a readable .mat"),
        ([variable((2**15, 2**15), b"", 4)], "variable d_skel of numbers, got .*char"),
        ([GOOD, variable((2**30,), b"", 4)], "variable d_skel of numbers, got .*char.*double"),
        ([variable((20, 3, 2**30), bytes(80))], "not a readable .mat"),
        ([os.urandom(2**18)], "expected at most 262144 bytes"),
    ],
)
def test_matlab_bombs_are_refused(elements, message):
    content = mat_of(*elements)
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        read_utd_mhad(MAT, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LARGEST
    assert read_mat(mat_of(GOOD), "d_skel", MAT).shape == (20, 3, 5)


@pytest.mark.parametrize("text", [b"[" * 10**5, b'{"label": ' + b"9" * 5000, b"\xff"])
def test_json_that_python_cannot_parse_is_an_error_with_the_file(text):
    with pytest.raises(DataError, match=r"a01_s01_e00_v01\.json: not a readable JSON file"):
        read_nw_ucla("a01_s01_e00_v01.json", text)
    infinite = json.dumps({"skeletons": [], "label": float("inf")}).encode()
    with pytest.raises(DataError, match=r"a01_s01_e00_v01\.json: expected keys"):
        read_nw_ucla("a01_s01_e00_v01.json", infinite)
