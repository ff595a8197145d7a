"""The universal model: corpora in one feature space, the animated lexicon, the script."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.animation import animate
from data_pipelines.formats.clip_archive import archive_of_clips, write_archive
from data_pipelines.layouts import COMMON
from data_pipelines.lexicon import load_lexicon
from dynapurls_jax.serving.model_file import read_model
from dynapurls_jax.training.corpora import archive_corpus, encoded, prepared
from dynapurls_jax.training.universal import ImaginedLexicon
from tests.conftest import ROOT

SOME = load_lexicon()[:12:3]


class Lengths:
    """A text encoder whose embedding has the length of the text."""

    digest = "lengths"

    def encode(self, texts):
        return np.array([[len(text), 1] for text in texts], np.float32)


def test_clips_of_an_archive_are_encoded_like_sketches(tmp_path):
    clips = [animate(entry.sketch, 40 + 5 * n) for n, entry in enumerate(SOME)]
    file = tmp_path / "some.npz"
    fields = {
        "joint_names": COMMON.joints,
        "class_names": ("b", "a", "unused"),
        "labels": np.array([0, 1, 0, 1]),
        "up": "z",
    }
    write_archive(file, archive_of_clips([clip[None] for clip in clips], **fields))
    corpus = archive_corpus(file)
    assert (corpus.name, corpus.class_names) == ("some", ("a", "b"))
    np.testing.assert_array_equal(corpus.labels, [1, 0, 1, 0])
    expected = encoded(np.stack([prepared(clip[None], COMMON) for clip in clips]))
    np.testing.assert_allclose(corpus.tokens, expected, atol=0.02)


def test_excluded_actions_have_zero_text():
    lexicon = ImaginedLexicon(SOME, Lengths())
    every, some = lexicon.actions(), lexicon.actions([SOME[1].names[-1].upper(), "unknown"])
    of_second = np.asarray(every.action) == 1
    assert not np.asarray(some.text)[of_second].any()
    np.testing.assert_array_equal(np.asarray(some.text)[~of_second], every.text[~of_second])
    assert [leaf.shape for leaf in some] == [leaf.shape for leaf in every]
    assert len(every.text) == len(lexicon.names) == sum(len(entry.names) for entry in SOME)


def test_mirrored_features_equal_those_of_mirrored_sketches():
    lexicon = ImaginedLexicon(SOME, Lengths()).actions()
    features, images = (
        np.asarray(x)[:, : 12 * COMMON.num_joints].reshape(len(SOME), COMMON.num_joints, 12)
        for x in (lexicon.features, lexicon.mirrored)
    )
    left, right = (COMMON.joints.index(f"{side}_hand") for side in ("left", "right"))
    # The mean of the lateral coordinate changes its sign; the other means are equal.
    signs = np.array([-1, 1, 1])
    np.testing.assert_allclose(images[:, left, :3], features[:, right, :3] * signs, atol=1e-3)
    np.testing.assert_allclose(images[:, left, 3:], features[:, right, 3:], atol=1e-3)


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_script_trains_and_evaluates_left_out_corpora(tmp_path, shared_data):
    for name in ("precog", "irds_part", "cmu_part"):
        (tmp_path / f"{name}.npz").symlink_to(shared_data / "open" / f"{name}.npz")
    out, table = tmp_path / "model.safetensors", tmp_path / "table.md"
    command = [sys.executable, "scripts/train_universal.py", "--datasets=", f"--out={out}"]
    command += [
        f"--archives={tmp_path}",
        f"--leave_out={table}",
        "--config.method.lexicon.ridge=2.0",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = read_model(out)
    assert dataclasses.asdict(model.skeleton) == dataclasses.asdict(COMMON)
    assert model.config.adapter.name == "recentred"
    assert model.config.method.lexicon.ridge == 2.0
    (row,) = (line for line in table.read_text("utf-8").splitlines() if line.startswith("| irds"))
    assert float(row.split("|")[-3]) > 40  # together; chance is 11
