"""NTU RGB+D: parser against the published pipeline, person selection, protocols, builders."""

import gzip
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.builders import ntu
from data_pipelines.builders.registry import public_dataset
from data_pipelines.builders.tfds_builder import ClipBuilder
from data_pipelines.cleaning import clean
from data_pipelines.corpus import TRAIN
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats import ntu as ntu_format
from data_pipelines.formats.ntu import parse_lines, parse_name, parse_skeleton, read_ntu
from data_pipelines.formats.person_selection import select_persons
from data_pipelines.protocols import published_splits
from data_pipelines.skeletons import KINECT_V2
from data_pipelines.temporal_sampling import loop, normalise_published
from tests.helpers.raw_files import load
from tests.helpers.skeleton_text import as_bytes, body, one_person, skeleton_lines

FILE = "S001C002P003R001A004.skeleton"


@pytest.fixture(scope="module")
def published(shared_data):
    return np.load(shared_data / "shift_gcn" / "oracle_ntu_clips.npz")


def _real(shared_data, name) -> tuple[str, bytes]:
    file = shared_data / "ntu_clips" / f"{name}.skeleton"
    return str(file), file.read_bytes()


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_clips_equal_the_published_pipeline(published, shared_data):
    """The published pipeline keeps every body; this one drops six that are furniture."""
    dropped = {}
    for index, name in enumerate(published["name"]):
        file, content = _real(shared_data, name)
        raw = published["joint_raw"][index].transpose(3, 1, 2, 0)  # [2, 300, 25, 3]
        prenorm = published["joint_prenorm"][index].transpose(3, 1, 2, 0)
        bodies = parse_skeleton(content, file)
        undenoised, _ = select_persons(
            bodies.num_frames, bodies.frame, bodies.track, bodies.joints, denoise=False
        )
        ours = read_ntu(file, content)
        for persons in (undenoised, ours.joints):
            padded = loop(persons, 300)
            count = len(persons)
            frames = persons.shape[1]
            assert np.abs(raw[:count, :frames] - persons).max() <= 1e-6
            assert np.abs(prenorm[:count] - normalise_published(padded, KINECT_V2)).max() <= 1e-5
        assert not raw[len(undenoised) :].any()
        assert not raw[:, frames:].any()
        if len(ours.joints) < len(undenoised):
            dropped[str(name)] = ours.notes
    # These actions have one person; the other body is wider than high.
    assert sorted(dropped) == [f"S001C001P001R001A{a:03d}" for a in range(24, 30)]
    assert set(map(str, dropped.values())) == {"{'bodies dropped, too wide to be a person': 1}"}


@pytest.mark.slow
@pytest.mark.shared_data
def test_fast_and_line_by_line_parsing_agree_on_real_clips(published, shared_data):
    for name in published["name"]:
        file, content = _real(shared_data, name)
        fast = ntu_format._parse_regular(content)  # every real file takes the fast path
        if name.endswith(("1", "8")):
            _assert_same(fast, parse_lines(content, file))


def _assert_same(a, b):
    assert (a.num_frames, a.track) == (b.num_frames, b.track)
    np.testing.assert_array_equal(a.frame, b.frame)
    np.testing.assert_array_equal(a.joints, b.joints)


def test_a_written_file_is_read_back():
    persons = body(0), body(1, place=1.0)
    lines = skeleton_lines([[(7, a), (8, b)] for a, b in zip(*persons, strict=True)])
    for content in (as_bytes(lines), "\n".join(lines).encode()):
        got = parse_skeleton(content, FILE)
        np.testing.assert_allclose(got.joints[::2], persons[0], rtol=1e-6)
        np.testing.assert_allclose(got.joints[1::2], persons[1], rtol=1e-6)
        assert got.track[:3] == [b"7", b"8", b"7"]
    raw = read_ntu(f"folder/{FILE}", as_bytes(lines))
    assert (raw.clip_id, raw.setup, raw.view, raw.subject, raw.label) == (FILE[:-9], 1, 2, 3, 3)
    assert raw.joints.shape == (2, 30, 25, 3)


