"""Trains the universal model on clip archives and on the project's small datasets.

  python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER --out=FILE.safetensors
  python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER --leave_out=TABLE.md
  python scripts/train_universal.py ... --leave_out=TABLE.md --config.method.lexicon.ridge=2.0

--manual_dir has a folder for each of --datasets, with its owner's archive. --leave_out writes what
the method reaches on each corpus when it is trained on the others alone, as a Markdown table.
Settings are those of configs/universal.py, of which the encoder, the frames and the text encoder
cannot be others.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.layouts import COMMON
from data_pipelines.lexicon import load_lexicon
from dynapurls_jax.config import check_config
from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.encoders.kinematics import KinematicsSettings
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams, stream_order
from dynapurls_jax.evaluation.tasks import StreamSetup
from dynapurls_jax.flags import define_config, run
from dynapurls_jax.registry import settings_of
from dynapurls_jax.serving.model import Classes, Model
from dynapurls_jax.serving.model_file import write_model
from dynapurls_jax.text.encoders import make_text_encoder
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.training.corpora import (
    CLIP_SHAPE,
    TEMPORAL_SAMPLING,
    EncodedCorpus,
    archive_corpus,
    dataset_corpus,
    kinematics,
)
from dynapurls_jax.training.universal import (
    ImaginedLexicon,
    fit_universal,
    means_of,
)
from dynapurls_jax.zero_shot.base import Shapes, Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import METHODS, make_method

_CONFIG = define_config(default=str(Path(__file__).parents[1] / "configs" / "universal.py"))
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

Recognises actions of any clip among any names. Closed form: kinematic statistics, a lexicon of
{actions} actions with motion sketches, and the class means of {corpora} corpora.

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
HEADER = (
    "| corpus | classes | clips | chance | ridge | clip by clip | centred | refined "
    "| together | together, no name in the lexicon |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


def check_fixed(config: ConfigDict) -> None:
    """Refuses a configuration of another model than the method can be fitted for.

    Raises:
      ValueError: names the key, what was expected and what came.
    """
    check_config(config)
    fixed = {
        "data.frames": CLIP_SHAPE[1],
        "data.temporal_sampling": TEMPORAL_SAMPLING,
        "data.streams": ("joint",),
        "encoder.name": "kinematics",
        "method.name": "lexicon",
        "text.encoder": "action_names",
    }
    for key, expected in fixed.items():
        section, name = key.split(".")
        if config[section][name] != expected:
            raise ValueError(f"{key}: expected {expected!r}, got {config[section][name]!r}")
    if ENCODERS.settings(config.encoder) != KinematicsSettings():
        raise ValueError(f"encoder.kinematics: expected the defaults, {KinematicsSettings()}")


def read_corpora(archives: Path, manual_dir: Path, datasets: Sequence[str]) -> list[EncodedCorpus]:
    """The corpora of a folder of archives, and public datasets.

    Raises:
      ValueError: there is no such folder.
    """
    if not archives.is_dir():
        raise ValueError(f"--archives: expected a folder, got {archives}")
    found = [archive_corpus(file) for file in sorted(archives.glob("*.npz"))]
    return found + [dataset_corpus(name, manual_dir / name) for name in datasets]


def method_of(config: ConfigDict, text_width: int) -> tuple[ZeroShotMethod, Shapes]:
    """The zero-shot method of a configuration."""
    shapes = Shapes(COMMON, (1, COMMON.num_joints, 12), text_width)
    return make_method(config.method, shapes), shapes


def universal_model(config: ConfigDict, corpora: Sequence[EncodedCorpus]) -> Model:
    """The model, fitted on all corpora."""
    settings, text = settings_of(TextSettings, config.text, "text"), METHODS.settings(config.method)
    encoder = make_text_encoder(settings)
    lexicon = ImaginedLexicon(load_lexicon(), encoder)
    means = [means_of(c, encoder.encode(list(c.class_names)), text) for c in corpora]
    variables = fit_universal(text, means, lexicon.actions())
    rows = np.repeat(encoder.encode(list(ACTIONS))[:, None], len(GRANULARITIES), axis=1)
    method, shapes = method_of(config, rows.shape[-1])
    return Model(
        config=config,
        source=COMMON,
        skeleton=COMMON,
        clip_shape=CLIP_SHAPE,
        token_shape=shapes.tokens,
        method=method,
        variables=variables,
        encoder=trained_encoder(kinematics(), {}, ("joint",), COMMON),
        classes=Classes(ACTIONS, rows),
        candidates=ACTIONS,
        texts={"texts": encoder.digest, "sketches": None},
    )


class LeftOut:
    """Accuracies on corpora that the method was not fitted on."""

    def __init__(self, config: ConfigDict, corpora: Sequence[EncodedCorpus]):
        self.config, self.corpora = config, corpora
        self.settings = METHODS.settings(self.config.method)
        encoder = make_text_encoder(settings_of(TextSettings, self.config.text, "text"))
        self.lexicon = ImaginedLexicon(load_lexicon(), encoder)
        self.text = {c.name: encoder.encode(list(c.class_names)) for c in corpora}
        self.means = {c.name: means_of(c, self.text[c.name], self.settings) for c in corpora}
        self.method, _ = method_of(self.config, encoder.encode(["walk"]).shape[1])

    def row(self, corpus: EncodedCorpus) -> list[float]:
        """Macro accuracies of one corpus, in the order of the table."""
        others = [c for c in self.corpora if c is not corpus]
        means = [self.means[c.name] for c in others]
        fitted = fit_universal(self.settings, means, self.lexicon.actions())
        names = [n for n in self.lexicon.names if _plain(n) in map(_plain, corpus.class_names)]
        without = fit_universal(self.settings, means, self.lexicon.actions(names))
        return [
            self._ridge(corpus, others),
            self._accuracy(corpus, self.method, fitted, "static"),
            self._accuracy(corpus, self.method, fitted, "centred"),
            self._accuracy(corpus, self.method, fitted, "recentred"),
            self._accuracy(corpus, self.method, fitted, "together"),
            self._accuracy(corpus, self.method, without, "together"),
        ]

    def _ridge(self, corpus: EncodedCorpus, others: list[EncodedCorpus]) -> float:
        """The closed-form baseline, centred along the stream too."""
        config = self.config.copy_and_resolve_references()
        config.method.name = "ridge"
        method, _ = method_of(config, self.method_width)
        offsets = np.cumsum([0, *(len(c.class_names) for c in others)])
        labels = np.concatenate([c.labels + n for c, n in zip(others, offsets, strict=False)])
        tokens = np.concatenate([c.tokens for c in others])
        text = np.concatenate([self.text[c.name] for c in others])[:, None]
        assert method.fit is not None
        fitted = jax.jit(method.fit)(jax.random.key(0), tokens, labels, text)
        return self._accuracy(corpus, method, fitted, "centred")

    @property
    def method_width(self) -> int:
        return next(iter(self.text.values())).shape[1]

    def _accuracy(
        self, corpus: EncodedCorpus, method: ZeroShotMethod, variables: Variables, adapter: str
    ) -> float:
        """Macro accuracy along one shuffled stream, %; "together": when it comes a second time."""
        section = self.config.copy_and_resolve_references().adapter
        section.name = "static" if adapter == "static" else "recentred"
        section.recentred.gain = 0.0 if adapter == "centred" else section.recentred.gain
        setup = StreamSetup(method, FrozenConfigDict(section), EvalSettings(chunk=8))
        features = method.encode(variables, jnp.asarray(corpus.tokens))
        candidates = method.bind(variables, jnp.asarray(self.text[corpus.name][:, None]))
        stream = setup.adapter(setup.method(variables, features, samples=None))
        order = stream_order("shuffled", corpus.labels, 0, 0)
        rounds = np.tile(order, 2 if adapter == "together" else 1)
        found = predict_streams(stream, StreamInputs(features, candidates), [rounds], 0, chunk=8)
        truth = corpus.labels[order]
        hits = found.predicted[0][-len(order) :] == truth
        return 100 * float(np.mean([hits[truth == c].mean() for c in np.unique(truth)]))


def _plain(name: str) -> str:
    """A name in lower case, without punctuation."""
    return "".join(c for c in name.lower().replace("-", " ") if c.isalpha() or c == " ").strip()


def left_out_table(config: ConfigDict, corpora: Sequence[EncodedCorpus]) -> str:
    """Each corpus by a model of the others, and the mean over corpora, as Markdown."""
    study, lines, rows = LeftOut(config, corpora), [HEADER], []
    for corpus in corpora:
        rows.append(study.row(corpus))
        classes = len(corpus.class_names)
        sizes = f"{classes} | {len(corpus.labels)} | {100 / classes:.1f}"
        cells = " | ".join(f"{value:.1f}" for value in rows[-1])
        lines.append(f"| {corpus.name} | {sizes} | {cells} |\n")
        print(lines[-1], end="", flush=True)
    cells = " | ".join(f"{value:.1f}" for value in np.mean(rows, axis=0))
    return "".join([*lines, f"| mean | | | | {cells} |\n"])


def main(_: list[str]) -> None:
    """Reads corpora; trains on all, or leaves each out in turn."""
    config = _CONFIG.value
    check_fixed(config)
    if _DATASETS.value and not _MANUAL_DIR.value:
        raise ValueError("--manual_dir: expected the folder of the datasets' folders")
    corpora = read_corpora(Path(_ARCHIVES.value), Path(_MANUAL_DIR.value or ""), _DATASETS.value)
    if _OUT.value:
        out = Path(_OUT.value)
        names = ", ".join(f"{c.name} ({len(c.labels)} clips)" for c in corpora)
        card = CARD.format(actions=len(load_lexicon()), corpora=len(corpora), names=names)
        write_model(universal_model(config, corpora), out, card)
        print(f"{out}, {out.stat().st_size / 1e6:.2f} MB")
    if _LEAVE_OUT.value:
        Path(_LEAVE_OUT.value).write_text(left_out_table(config, corpora), "utf-8")


if __name__ == "__main__":
    run(main)
