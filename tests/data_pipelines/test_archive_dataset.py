"""Datasets from folders of clip archives."""

import shutil

import numpy as np
import pytest

from data_pipelines.corpus import TEST, TRAIN
from data_pipelines.errors import BadFilesError, DataError
from data_pipelines.formats.clip_archive import archive_of_clips, write_archive
from data_pipelines.layouts import COMMON, LAYOUTS
from data_pipelines.prepared import prepare
from tests.conftest import ROOT
from tests.helpers.clips import person
from tests.helpers.commands import CLOSED_FORM, run
from tests.helpers.raw_files import load

CLASSES = ("wave", "bow", "lift a leg")
MOVES = ({}, {"torso": "upright > fold > upright"}, {"right foot": "ground > hip > ground"})


def write(folder, name="one", subjects=("anna", "bob"), classes=CLASSES, unit=1.0, **fields):
    """Writes an archive with a clip of each class by each subject, y up; returns its folder."""
    folder.mkdir(exist_ok=True, parents=True)
    clips, labels, persons = [], [], []
    for number, subject in enumerate(subjects):
        for label, move in enumerate(MOVES):
            clip = person(12 + number, **move) * (unit * (0.95 + 0.05 * number))
            clips.append(clip[None][..., [0, 2, 1]] * [1, 1, -1])
            labels.append(label)
            persons.append(subject)
    fields = {"joint_names": COMMON.joints, "labels": np.array(labels)} | fields
    archive = archive_of_clips(clips, class_names=classes, subjects=tuple(persons), **fields)
    write_archive(folder / f"{name}.npz", archive)
    return folder


def test_archives_are_merged_by_class_and_subject_names(tmp_path, cache):
    folder = write(tmp_path / "My gym-2", unit=100)
    write(folder / "more", "two", ("bob", "carl"), ("wave", "jump", "bow"))
    corpus = load("custom", folder)
    assert corpus.name == "my_gym_2"
    assert corpus.class_names == ("wave", "jump", "bow", "lift a leg")
    assert len(corpus) == 12
    assert corpus.clip_ids[:2] == ("more/two/0", "more/two/1")
    assert [corpus.class_names[label] for label in corpus.labels[:3]] == ["wave", "jump", "bow"]
    assert corpus.subjects.tolist() == [1, 1, 1, 2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert corpus.sides["xsub"].tolist() == [TEST] * 3 + [TRAIN] * 6 + [TEST] * 3
    assert corpus.skeleton is COMMON
    assert [count for note, count in corpus.notes.items() if "centimetres" in note] == [6]
    heights = np.ptp(prepare(corpus, 8, "resample").clips[:, 0, 0, :, 2], axis=1)
    assert np.all((heights > 1.2) & (heights < 2))
    # A new archive is detected.
    write(folder, "three", ("dora",))
    assert len(load("custom", folder)) == 15


def test_clips_of_a_single_subject_are_divided_into_train_and_test(tmp_path, cache):
    folder = write(tmp_path / "gym", subjects=("anna", "anna"))
    corpus = load("custom", folder)
    for label in range(3):
        sides = corpus.sides["alternate_clips"][corpus.labels == label]
        assert sorted(sides) == [TEST, TRAIN]


def test_unusable_clips_are_listed(tmp_path, cache):
    folder = write(tmp_path / "gym", labels=np.array([0, 1, -1, 0, 1, 2]))
    with pytest.raises(BadFilesError, match=r"1 of 6 files(.|\n)*clip one/2 has no label"):
        load("custom", folder)
    assert len(load("custom", folder, skip_bad=True)) == 5
    write(folder, labels=np.zeros(6, int))
    with pytest.raises(DataError, match="expected clips of 2 or more classes, got wave"):
        load("custom", folder)
    write(folder, joint_names=tuple(map(str, range(20))))
    with pytest.raises(BadFilesError, match="no joint of the file gives hip_center"):
        load("custom", folder)
    write(folder)
    write(folder, "two", labels=np.array([0, 1, 2, 0, 1, 9]))  # there is no class 9
    with pytest.raises(BadFilesError, match=r"1 of 7 files(.|\n)*two\.npz"):
        load("custom", folder)
    assert len(load("custom", folder, skip_bad=True)) == 6
    (folder / "one.npz").unlink()
    with pytest.raises(DataError, match=r"two\.npz"):
        load("custom", folder, skip_bad=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="or clip archives, found neither"):
        load("custom", tmp_path / "empty")


@pytest.mark.slow
def test_train_and_stream_eval_on_archives(tmp_path):
    write(tmp_path / "gym", subjects=("a", "b", "c", "d"))
    write(tmp_path / "gym", "two", ("a", "b", "c", "d"), ("jump", "kick", "squat"))
    arguments = [
        f"--config={ROOT}/configs/custom.py",
        f"--config.data.manual_dir={tmp_path / 'gym'}",
        "--config.splits=('random-4_2-0',)",
        "--config.text.encoder=hashing",
        "--config.text.descriptions=names",
        *CLOSED_FORM,
    ]
    trained = run("dynapurls_jax.train", *arguments, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "gym: 24 clips, 6 of 6 classes, 4 subjects" in trained.stderr
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "# gym: unseen classes" in evaluated.stdout


@pytest.mark.shared_data
@pytest.mark.slow
def test_an_open_corpus(shared_data, tmp_path, cache):
    (tmp_path / "precog").mkdir()
    shutil.copy(shared_data / "open" / "precog.npz", tmp_path / "precog")
    corpus = load("custom", tmp_path / "precog")
    assert (len(corpus), len(corpus.class_names)) == (350, 8)
    assert corpus.skeleton.joints == LAYOUTS["kinect_v1"]
    assert 0 < (corpus.sides["xsub"] == TEST).sum() < 250
