"""Trains the universal model on clip archives and on the project's small datasets.

  python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER --out=FILE.safetensors
  python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER --leave_out=TABLE.md
  python scripts/train_universal.py ... --leave_out=TABLE.md --config.method.lexicon.ridge=2.0

--manual_dir has a folder for each of --datasets, with its owner's archive. --leave_out writes what
the method reaches on each corpus when it is trained on the others alone, as a Markdown table.
Settings are those of configs/universal.py, of which the encoder, the frames and the text encoder
cannot be others.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict

from dynapurls_jax.flags import define_config, run

if TYPE_CHECKING:
    from dynapurls_jax.serving.model import Model
    from dynapurls_jax.training.corpora import EncodedCorpus
    from dynapurls_jax.training.universal import UniversalFit

_CONFIG = define_config(default=None)
_ARCHIVES = flags.DEFINE_string("archives", None, "Folder of clip archives.", required=True)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the datasets' folders.")
_DATASETS = flags.DEFINE_list(
    "datasets", ["utd_mhad", "nw_ucla", "kinder_gator"], "Public datasets by name."
)
_OUT = flags.DEFINE_string("out", None, "The model file, *.safetensors.")
_LEAVE_OUT = flags.DEFINE_string("leave_out", None, "The table, *.md.")

# What `Model.candidates` names, where a caller does not.
ACTIONS = ("wave", "clap", "walk", "run", "jump", "kick", "punch", "throw", "sit down", "stand up")
CARD = """# Universal model

Recognises actions of any clip among any names. Closed form: statistics of posture and motion, a
lexicon of {actions} actions with motion sketches, and the class means of {corpora} corpora.

**For research use.** Some corpora forbid commercial use, or state no terms.

Trained on: {names}.

| corpus | terms as found |
|---|---|
| machete, precog | MIT |
| cmu_part | free for research and commercial projects |
| deepmimic | MIT; part CC BY-NC 4.0 |
| bandai1, bandai2 | CC BY-NC 4.0 |
| hdm05_part | CC BY-SA 3.0 |
| msrc12, uiprmd_vicon, irds_part, cdta, aalto_gait | none stated |
| utd_mhad, nw_ucla, kinder_gator | public, for research |

Accuracies on corpora that were left out, and limits: docs/universal.md.
"""


def check_fixed(config: ConfigDict) -> None:
    """Refuses a configuration of another model than the method can be fitted for.

    Raises:
      ValueError: names the key, what was expected and what came.
    """
    from dynapurls_jax.config import check_config
    from dynapurls_jax.training.corpora import CLIP_SHAPE, TEMPORAL_SAMPLING

    check_config(config)
    fixed = {
        "data.frames": CLIP_SHAPE[1],
        "data.temporal_sampling": TEMPORAL_SAMPLING,
        "data.streams": ("joint",),
        "encoder.name": "posture",
        "method.name": "lexicon",
        "text.encoder": "action_names",
    }
    for key, expected in fixed.items():
        section, name = key.split(".")
        if config[section][name] != expected:
            raise ValueError(f"{key}: expected {expected!r}, got {config[section][name]!r}")


def read_corpora(
    archives: Path, manual_dir: Path, datasets: Sequence[str]
) -> list["EncodedCorpus"]:
    """The corpora of a folder of archives, and public datasets.

    Raises:
      ValueError: there is no such folder.
    """
    from dynapurls_jax.training.corpora import archive_corpus, dataset_corpus

    if not archives.is_dir():
        raise ValueError(f"--archives: expected a folder, got {archives}")
    found = [archive_corpus(file) for file in sorted(archives.glob("*.npz"))]
    return found + [dataset_corpus(name, manual_dir / name) for name in datasets]


def universal_model(universal: "UniversalFit", corpora: Sequence["EncodedCorpus"]) -> "Model":
    """The model, fitted on all corpora."""
    import numpy as np

    from data_pipelines.layouts import COMMON
    from dynapurls_jax.encoders.base import trained_encoder
    from dynapurls_jax.serving.model import Classes, Model
    from dynapurls_jax.text.granularities import GRANULARITIES
    from dynapurls_jax.training.corpora import CLIP_SHAPE, posture
    from dynapurls_jax.training.left_out import LeftOut

    rows = np.repeat(universal.rows(ACTIONS)[:, None], len(GRANULARITIES), axis=1)
    return Model(
        config=universal.config,
        source=COMMON,
        skeleton=COMMON,
        clip_shape=CLIP_SHAPE,
        token_shape=universal.shapes.tokens,
        method=universal.method,
        variables=universal.fit(corpora),
        encoder=trained_encoder(posture(), {}, ("joint",), COMMON),
        classes=Classes(ACTIONS, rows),
        candidates=ACTIONS,
        texts={"texts": universal.encoder.digest, "sketches": None},
        none_below=LeftOut(universal, corpora).none_below(),
    )


def main(_: list[str]) -> None:
    """Reads corpora; trains on all, or leaves each out in turn."""
    from data_pipelines.lexicon import load_lexicon
    from dynapurls_jax.serving.model_file import write_model
    from dynapurls_jax.training.left_out import LeftOut
    from dynapurls_jax.training.universal import UniversalFit

    config = _CONFIG.value
    check_fixed(config)
    if _DATASETS.value and not _MANUAL_DIR.value:
        raise ValueError("--manual_dir: expected the folder of the datasets' folders")
    corpora = read_corpora(Path(_ARCHIVES.value), Path(_MANUAL_DIR.value or ""), _DATASETS.value)
    universal = UniversalFit(config)
    if _OUT.value:
        out = Path(_OUT.value)
        names = ", ".join(f"{c.name} ({len(c.labels)} clips)" for c in corpora)
        card = CARD.format(actions=len(load_lexicon()), corpora=len(corpora), names=names)
        write_model(universal_model(universal, corpora), out, card)
        print(f"written: {out}, {out.stat().st_size / 1e6:.2f} MB")
        print(f'next: dynapurls predict --actions="walk,run" --clips=my_clips --model={out}')
    if _LEAVE_OUT.value:
        Path(_LEAVE_OUT.value).write_text(LeftOut(universal, corpora).table(), "utf-8")
        print(f"written: {_LEAVE_OUT.value}")


if __name__ == "__main__":
    if not any(argument.partition("=")[0] == "--config" for argument in sys.argv):
        sys.argv.insert(1, "--config=universal")  # as a flag's default, --help would import JAX
    run(main)