def _edit(number: int, change) -> bytes:
    lines = one_person(frames=3)
    lines[number - 1] = change(lines[number - 1])
    return as_bytes(lines)


def _field(index: int, text: str):
    def change(line):
        fields = line.split()
        fields[index] = text
        return " ".join(fields)

    return change


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "expected the number of frames, got the end of the file"),
        (b"0\n", 1, "a whole number from 1 on, got '0'"),
        (b"-3\n", 1, "got '-3'"),
        (b"1e9\n", 1, "got '1e9'"),
        (b"999999999999\n1\n", 1, "expected 999999999999 frames, got 2 lines"),
        (b"\x00\xff junk", 1, "ASCII"),
        (_edit(2, lambda line: "-1"), 2, "number of bodies in frame 0.*got '-1'"),
        (_edit(1, lambda line: "+3"), 1, "number of frames.*got '\\+3'"),
        (_edit(1, lambda line: "9" * 5000), 1, "the number of frames"),
        (_edit(5, lambda line: line.replace(" ", ",0.09 ", 1)), 5, "expected numbers"),
        (_edit(6, _field(0, "[]")), 6, r"expected numbers.*'\[\]'"),
        (_edit(2, lambda line: "99999999"), 30, "tracking id and nine states"),
        (_edit(2, lambda line: "2"), 30, "a tracking id and nine states of a body .*got 1 fields"),
        (_edit(4, lambda line: "24"), 4, "expected 25 joints"),
        (_edit(5, _field(1, "nan")), 5, "finite coordinates, got .* nan"),
        (_edit(5, _field(0, "1e39")), 5, "finite coordinates, got 1e39"),
        (_edit(9, _field(2, "x")), 9, "expected numbers.*'x'"),
        (_edit(9, lambda line: line[:30]), 9, r"twelve numbers of a joint \(12 fields\)"),
        (_edit(9, lambda line: f"{line} 3"), 9, "12 fields.*got 13"),
        (as_bytes(one_person(frames=3)[:40]), 41, "got the end of the file"),
        (as_bytes([*one_person(frames=3), "1"]), 86, "expected the end of the file after 3"),
    ],
)
def test_bad_files_name_the_line(content, line, message):
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        parse_skeleton(content, FILE)
    assert error.value.line == line
    assert FILE in str(error.value)


REGULAR = as_bytes(one_person(frames=2))


@st.composite
def damaged(draw) -> bytes:
    """A small valid file with a few bytes removed, inserted, or replaced."""
    content = bytearray(REGULAR)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content) - 1))
        piece = draw(
            st.sampled_from([b"", b"-", b".", b" ", b"\n", b"9", b"nan", b"\x00", b"\r", b"e5"])
        )
        length = draw(st.sampled_from([0, 1, 2, 30, 500]))
        content[at : at + length] = piece
        if not content:
            break
    return bytes(content)


@given(damaged() | st.binary(max_size=80) | st.text("0123456789 \n", max_size=60).map(str.encode))
def test_damaged_files_are_errors_or_parse_as_line_by_line(content):
    """Any input gives an error, or the same array as the slow parser."""
    try:
        expected = parse_lines(content, FILE)
    except DataError:
        with pytest.raises(DataError, match=f"{FILE}, line "):
            parse_skeleton(content, FILE)
        return
    got = parse_skeleton(content, FILE)
    _assert_same(got, expected)
    assert np.isfinite(got.joints).all()
    read_ntu(FILE, content)


