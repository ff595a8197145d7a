"""Folders of unknown origin: names, links, pipes and descriptions."""

import os
import pickle
import re
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.clip_files import load_clips
from data_pipelines.conventions import Declared
from data_pipelines.custom_spec import load_spec
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.custom import match_fields
from data_pipelines.sources import Archive
from tests.helpers.custom_folder import text_clip, write_folder
from tests.helpers.raw_files import load, ucla_file


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
    (tmp_path / "in" / "link.mat").symlink_to(tmp_path / "secret.mat")
    archive = Archive((tmp_path / "in",), ".mat")
    names = [f"{tmp_path}/in/../secret.mat", f"{tmp_path}/secret.mat", "/etc/hostname"]
    for name in (*names, *archive.files()):
        with pytest.raises(DataError, match="expected a file in"):
            archive.content(name)


def test_bad_names_links_and_pipes_are_skipped(tmp_path, cache, monkeypatch):
    """Names that are no UTF-8, numbers beyond 64 bits, ways out of the folder, and a pipe."""
    folder = write_folder(tmp_path / "gym")
    outside = tmp_path / "s1_t0.txt"
    outside.write_text(text_clip(0))
    (folder / "bow" / f"s{'9' * 40}_t0.txt").write_text(text_clip(1))
    (folder / "bow" / "s1_t5.txt").symlink_to(outside)
    (folder / "bow" / "s1_t6.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "bow" / "s1_t7.txt")
    with open(os.fsencode(folder / "bow") + b"/s1_t\xff.txt", "w") as file:  # noqa: PTH123
        file.write(text_clip(2))
    with pytest.raises(BadFilesError, match="5 of 53 files") as error:
        load("custom", folder)
    reasons = ("numbers below", "expected a file in", "regular file", "file name", r"t\udcff.txt")
    assert all(reason in str(error.value) for reason in reasons)
    assert len(load("custom", folder, skip_bad=True)) == 48
    monkeypatch.chdir(tmp_path)
    found = list(load_clips("gym", "kinect_v2", Declared(metres=0.001)))
    bad = [clip for clip in found if isinstance(clip, str)]
    assert len(bad) == 4
    assert all(re.search("file name|regular file|expected a file in", clip) for clip in bad)


@pytest.mark.parametrize("entry", ["/etc", "../x.pkl", "link.pkl"])
def test_entries_of_a_description_stay_in_its_folder(tmp_path, cache, entry):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({}))
    folder = write_folder(tmp_path / "gym", format="pyskl", files=entry)
    (folder / "link.pkl").symlink_to(tmp_path / "x.pkl")
    with pytest.raises(DataError, match="expected a file in"):
        load("custom", folder)
    with pytest.raises(DataError, match="expected a file in"):
        load_spec(write_folder(folder, descriptions=entry))


def test_a_pattern_of_many_fields_takes_no_time():
    begin = time.monotonic()
    assert match_fields("{any}" * 20 + "{class}-{subject}.txt", "a" * 60 + ".txt") is None
    assert match_fields("{any}" * 20 + "{class}a", "a" * 200)["class"] == "a" * 179
    assert time.monotonic() - begin < 5


PIECES = st.sampled_from(["{class}", "{subject}", "{any}", "{view}", "a", "1", "/", "_", "1a"])


@given(st.lists(PIECES, max_size=6).map("".join), st.text("a1/_", max_size=9))
def test_patterns_match_like_regular_expressions(pattern, name):
    expected = ""
    for literal, field in re.findall(r"([^{]*)(?:\{(\w+)\})?", pattern):
        value = r"\d+" if field in ("subject", "view") else "[^/]+?"
        named = f"(?P<{field}>{value})" if f"<{field}>" not in expected else f"(?:{value})"
        expected += re.escape(literal) + (named if field else "")
    found = re.fullmatch(expected, name)
    assert match_fields(pattern, name) == (found.groupdict() if found else None)


def test_a_description_with_aliases_is_refused_in_few_words(tmp_path):
    folder = write_folder(tmp_path / "gym")
    laughs = "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 60))
    for text in (f"x0: &x0 [a, b]\n{laughs}classes: *x59\n", "classes: &a [*a, *a]\n"):
        (folder / "dataset.yaml").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.yaml, line \d: .*expected no aliases"):
            load_spec(folder)
    (folder / "dataset.yaml").write_text("classes: " + "[" * 1000)
    with pytest.raises(DataError, match=r"dataset\.yaml.*not a readable YAML file"):
        load_spec(folder)
    write_folder(folder, classes=["A" * 10**4] * 2)
    with pytest.raises(DataError, match="expected 2 or more different names") as error:
        load_spec(folder)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["../../evil", "pseudo-4_2-0", "random-3_3-1", "Report"])
def test_names_of_splits_are_no_paths_and_have_no_other_meaning(tmp_path, name):
    folder = write_folder(tmp_path / "gym", splits={name: ["bow"]})
    with pytest.raises(DataError, match=r"splits: .*expected"):
        load_spec(folder)


def test_numbers_of_a_description_have_32_bits(tmp_path):
    folder = write_folder(tmp_path / "gym", train_subjects=["9" * 5000])
    with pytest.raises(DataError, match="train_subjects: expected numbers below"):
        load_spec(folder)
