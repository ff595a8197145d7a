"""Malicious archives, MATLAB files and dataset descriptions.

See `test_array_attacks.py` for arrays, and `test_pickles.py` for pickles.
"""

import io
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
from data_pipelines.safe_io import HARMLESS, LARGEST, MOST_EXPANSION

from data_pipelines.builders.utd_mhad import read_utd_mhad
from data_pipelines.custom_spec import load_spec
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.ntu import MOST_FRAMES, parse_skeleton
from data_pipelines.sources import Archive
from tests.helpers.attacks import with_false_sizes, zeros_in_zip
from tests.helpers.custom_folder import write_folder
from tests.helpers.raw_files import load, ucla_file
from tests.helpers.skeleton_text import as_bytes, one_person

MAT = "a1_s1_t1_skeleton.mat"

# Zip slip -----------------------------------------------------------------------------------------


def test_zip_members_with_paths_outside_are_never_written(tmp_path, cache):
    outside = tmp_path / "a03_s01_e00_v01.json"
    outside.write_bytes(b"not to be read, nor to be written")
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    names = {
        "../../a01_s01_e00_v01.json": ucla_file(5, 1),
        f"{tmp_path}/a02_s01_e00_v03.json": ucla_file(6, 2),
        "../../a03_s01_e00_v01.json": ucla_file(7, 3),
    }
    with zipfile.ZipFile(folder / "all_sqe.zip", "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    corpus = load("nw_ucla", folder)
    assert [len(clip[0]) for clip in corpus.clips] == [5, 6, 7]  # the zip's own, not the file
    assert outside.read_bytes() == b"not to be read, nor to be written"
    left = {path for path in tmp_path.rglob("*") if tmp_path / "cache" not in path.parents}
    assert left == {folder.parent, folder, folder / "all_sqe.zip", outside, tmp_path / "cache"}


def test_nothing_is_read_outside_of_its_folder(tmp_path):
    (tmp_path / "secret.mat").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    archive = Archive((tmp_path / "in",), ".mat")
    for name in (f"{tmp_path}/in/../secret.mat", f"{tmp_path}/secret.mat", "/etc/hostname"):
        with pytest.raises(DataError, match="expected a file in"):
            archive.content(name)


# Decompression bombs ------------------------------------------------------------------------------


def test_a_bomb_in_a_zip_is_refused_before_unpacking(tmp_path, cache, flat):
    (tmp_path / "in").mkdir()
    zeros_in_zip(tmp_path / "in" / "Skeleton.zip", f"Skeleton/{MAT}", 32)
    with pytest.raises(BadFilesError, match=rf"{MAT}: .* unpack to 33554432.*decompression bomb"):
        load("utd_mhad", tmp_path / "in")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"claimed": 2**31}, f"{MAT}: expected at most {LARGEST} bytes when unpacked"),
        ({"claimed": LARGEST, "packed": LARGEST // 2}, "would end after the archive"),
        ({"claimed": 1000}, "damaged in its zip archive"),
        ({"claimed": 1000, "crc": zlib.crc32(bytes(1000))}, None),
        ({"claimed": 2**26}, "decompression bomb|expected 67108864 bytes"),
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


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_bounded_unpacking_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr(MAT, b"x")
    with pytest.raises(DataError, match=r"method \d+: expected deflated or stored"):
        Archive((tmp_path / "x.zip",), ".mat").content(f"{tmp_path}/x.zip/{MAT}")


@pytest.mark.shared_data
def test_real_archives_are_far_below_every_limit(shared_data):
    for place in ("utd_mhad/Skeleton.zip", "nw_ucla/all_sqe.zip", "kinder_gator/Kinder-Gator.zip"):
        for info in zipfile.ZipFile(shared_data / place).infolist():
            assert 20 * info.file_size < HARMLESS
            assert 20 * info.file_size <= MOST_EXPANSION * info.compress_size


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
        ([tag(14, 2**25) + bytes(2**25)], "may be a decompression bomb"),
        ([tag(14, 1000) + bytes(2**25)], "expected 1000 bytes, got more"),
        ([tag(14, 2**30)], "expected at most"),
        ([mat_of(tag(14, 2**25) + bytes(2**25))[128:]], "expected a matrix, got 15"),
        ([GOOD[:4] + tag(0, 8)[4:] + GOOD[8:]], "expected 8 bytes, got more"),
        ([variable((2**15, 2**15), b"", 4)], "expected d_skel to hold numbers, got char"),
        ([GOOD, variable((2**30,), b"", 4)], "to hold numbers, got char and double"),
        ([variable((20, 3, 2**30), bytes(80))], "not a readable .mat"),
    ],
)
def test_matlab_bombs_are_refused(elements, message):
    content = mat_of(*elements)
    del elements
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        read_utd_mhad(MAT, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    assert read_utd_mhad(MAT, mat_of(GOOD)).joints.shape == (1, 5, 20, 3)


def test_too_many_empty_frames_are_refused():
    frames = MOST_FRAMES + 1
    first = b"".join(as_bytes(one_person(frames=1)).splitlines(keepends=True)[1:])
    for content in (b"0\n" * frames, first + b"0\n" * (frames - 1)):
        with pytest.raises(DataError, match=f"expected at most {MOST_FRAMES} frames, got {frames}"):
            parse_skeleton(f"{frames}\n".encode() + content, "x.skeleton")


def test_a_description_with_endless_aliases_is_refused(tmp_path):
    folder = write_folder(tmp_path / "gym")
    laughs = "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 60))
    (folder / "dataset.yaml").write_text(f"x0: &x0 [a, b]\n{laughs}classes: *x59\n")
    with pytest.raises(DataError, match=r"dataset\.yaml: .* shared parts repeat to more"):
        load_spec(folder)
    (folder / "dataset.yaml").write_text("classes: &a [*a, *a]\n")
    with pytest.raises(DataError, match=r"dataset\.yaml, line 1: .*recursive"):
        load_spec(folder)
    write_folder(folder, splits={"../../evil": ["bow"]})
    with pytest.raises(DataError, match=r"splits: expected names of letters.*evil"):
        load_spec(folder)
