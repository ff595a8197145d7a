"""The specification of a training run, which all stages read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.protocols import Protocol
from dynapurls_jax.evaluation.trained_run import Inputs
from dynapurls_jax.registry import plain

# Keys of `config.data` without influence on the data; the digest of the corpus identifies it.
PATH_KEYS = ("manual_dir", "skip_bad")


@dataclass(frozen=True)
class RunSpec:
    """One split and seed of a configuration.

    Attributes:
      folder: folder of the run, `<workdir>/<split>/seed<k>`; each stage has a folder in it.
      profile: write traces of some training steps.
    """

    inputs: Inputs
    split: str
    seed: int
    protocol: Protocol
    folder: Path
    profile: bool = False

    @property
    def config(self) -> ConfigDict:
        return self.inputs.config

    @property
    def seen_labels(self) -> np.ndarray:
        """`[N]` labels as indices into the seen classes; valid for clips of seen classes only."""
        return np.searchsorted(self.protocol.seen, self.inputs.corpus.labels)

    def identity(self) -> dict:
        """The part of the identity that all stages share: clips, classes, training indices, seed.

        It has the classes of the split, not its name: a redefined split is another run.
        """
        data = plain(self.config, "data")["data"]
        corpus = self.inputs.corpus
        return {
            "data": {key: value for key, value in data.items() if key not in PATH_KEYS},
            "corpus": corpus.digest,
            "prepared": None if self.inputs.clips is None else self.inputs.clips.version,
            "seen_classes": [corpus.class_names[c] for c in self.protocol.seen],
            "train_clips": _digest(self.protocol.train),
            "validation_clips": _digest(self.protocol.val),
            "seed": self.seed,
        }


def _digest(indices: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(indices, np.int64).tobytes()).hexdigest()[:16]