def _select(tracks, frames=30, **options):
    """`tracks`: (id, frames, joints [k, V, 3])."""
    rows = [
        (f, t, joint) for t, where, joints in tracks for f, joint in zip(where, joints, strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    frame = np.array([row[0] for row in rows])
    return select_persons(
        frames, frame, [r[1] for r in rows], np.array([r[2] for r in rows]), **options
    )


def test_persons_are_sorted_by_motion_and_a_third_is_dropped():
    calm, lively, third = body(0, 0, 0.5), body(0, 1, 2.0), body(0, 2, 0.2)
    everywhere = range(30)
    got, notes = _select([(1, everywhere, calm), (2, everywhere, third), (3, everywhere, lively)])
    np.testing.assert_array_equal(got[0], lively)
    np.testing.assert_array_equal(got[1], calm)
    assert notes == {"bodies dropped, a third person": 1}


def test_tracks_of_one_person_are_joined():
    whole = body(3)
    got, notes = _select([(5, range(12), whole[:12]), (9, range(14, 30), whole[14:])])
    assert got.shape == (1, 30, 25, 3)
    np.testing.assert_array_equal(got[0, 14:], whole[14:])
    assert not got[0, 12:14].any()
    assert not notes
    filled = clean(read_ntu(FILE, as_bytes(one_person())))
    assert not filled.notes


def test_noise_is_dropped_unless_nothing_else_is_left():
    person = body(4)
    flat = body(5)[..., [1, 0, 2]]  # lying: wider than high
    got, notes = _select(
        [(1, range(30), person), (2, range(30), flat), (3, range(5), person[:5] + 1)]
    )
    assert len(got) == 1
    assert sorted(notes.values()) == [1, 1]
    undenoised, _ = _select([(1, range(30), person), (2, range(30), flat)], denoise=False)
    assert len(undenoised) == 2
    lying, notes = _select([(2, range(30), flat)])
    np.testing.assert_array_equal(lying[0], flat)
    assert not notes


def test_frames_without_a_body_are_filled_and_counted():
    whole = body(6)
    lines = skeleton_lines([[] if f in (0, 10, 29) else [(1, whole[f])] for f in range(30)])
    got = clean(read_ntu(FILE, as_bytes(lines)))
    assert got.notes["untracked joints interpolated (joint-frames)"] == 75
    np.testing.assert_allclose(got.joints[0, 0], whole[1], atol=1e-5)
    np.testing.assert_allclose(got.joints[0, 10], (whole[9] + whole[11]) / 2, atol=1e-5)
    empty = clean(read_ntu(FILE, as_bytes(skeleton_lines([[]] * 4))))
    assert empty.notes == {"dropped, empty": 1}


def _columns(stems) -> dict[str, np.ndarray]:
    names = [parse_name(stem) for stem in stems]
    return {
        "label": np.array([name.label for name in names]),
        "subject": np.array([name.subject for name in names]),
        "view": np.array([name.camera for name in names]),
        "setup": np.array([name.setup for name in names]),
    }


@pytest.mark.shared_data
def test_protocols_have_the_published_sizes(shared_data):
    lists = shared_data / "ntu_lists"
    sizes = {}
    for name in ("ntu60", "ntu120"):
        dataset = public_dataset(name)
        stems = gzip.decompress((lists / f"{name}_available.txt.gz").read_bytes()).decode().split()
        assert len(stems) == dataset.TOTAL
        assert not ntu.excluded() & set(stems)
        columns = _columns(stems)
        assert columns["label"].max() == len(dataset.CLASSES) - 1
        sides = dataset.sides(columns, None)
        sizes |= {(name, key): (int(s.sum()), int((~s).sum())) for key, s in sides.items()}
        for split in published_splits(name).items():
            unseen = np.isin(columns["label"], split[1])
            sizes[name, split[0]] = int((unseen & (sides["xsub"] != TRAIN)).sum())
    assert sizes["ntu60", "xsub"] == (40_091, 16_487)
    assert sizes["ntu60", "xview"] == (37_646, 18_932)
    assert sizes["ntu120", "xsub"] == (63_026, 50_919)
    assert sizes["ntu120", "xsetup"] == (54_468, 59_477)
    assert sizes["ntu60", "55_5"] == 1368  # the paper's Table 3
    assert sizes["ntu60", "48_12"] == 3291
    assert sizes["ntu120", "110_10"] == 4249
    assert sizes["ntu120", "96_24"] == 9892


@pytest.mark.shared_data
def test_excluded_clips_match_the_owners_lists(shared_data):
    lists = shared_data / "ntu_lists"
    named = (lists / "NTU_RGBD120_samples_with_missing_skeletons.txt").read_text().split()
    assert ntu.excluded() == set(named)
    first = (lists / "NTU_RGBD_samples_with_missing_skeletons.txt").read_text().split()
    assert {stem for stem in ntu.excluded() if parse_name(stem).setup <= 17} == set(first)


def _archive(path, names, broken=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for seed, name in enumerate(names):
            lines = one_person(seed, frames=20 + seed)
            content = as_bytes(lines[:-1] if name in broken else lines)
            archive.writestr(f"nturgb+d_skeletons/{name}.skeleton", content)


NAMES = ["S001C001P001R001A001", "S001C002P003R001A002", "S017C003P002R002A060"]
FIRST, SECOND = "nturgbd_skeletons_s001_to_s017.zip", "nturgbd_skeletons_s018_to_s032.zip"


def test_the_zip_is_read_without_unpacking(tmp_path, cache):
    left_out = "S001C002P005R002A008"  # one of the excluded
    _archive(tmp_path / FIRST, [*NAMES, left_out, "S018C001P008R001A061"])
    corpus = load("ntu60", tmp_path)
    assert list(corpus.clip_ids) == NAMES
    assert corpus.labels.tolist() == [0, 1, 59]
    assert corpus.setups.tolist() == [1, 1, 17]
    assert {name: side.tolist() for name, side in corpus.sides.items()} == {
        "xsub": [1, 0, 1],
        "xview": [0, 1, 1],
    }
    assert "missing clips, of the published 56578: 56575" in corpus.summary()
    assert [clip.shape for clip in corpus.clips] == [(1, t, 25, 3) for t in (20, 21, 22)]
    assert not (cache / "parts" / "ntu60").exists()


def test_ntu_120_needs_both_archives(tmp_path, cache):
    _archive(tmp_path / FIRST, NAMES)
    with pytest.raises(FileNotFoundError, match=rf"(?s){FIRST}.*{SECOND}.*https://rose1"):
        load("ntu120", tmp_path)
    _archive(tmp_path / SECOND, ["S018C001P008R001A061", "S032C002P106R002A120"])
    corpus = load("ntu120", tmp_path)
    assert corpus.labels.tolist() == [0, 1, 59, 60, 119]
    assert corpus.sides["xsetup"].tolist() == [0, 0, 0, 1, 1]


def test_a_folder_with_bad_files_lists_them_all_or_skips_them(tmp_path, cache):
    _archive(tmp_path / FIRST, NAMES, broken=NAMES[:2])
    with pytest.raises(BadFilesError, match="2 of 3 files cannot be used") as error:
        load("ntu60", tmp_path)
    for name in NAMES[:2]:
        assert f"{name}.skeleton, line " in str(error.value)
    corpus = load("ntu60", tmp_path, skip_bad=True)
    assert list(corpus.clip_ids) == NAMES[2:]
    assert corpus.notes["files that cannot be read, skipped"] == 2
    with pytest.raises(BadFilesError):  # skipped files are errors without `skip_bad`
        load("ntu60", tmp_path)
    _archive(tmp_path / FIRST, NAMES)  # repaired
    assert list(load("ntu60", tmp_path).clip_ids) == NAMES


def test_clips_are_not_shuffled_in_memory(tmp_path, cache, monkeypatch):
    """TFDS's own builders do so, and need TensorFlow for more than 1 GB."""
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.Shuffler.add", None)
    names = [f"S001C001P{subject:03d}R001A001" for subject in range(1, 41)]
    _archive(tmp_path / FIRST, names)
    corpus = load("ntu60", tmp_path)
    assert list(corpus.clip_ids) == names
    assert corpus.frames.tolist() == [min(30, 20 + seed) for seed in range(40)]
    assert [clip.shape[1] for clip in corpus.clips] == corpus.frames.tolist()


def test_the_builder_is_an_ordinary_tfds_builder(tmp_path):
    _archive(tmp_path / "manual" / FIRST, NAMES)
    builder = ClipBuilder(public_dataset("ntu60"), tmp_path / "data")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["clips"].num_examples == 3
    source = builder.as_data_source(split="clips")
    assert source[2]["clip"].shape == (1, 22, 25, 3)
    assert builder.info.features["label"].int2str(source[1]["label"]) == "eat meal"
    again = tfds.builder_from_directory(builder.data_dir)
    assert len(again.as_data_source(split="clips")) == 3
