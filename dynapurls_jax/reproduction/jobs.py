"""The jobs of the tables; each evaluates one trained run."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.protocols import pseudo_split
from data_pipelines.skeletons import KINECT_V1
from dynapurls_jax.adaptation.api import Method, StreamInfo, finite, run_stream
from dynapurls_jax.adaptation.dynapurls import DynaPurlsSettings, dynapurls
from dynapurls_jax.adaptation.registry import supports
from dynapurls_jax.adaptation.sweep import SweepTask, grid_of, sweep
from dynapurls_jax.evaluation.evaluate_gzsl import (
    clips_of_test,
    evaluate_gzsl_run,
    pseudo_clips,
    seen_classes,
    static_logits,
)
from dynapurls_jax.evaluation.gzsl import (
    TABLE_9,
    PseudoClips,
    fit_gate,
    gate_of,
    generalised_accuracy,
    scores_of,
)
from dynapurls_jax.evaluation.metrics import accuracy
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.tasks import (
    ORACLE,
    Task,
    oracle_hit_rate,
    orders_of,
    predict_order,
    setup_of,
    unseen_task,
)
from dynapurls_jax.evaluation.trained_run import Inputs, TrainedRun
from dynapurls_jax.registry import plain, settings_of
from dynapurls_jax.reproduction.layout import EVERY_GRANULARITY, Overrides, Table, overrides_of
from dynapurls_jax.reproduction.tables import CAPACITIES, THRESHOLDS
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.run import encoder_is_trained, make_spec, read_inputs, train_runs
from dynapurls_jax.training.spec import PATH_KEYS
from dynapurls_jax.zero_shot.base import Shapes, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import make_method

Results = dict[str, list[float]]  # name to a value for each stream order
GATE = "entropy"  # the gate of the paper
STACKING = "stacking"  # the project's gate
LONG = 5.0  # seconds after which a speed measurement is not repeated
RANDOM_SPLITS = 3  # of each size
SMALL_SHAPES = Shapes(KINECT_V1, (1, 20, 4), 8)  # what a method supports is independent of shapes
TOWERS = ("clip", "minilm")  # text encoders that support prompts of tpt
TEST_SECTIONS = ("adapter", "eval", "splits", "seeds")  # sections without influence on training


@dataclass(frozen=True)
class Job:
    """One configuration on one split and seed.

    Attributes:
      kind: a name in `KINDS`.
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
        part = FrozenConfigDict({key: config[key] for key in config if key not in TEST_SECTIONS})

        def run(split: str, seed: int) -> TrainedRun:
            trained = self._trained(part, split, self._together(config, split, seed))[seed]
            return replace(trained, inputs=replace(trained.inputs, config=config))

        def pseudo_run() -> TrainedRun:
            return run(pseudo_split(job.split), 0)

        return KINDS[job.kind](run(job.split, job.seed), pseudo_run)

    def sources(self) -> dict:
        """Everything but the code that results depend on: configuration, clips and texts."""
        inputs = self._inputs(FrozenConfigDict(self._config.text))
        config = plain(self._config, *self._config)
        del config["splits"], config["seeds"]
        for key in PATH_KEYS:
            del config["data"][key]
        return {
            "config": config,
            "corpus": inputs.corpus.digest,
            "texts": inputs.text_digest,
            "sketches": inputs.sketches_digest,
        }

    def _read(self, text: FrozenConfigDict) -> Inputs:
        return read_inputs(changed(self._config, {"text": ConfigDict(text)}))

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
        inputs = replace(self._inputs(FrozenConfigDict(config.text)), config=config)
        specs = [make_spec(inputs, self._workdir, split, seed) for seed in seeds]
        return dict(zip(seeds, train_runs(specs), strict=True))


PseudoRun = Callable[[], TrainedRun]


def zsl(run: TrainedRun, _: PseudoRun) -> Results:
    """Accuracy in [0, 1] on the unseen clips, for each stream order."""
    task = unseen_task(run)
    if run.method.oracle is not None:
        return {ORACLE: [oracle_hit_rate(run, task)]}
    if run.config.adapter.name == "static":
        return _static(run, task)
    setup, rates = setup_of(run, task.class_ids), []
    for number, order in enumerate(orders_of(run, task.labels)):
        key = key_of(run.seed, "stream", number)
        predicted = predict_order(setup, run.variables, task.inputs, order, key)
        rates.append(accuracy(np.asarray(predicted), task.labels[order]))
    return {"accuracy": rates}


def _static(run: TrainedRun, task: Task) -> Results:
    """The results of a model without adaptation, which do not depend on the stream order."""
    usable = finite(task.features)  # a non-finite clip has no prediction, as in a stream

    def rate(logits) -> list[float]:
        predicted = jnp.where(usable, logits.argmax(axis=-1), -1)
        return [accuracy(np.asarray(predicted), task.labels)]

    variables, candidates = run.variables, task.candidates
    results = {
        "accuracy": rate(run.method.score(variables, task.features, candidates)),
        "chance": [1 / len(task.class_ids)],
    }
    if (embedding := run.method.embedding) is not None:
        vectors = embedding.embed(variables, task.features, candidates)
        results[EVERY_GRANULARITY] = rate(
            embedding.match_all(variables, vectors, candidates.classes)
        )
    return results


