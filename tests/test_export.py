"""What follows an export."""

from pathlib import Path

from data_pipelines import datasets
from dynapurls_jax.export import _parser, export_clips
from tests.helpers.corpora import tiny_corpus


def test_the_next_command_of_exported_clips_names_their_joints(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets, "load_corpus", lambda settings: tiny_corpus())
    out = tmp_path / "clips.pkl"
    arguments = ["clips", "--dataset=utd_mhad", "--format=pyskl", f"--out={out}"]
    following = export_clips(_parser().parse_args(arguments))
    assert following.endswith(f"--clips={out} --skeleton=kinect_v1")
