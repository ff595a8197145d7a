"""The jobs of the tables; each evaluates one trained run."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.protocols import pseudo_split
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.adaptation.registry import supports
from dynapurls_jax.evaluation.trained_run import Inputs, TrainedRun
from dynapurls_jax.registry import plain, settings_key
from dynapurls_jax.reproduction.kinds import ENCODER_KINDS, KINDS, Results
from dynapurls_jax.reproduction.layout import Overrides, Table, overrides_of
from dynapurls_jax.training.run import (
    encoder_is_trained,
    make_spec,
    only_training,
    read_inputs,
    train_runs,
)
from dynapurls_jax.training.spec import PATH_KEYS, RunSpec
from dynapurls_jax.zero_shot.base import Shapes
from dynapurls_jax.zero_shot.registry import METHODS, make_method

RANDOM_SPLITS = 3  # of each size
SMALL_SHAPES = Shapes(KINECT_V1, (1, 20, 4), 8)  # what a method supports is independent of shapes
TOWERS = ("clip", "minilm")  # text encoders that support prompts of tpt
TEST_SECTIONS = ("adapter", "eval", "splits", "seeds")  # sections without influence on training


@dataclass(frozen=True)
class Job:
    """One configuration on one split and seed.

    Attributes:
      kind: a name in `kinds.KINDS` or `kinds.ENCODER_KINDS`.
      overrides: changes of the dataset's configuration, as sorted pairs.
    """

    kind: str
    split: str
    seed: int
    overrides: tuple[tuple[str, object], ...]


def runs_of(config: ConfigDict, seeds: int) -> list[tuple[str, int]]:
    """Splits and seeds; several random splits of one size are used instead of seeds."""
    sizes = Counter(map(group_of, config.splits))
    return [
        (split, seed)
        for split in config.splits
        for seed in (range(seeds) if sizes[group_of(split)] == 1 else (0,))
    ]


def group_of(split: str) -> str:
    """The group over which results are averaged: a split, or all random splits of one size."""
    return split.rpartition("-")[0] if split.startswith("random-") else split


def jobs_of(table: Table, config: ConfigDict, seeds: int) -> list[Job]:
    """The jobs of a table without duplicates, ordered by split, row and seed."""
    runs = runs_of(config, seeds)
    return list(
        dict.fromkeys(
            job_of(column.kind, split, seed, overrides)
            for split in dict.fromkeys(split for split, _ in runs)
            for row in table.rows
            for seed in (seed for other, seed in runs if other == split)
            for column in table.columns
            if (overrides := overrides_of(row, column)) is not None and possible(config, overrides)
        )
    )


def possible(config: ConfigDict, overrides: Overrides) -> bool:
    """Whether a test-time method works: tpt needs a text tower, others need vectors."""
    name = overrides.get("adapter.name", "static")
    if name == "tpt" and config.text.encoder not in TOWERS:
        return False
    section = changed(config, overrides).method
    return supports(name, make_method(section, SMALL_SHAPES))


def config_of(table: Table, config: ConfigDict) -> ConfigDict:
    """A dataset's configuration with the splits of a table."""
    if not table.random:
        return config
    sizes = dict.fromkeys(size_of(split) for split in config.splits)
    new = config.copy_and_resolve_references()
    new.splits = tuple(f"random-{size}-{k}" for size in sizes for k in range(RANDOM_SPLITS))
    return new.lock()


def size_of(split: str) -> str:
    """Numbers of seen and unseen classes: "22_5" of "22_5" and of "random-22_5-0"."""
    return group_of(split).removeprefix("random-")


def job_of(kind: str, split: str, seed: int, overrides: Overrides) -> Job:
    """A job; the order of the overrides has no effect."""
    return Job(kind, split, seed, tuple(sorted(overrides.items())))


def changed(config: ConfigDict, overrides: Overrides) -> ConfigDict:
    """A copy of a configuration with overrides.

    Raises:
      KeyError: a key does not exist.
    """
    new = config.copy_and_resolve_references()
    new.update_from_flattened_dict(overrides)
    return new.lock()


class Runner:
    """Runs the jobs of one dataset; caches inputs and trained runs."""

    def __init__(self, config: ConfigDict, workdir: Path, seeds: int = 1):
        """Prepares the caches; inputs are read by the first job.

        Args:
          config: configuration of the dataset, without overrides.
          workdir: folder of the trained runs; missing runs are trained.
          seeds: of each split; those with the same tokens are trained together.
        """
        self._config, self._workdir, self._seeds = config, workdir, seeds
        self._inputs = lru_cache(4)(self._read)
        self._trained = lru_cache(8)(self._train)  # runs of some seeds, and pseudo runs

    def __call__(self, job: Job) -> Results:
        """Runs a job and returns its results."""
        config = changed(self._config, dict(job.overrides))
        if job.kind in ENCODER_KINDS:
            with only_training(self._workdir):
                return ENCODER_KINDS[job.kind](self._spec(config, job.split, job.seed))
        part = FrozenConfigDict({key: config[key] for key in config if key not in TEST_SECTIONS})

        def run(split: str, seed: int) -> TrainedRun:
            trained = self._trained(part, split, self._together(config, split, seed))[seed]
            return replace(trained, inputs=replace(trained.inputs, config=config))

        def pseudo_run() -> TrainedRun:
            return run(pseudo_split(job.split), 0)

        return KINDS[job.kind](run(job.split, job.seed), pseudo_run)

    def sources(self, job: Job) -> dict:
        """Everything but the code that a job's results depend on: configuration, clips and texts.

        The configuration is that of the dataset, without the settings of other encoders and
        zero-shot methods: results remain valid when a new one is added. The texts are the job's.
        """
        chosen, config = changed(self._config, dict(job.overrides)), dict(self._plain)
        for part in ("encoder", "method"):
            used = {"name", settings_key(chosen[part].name)}
            config[part] = {key: config[part][key] for key in sorted(used & config[part].keys())}
        inputs = self._inputs(FrozenConfigDict(chosen.text))
        words = METHODS.entry(chosen.method.name).words
        return {
            "config": config,
            "corpus": inputs.corpus.digest,
            "texts": inputs.text_digest,
            "sketches": inputs.sketches_digest,
        } | ({"words": inputs.words_digest} if words else {})

    @cached_property
    def _plain(self) -> dict:
        """The dataset's configuration, with the settings of all encoders and zero-shot methods."""
        config = plain(self._config, *self._config)
        del config["splits"], config["seeds"]
        for key in PATH_KEYS:
            del config["data"][key]
        return config

    def _read(self, text: FrozenConfigDict) -> Inputs:
        return read_inputs(changed(self._config, {"text": ConfigDict(text)}))

    def _spec(self, config: ConfigDict, split: str, seed: int) -> RunSpec:
        inputs = replace(self._inputs(FrozenConfigDict(config.text)), config=config)
        return make_spec(inputs, self._workdir, split, seed)

    def _together(self, config: ConfigDict, split: str, seed: int) -> tuple[int, ...]:
        """The seeds of a split that are trained together with one of them."""
        group = [s for name, s in runs_of(config, self._seeds) if name == split]
        if seed not in group or encoder_is_trained(config):
            return (seed,)
        return tuple(group)

    def _train(
        self, part: FrozenConfigDict, split: str, seeds: tuple[int, ...]
    ) -> dict[int, TrainedRun]:
        config = changed(self._config, dict(ConfigDict(part).items()))
        specs = [self._spec(config, split, seed) for seed in seeds]
        with only_training(self._workdir):
            return dict(zip(seeds, train_runs(specs), strict=True))