def refined(run: TrainedRun, _: PseudoRun) -> Results:
    """Accuracies in [0, 1] without and with adaptation, on the samples of each stream order."""
    task = unseen_task(run)
    logits = run.method.score(run.variables, task.features, task.candidates)
    alone = np.asarray(jnp.where(finite(task.features), logits.argmax(axis=-1), -1))
    setup = setup_of(run, task.class_ids)
    results: Results = {"static": [], "refined": []}
    for number, order in enumerate(orders_of(run, task.labels)):
        key = key_of(run.seed, "stream", number)
        predicted = predict_order(setup, run.variables, task.inputs, order, key)
        results["static"].append(accuracy(alone[order], task.labels[order]))
        results["refined"].append(accuracy(np.asarray(predicted), task.labels[order]))
    return results


def gzsl(run: TrainedRun, pseudo_run: PseudoRun) -> Results:
    """S, U and H in [0, 1] of the rows of Table 9 with the entropy gate, for each stream order."""
    fit = fit_gate(GATE, [pseudo_clips(pseudo_run())])
    result = evaluate_gzsl_run(run, {GATE: fit})
    return {
        f"{row} {side}": list(values)
        for row in TABLE_9
        for side, values in zip("SUH", zip(*result.accuracies(GATE, row), strict=True), strict=True)
    }


def gates(run: TrainedRun, pseudo_run: PseudoRun) -> Results:
    """S, U and H in [0, 1] of the static model with calibrated stacking.

    Besides H of the gate that is best on the test clips, which is ORACLE.
    """
    fit = fit_gate(STACKING, [pseudo_clips(pseudo_run())])
    clips, seen = clips_of_test(run), seen_classes(run)
    logits, labels = static_logits(run, clips), run.inputs.corpus.labels[clips]
    gate = gate_of(fit, static_logits(run, run.protocol.val), seen)
    to_unseen = scores_of(STACKING, logits, seen, fit.temperature) > gate.threshold
    predicted = np.where(seen != to_unseen[:, None], logits, -np.inf).argmax(axis=1)
    best = fit_gate(STACKING, [PseudoClips(logits, labels, seen)])
    found = generalised_accuracy(predicted, labels, seen)
    values = (*found, best.harmonic)
    return {name: [value] for name, value in zip((*"SUH", f"{ORACLE} H"), values, strict=True)}


def throughput(run: TrainedRun, _: PseudoRun) -> Results:
    """Samples per millisecond on the unseen stream, without the encoder; best of up to three."""
    task = unseen_task(run)
    setup = setup_of(run, task.class_ids)
    method = setup.method(run.variables, task.features, len(task.labels))
    adapter = setup.adapter(method)
    state = adapter.init(task.candidates)
    chunk = setup.settings.chunk
    program = run_stream.lower(adapter, state, task.features, chunk=chunk).compile()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < LONG:
        start = time.perf_counter()
        jax.block_until_ready(program(state, task.features))
        seconds.append(time.perf_counter() - start)
    return {"samples/ms": [len(task.labels) / (1000 * min(seconds))]}


def sensitivity(run: TrainedRun, _: PseudoRun) -> Results:
    """Figure 7: accuracies in [0, 1] for all thresholds and capacities, for each stream order."""
    task, evaluation = unseen_task(run), settings_of(EvalSettings, run.config.eval, "eval")
    base = settings_of(DynaPurlsSettings, run.config.adapter.dynapurls, "adapter.dynapurls")
    orders = np.stack(orders_of(run, task.labels))
    keys = jnp.stack([key_of(run.seed, "stream", number) for number in range(len(orders))])

    def make(model: ZeroShotMethod, info: StreamInfo, **cell) -> Method:
        settings = replace(base, **cell)
        return dynapurls(model, run.variables, settings, info, max_capacity=max(CAPACITIES))

    results = {}
    for name, grid in {
        "threshold": grid_of(threshold=THRESHOLDS, capacity=[base.capacity]),
        "capacity": grid_of(threshold=[base.threshold], capacity=CAPACITIES),
    }.items():
        swept = sweep(
            make,
            SweepTask(run.method, task.candidates, task.features),
            orders,
            keys,
            grid,
            chunk=evaluation.chunk,
            update_before_predict=evaluation.update_before_predict,
        )
        hits = np.asarray(swept.label) == task.labels[orders]
        for value, rates in zip(grid[name], hits.mean(axis=2), strict=True):
            results[f"{name} {value:g}"] = rates.tolist()
    return results


KINDS: dict[str, Callable[[TrainedRun, PseudoRun], Results]] = {
    "zsl": zsl,
    "refined": refined,
    "gzsl": gzsl,
    "gates": gates,
    "throughput": throughput,
    "sweep": sensitivity,
}
