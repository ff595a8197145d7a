"""Training, evaluation and export on a small NTU RGB+D 60 of real clips."""

from itertools import chain

import pytest

from data_pipelines.untrusted import load_pickle
from dynapurls_jax import export
from tests.conftest import ROOT
from tests.helpers.commands import CLOSED_FORM, run

pytestmark = [pytest.mark.shared_data, pytest.mark.slow]

# Four seen and three unseen classes of the 55/5 split; one of each with two people.
SEEN, UNSEEN = (1, 2, 3, 50), (11, 12, 57)
SUBJECTS = {1: 0, 2: 1, 4: 2, 5: 3, 3: 4, 6: 5}  # subject to first frame of the clips


def _cut(text: str, frame: int) -> str:
    """A `.skeleton` file that begins at a later frame."""
    lines = text.splitlines()
    frames, at = [], 1
    for _ in range(int(lines[0])):
        end = at + 1 + 27 * int(lines[at])
        frames.append(lines[at:end])
        at = end
    kept = frames[frame:]
    return "\n".join([str(len(kept)), *chain.from_iterable(kept)]) + "\n"


@pytest.fixture(scope="module")
def miniature(shared_data, tmp_path_factory):
    """One real clip of each of seven classes, copied with the names of six subjects."""
    folder = tmp_path_factory.mktemp("ntu")
    for action in SEEN + UNSEEN:
        name = f"S001C001P001R001A{action:03d}"
        text = (shared_data / "ntu_clips" / f"{name}.skeleton").read_text()
        for subject, first in SUBJECTS.items():
            file = folder / f"{name.replace('P001', f'P{subject:03d}')}.skeleton"
            file.write_text(_cut(text, first))
    return folder


def test_train_evaluate_export_and_train_on_the_features(miniature, tmp_path):
    arguments = [
        f"--config={ROOT}/configs/ntu60.py",
        f"--config.data.manual_dir={miniature}",
        "--config.splits=('55_5',)",
        "--config.seeds=(0,)",
        "--config.text.encoder=hashing",
        *CLOSED_FORM,
    ]
    trained = run("dynapurls_jax.train", *arguments, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "ntu60: 42 clips, 7 of 60 classes, 6 subjects" in trained.stderr
    assert "persons: 1 in 30 clips, 2 in 12 clips" in trained.stderr
    assert "4 seen and 5 unseen classes; clips: 12 train, 4 validation, 8 seen test, 6 unseen" in (
        trained.stderr
    )
    evaluated = run("dynapurls_jax.stream_eval", "--orders=2", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "| 55_5 | 5 | 6 | 1 x 2 | 20.0 |" in evaluated.stdout
    export.main(
        f"features --workdir={tmp_path}/runs/ntu60 --split=55_5 --out={tmp_path}/features".split()
    )
    assert sorted(p.name for p in (tmp_path / "features").iterdir()) == [
        f"{side}{kind}.npy" for side in ("test", "train", "val") for kind in ("", "_label")
    ]
    exported = [*arguments[:1], *arguments[2:], f"--config.data.features={tmp_path}/features"]
    again = run("dynapurls_jax.train", *exported, "--workdir=exported", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "features read, no clips: 30" in again.stderr


def test_export_of_real_clips(miniature, tmp_path, capsys):
    out = tmp_path / "ntu.pkl"
    export.main(
        f"clips --dataset=ntu60 --manual_dir={miniature} --format=pyskl --out={out}".split()
    )
    record = load_pickle(out)
    assert sorted(record["split"]) == ["xsub_train", "xsub_val", "xview_train", "xview_val"]
    assert len(record["split"]["xsub_train"]) == 28
    assert record["annotations"][0]["keypoint"].shape[2:] == (25, 3)
    refused = {
        f"--format=ctr_gcn --out={out}": "--out: expected a name that ends in '.npz'",
        f"--manual_dir={miniature} --format=agcn --protocol=xsubj --out={tmp_path}/x": (
            "did you mean 'xsub'"
        ),
    }
    for arguments, message in refused.items():
        with pytest.raises(SystemExit, match="2"):
            export.main(f"clips --dataset=ntu60 {arguments}".split())
        assert message in capsys.readouterr().err
