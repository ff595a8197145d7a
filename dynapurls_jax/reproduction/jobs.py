"""The work behind the tables: jobs on one trained run each, done once and kept."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from dynapurls_jax.adaptation import dynapurls, run_stream
from dynapurls_jax.adaptation.api import finite
from dynapurls_jax.adaptation.registry import make_adapter, make_method, refine_settings
from dynapurls_jax.adaptation.sweep import grid_of, sweep
from dynapurls_jax.zero_shot.purls import ZeroShotModel
from dynapurls_jax.zero_shot.oracle import MARK, oracle_hit_rate
from dynapurls_jax.zero_shot.nn.partition import Text, VisualFeatures
from dynapurls_jax.config import plain
from dynapurls_jax.evaluation.gzsl import TABLE_9, fit_gate
from dynapurls_jax.evaluation.gzsl_report import pseudo_split
from dynapurls_jax.evaluation.streams import candidate_text, stream_key, stream_order
from dynapurls_jax.reproduction.tables import CAPACITIES, THRESHOLDS, Overrides, Table
from dynapurls_jax.text.prompts import tower_prompt
from dynapurls_jax.training import evaluate_gzsl
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.run import (
    PLACES,
    Inputs,
    TrainedRun,
    load_inputs,
    train_one,
    trained_seeds,
)

Results = dict[str, list[float]]  # a name to a figure for each stream order
GATE = "entropy"  # the paper's
LONG = 5.0  # seconds after which a speed is not measured again


@dataclass(frozen=True)
class Job:
    """One configuration on one split and seed.

    Attributes:
      kind: a name in `KINDS`.
      split, seed: of the trained run.
      overrides: of the dataset's configuration, as sorted pairs.
    """

    kind: str
    split: str
    seed: int
    overrides: tuple[tuple[str, object], ...]


def runs_of(config: ConfigDict, seeds: int) -> list[tuple[str, int]]:
    """Splits and seeds; several random splits of a size are their own repetition."""
    sizes = Counter(map(group_of, config.splits))
    return [
        (split, seed)
        for split in config.splits
        for seed in (range(seeds) if sizes[group_of(split)] == 1 else (0,))
    ]


def group_of(split: str) -> str:
    """What is averaged over: a split, or all random ones of a size."""
    return split.rpartition("-")[0] if split.startswith("random-") else split


def jobs_of(table: Table, config: ConfigDict, seeds: int) -> list[Job]:
    """Everything that a table needs, each job once, run by run."""
    return list(
        dict.fromkeys(
            job_of(column.kind, split, seed, row.overrides | column.overrides)
            for split, seed in runs_of(config, seeds)
            for row in table.rows
            for column in table.columns
            if possible(config, row.overrides | column.overrides)
        )
    )


def possible(config: ConfigDict, overrides: Overrides) -> bool:
    """Whether there is such a thing for this dataset: tpt needs a text encoder with a tower."""
    return overrides.get("eval.adapter") != "tpt" or config.text.encoder in ("clip", "minilm")


def job_of(kind: str, split: str, seed: int, overrides: Overrides) -> Job:
    """A job; overrides in whatever order."""
    return Job(kind, split, seed, tuple(sorted(overrides.items())))


class Runner:
    """Does jobs of one dataset, and remembers what is loaded between them."""

    def __init__(self, config: ConfigDict, workdir: Path):
        """Reads nothing yet.

        Args:
          config: of the dataset, before any override.
          workdir: of its trained runs; what is missing there is trained.
        """
        self._config, self._workdir = config, workdir
        self._inputs = lru_cache(4)(self._load)
        self._trained = lru_cache(1)(self._train)  # the tokens of NTU are gigabytes

    def __call__(self, job: Job) -> Results:
        """The results of a job; trains what it needs."""
        config = changed(self._config, dict(job.overrides))
        texts = FrozenConfigDict(config.text)
        inputs = replace(self._inputs(texts), config=config)
        alignment = FrozenConfigDict(config.alignment)
        pseudo = pseudo_split(job.split)
        if job.kind == "gzsl" and 0 not in trained_seeds(inputs, self._workdir, pseudo):
            self._train(texts, alignment, pseudo, 0)
        trained = self._trained(texts, alignment, job.split, job.seed)
        return KINDS[job.kind](inputs, trained, self._workdir)

    def sources(self) -> dict:
        """What all results are made from, beside the code: the configuration, clips and texts."""
        inputs = self._inputs(FrozenConfigDict(self._config.text))
        config = plain(self._config, *self._config)
        del config["splits"], config["seeds"]
        for key in PLACES:  # where data is, not what
            del config["data"][key]
        found = {"config": config, "corpus": inputs.corpus.digest, "texts": inputs.text_digest}
        return json.loads(json.dumps(found))

    def _load(self, texts: FrozenConfigDict) -> Inputs:
        return load_inputs(changed(self._config, {"text": ConfigDict(texts)}))

    def _train(self, texts, alignment, split: str, seed: int) -> TrainedRun:
        overrides = {"text": ConfigDict(texts), "alignment": ConfigDict(alignment)}
        config = changed(self._config, overrides)
        inputs = replace(self._inputs(texts), config=config)
        return train_one(inputs, self._workdir, split, seed, variant_of(self._config, config))


def changed(config: ConfigDict, overrides: Overrides) -> ConfigDict:
    """A copy of a configuration with some keys changed.

    Raises:
      KeyError: there is no such key.
    """
    new = config.copy_and_resolve_references()
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if name:
            new[section][name] = value
        else:
            new[section] = value
    return new.lock()


def variant_of(base: ConfigDict, config: ConfigDict) -> str:
    """The folder, in a run's, of an alignment that differs from the dataset's own; else ""."""
    differs = [
        f"{section}.{key}={config[section][key]}"
        for section in ("text", "alignment")
        for key in sorted(config[section])
        if config[section][key] != base[section][key] and key != "query"
    ]
    return f"variants/{','.join(differs).replace('/', '_')}" if differs else ""


def zsl(inputs: Inputs, trained: TrainedRun, _: Path) -> Results:
    """Accuracy on the unseen clips in each stream order; of a static model also with all rows."""
    config = inputs.config
    model, text, stream, labels = unseen(inputs, trained)
    variables = trained.variables
    if config.alignment.query == "oracle_label":
        rate = oracle_hit_rate(model, variables, stream, text, jnp.asarray(labels))
        return {MARK: [float(rate)]}
    if config.eval.adapter == "static":
        rows = model.project(variables, stream, model.queries(text))
        usable = finite(stream)  # a damaged clip is nobody's, as along a stream
        found = {"chance": [1 / len(text.classes)]}
        for name, match in (("accuracy", model.match), ("all rows", model.match_all)):
            predicted = match(variables, rows, text.classes).argmax(-1)
            found[name] = [hit_rate(jnp.where(usable, predicted, -1), labels)]
        return found
    orders = [
        stream_order(config.eval.stream, labels, trained.seed, number)
        for number in range(config.eval.orders)
    ]
    settings, prompt_of = FrozenConfigDict(config), prompts(inputs, trained, model)
    rates = []
    for number, order in enumerate(orders):
        key = stream_key(trained.seed, number)
        predicted = answer(model, settings, prompt_of, variables, text, stream, order, key)
        rates.append(hit_rate(predicted, labels[order]))
    return {"accuracy": rates}


@partial(jax.jit, static_argnums=(0, 1, 2))
def answer(model: ZeroShotModel, settings, prompt_of, variables, text, stream, order, key):
    """Labels along one order; compiled once for all runs of a size."""
    shuffled = jax.tree.map(lambda leaf: leaf[order], stream)
    name = settings.eval.adapter
    method = make_method(name, settings, model, variables, stream, len(order), prompt_of)
    adapter = make_adapter(settings, method)
    state = adapter.init(text, key=key)
    return run_stream(adapter, state, shuffled, chunk=settings.eval.chunk)[1].label


def prompts(inputs: Inputs, trained: TrainedRun, model: ZeroShotModel) -> Callable | None:
    """What makes the prompt of tpt; None for other methods, whose programs serve several runs."""
    config, unseen_classes = inputs.config, trained.protocol.unseen
    if config.eval.adapter != "tpt":
        return None
    prompt = tower_prompt(config.text, inputs.corpus, unseen_classes, model.rows)
    return lambda: prompt  # made here: weights cannot be read while a program is traced


def unseen(inputs: Inputs, trained: TrainedRun) -> tuple[ZeroShotModel, Text, VisualFeatures, np.ndarray]:
    """The model, candidates, clips and labels of the zero-shot test."""
    protocol = trained.protocol
    model = model_of(inputs.config, inputs.text.shape[-1])
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
    stream = model.encode(trained.variables, trained.tokens_of(protocol.unseen_test))
    labels = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])
    return model, text, stream, labels


def hit_rate(predicted, labels) -> float:
    """Share of hits."""
    return float(np.mean(np.asarray(predicted) == labels))


def gzsl(inputs: Inputs, trained: TrainedRun, workdir: Path) -> Results:
    """S, U and H of the rows of Table 9 behind the entropy gate, in each stream order."""
    pseudo = evaluate_gzsl.pseudo_clips(inputs, workdir, trained.split, (0,))
    result = evaluate_gzsl.evaluate_run(inputs, trained, {GATE: fit_gate(GATE, pseudo)})
    return {
        f"{row} {side}": list(values)
        for row in TABLE_9
        for side, values in zip("SUH", zip(*result.accuracies(GATE, row), strict=True), strict=True)
    }


def throughput(inputs: Inputs, trained: TrainedRun, _: Path) -> Results:
    """Samples a millisecond along the unseen stream, the head alone; the best of some runs."""
    config = inputs.config
    model, text, stream, labels = unseen(inputs, trained)
    method = make_method(
        *(config.eval.adapter, config, model, trained.variables, stream, len(labels)),
        prompts(inputs, trained, model),
    )
    adapter = make_adapter(config, method)
    state = adapter.init(text)
    seconds: list[float] = []
    run = run_stream.lower(adapter, state, stream, chunk=config.eval.chunk).compile()
    while len(seconds) < 3 and sum(seconds) < LONG:
        start = time.perf_counter()
        jax.block_until_ready(run(state, stream))
        seconds.append(time.perf_counter() - start)
    return {"samples/ms": [len(labels) / (1000 * min(seconds))]}


def sensitivity(inputs: Inputs, trained: TrainedRun, _: Path) -> Results:
    """Figure 7: accuracies of every threshold and of every capacity, in each stream order."""
    config = inputs.config
    model, text, stream, labels = unseen(inputs, trained)
    orders = np.stack(
        [
            stream_order(config.eval.stream, labels, trained.seed, number)
            for number in range(config.eval.orders)
        ]
    )

    def make(model, sample, **cell):
        settings = refine_settings(config, len(labels), slots=max(CAPACITIES), **cell)
        return dynapurls(model, trained.variables, sample, settings)

    keys = jnp.stack([stream_key(trained.seed, number) for number in range(len(orders))])
    results = {}
    for name, grid in {
        "threshold": grid_of(threshold=THRESHOLDS, capacity=[config.refine.slots]),
        "capacity": grid_of(threshold=[config.refine.threshold], capacity=CAPACITIES),
    }.items():
        found = sweep(
            *(make, model, text, stream, orders, keys, grid),
            chunk=config.eval.chunk,
            learn_first=config.eval.turn == "learn_first",
        )
        hits = np.asarray(found.label) == labels[orders]
        for value, each in zip(grid[name], hits.mean(axis=2), strict=True):
            results[f"{name} {value:g}"] = each.tolist()
    return results


KINDS: dict[str, Callable[[Inputs, TrainedRun, Path], Results]] = {
    "zsl": zsl,
    "gzsl": gzsl,
    "throughput": throughput,
    "sweep": sensitivity,
}
