"""The work behind the tables: jobs on one trained run each, done once and kept."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from dynapurls_jax.adaptation import RefineSettings, dynapurls, run_stream
from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.adaptation.sweep import grid_of, sweep
from dynapurls_jax.alignment.model import ZeroShotModel
from dynapurls_jax.alignment.oracle import oracle_hit_rate
from dynapurls_jax.alignment.partition import Text, Visual
from dynapurls_jax.config import plain
from dynapurls_jax.evaluation.gzsl import TABLE_9, fit_gate
from dynapurls_jax.evaluation.gzsl_report import pseudo_split
from dynapurls_jax.evaluation.zero_shot import candidate_text, stream_key, stream_order
from dynapurls_jax.reproduction.tables import CAPACITIES, THRESHOLDS, Overrides, Table
from dynapurls_jax.text.prompts import tower_prompt
from dynapurls_jax.training import evaluate_gzsl
from dynapurls_jax.training.align import model_of
from dynapurls_jax.training.run import Inputs, TrainedRun, load_inputs, train_one

Results = dict[str, list[float]]  # a name to a figure for each stream order
GATE = "entropy"  # the paper's


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
        self._trained = lru_cache(2)(self._train)

    def __call__(self, job: Job) -> Results:
        """The results of a job; trains what it needs."""
        config = changed(self._config, dict(job.overrides))
        texts = FrozenConfigDict(config.text)
        inputs = replace(self._inputs(texts), config=config)
        alignment = FrozenConfigDict(config.alignment)
        trained = self._trained(texts, alignment, job.split, job.seed)
        if job.kind == "gzsl":
            self._trained(texts, alignment, pseudo_split(job.split), 0)
        return KINDS[job.kind](inputs, trained, self._workdir)

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
        return {"accuracy": [float(rate)]}
    if config.eval.adapter == "static":
        rows = model.project(variables, stream, model.queries(text))
        scored = model.match(variables, rows, text.classes).argmax(-1)
        weighted = model.match_all(variables, rows, text.classes).argmax(-1)
        return {
            "accuracy": [hit_rate(scored, labels)],
            "all rows": [hit_rate(weighted, labels)],
            "chance": [1 / len(text.classes)],
        }
    orders = [
        stream_order(config.eval.stream, labels, trained.seed, number)
        for number in range(config.eval.orders)
    ]
    settings, prompt_of = FrozenConfigDict(config), prompts(inputs, trained, model)
    found = []
    for number, order in enumerate(orders):
        key = stream_key(trained.seed, number)
        predicted = answer(model, settings, prompt_of, variables, text, stream, order, key)
        found.append(hit_rate(predicted, labels[order]))
    return {"accuracy": found}


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


def unseen(inputs: Inputs, trained: TrainedRun) -> tuple[ZeroShotModel, Text, Visual, np.ndarray]:
    """The model, candidates, clips and labels of the zero-shot test."""
    protocol = trained.protocol
    model = model_of(inputs.config, inputs.text.shape[-1])
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
    stream = model.encode(trained.variables, trained.tokens[protocol.unseen_test])
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
    """Samples a millisecond along the unseen stream, the head alone; the best of three runs."""
    config = inputs.config
    model, text, stream, labels = unseen(inputs, trained)
    method = make_method(
        *(config.eval.adapter, config, model, trained.variables, stream, len(labels)),
        prompts(inputs, trained, model),
    )
    adapter = make_adapter(config, method)
    state, seconds = adapter.init(text), []
    for _again in range(4):  # the first one compiles
        start = time.perf_counter()
        jax.block_until_ready(run_stream(adapter, state, stream, chunk=config.eval.chunk))
        seconds.append(time.perf_counter() - start)
    return {"samples/ms": [len(labels) / (1000 * min(seconds[1:]))]}


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
    fixed = dict(config.refine) | {"horizon": -(-len(labels) // config.eval.chunk)}
    del fixed["anneal"], fixed["threshold"]
    fixed["slots"] = max(CAPACITIES)

    def make(model, sample, **cell):
        return dynapurls(model, trained.variables, sample, RefineSettings(**(fixed | cell)))

    keys = jnp.stack([stream_key(trained.seed, number) for number in range(len(orders))])
    results = {}
    for name, grid in {
        "threshold": grid_of(threshold=THRESHOLDS, capacity=[config.refine.slots]),
        "capacity": grid_of(threshold=[config.refine.threshold], capacity=CAPACITIES),
    }.items():
        found = sweep(make, model, text, stream, orders, keys, grid, chunk=config.eval.chunk)
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


class Records:
    """What was computed already: one JSON line for each job, appended as it is done."""

    def __init__(self, file: Path, config: ConfigDict, commit: str):
        """Opens or starts the file.

        Args:
          file: of one dataset.
          config: what a record must have been made from to count, before overrides.
          commit: of the code, kept with every new record.
        """
        self._file, self._commit = file, commit
        self._made_from = json.loads(json.dumps(plain(config, *config)))
        self._made_from.pop("splits")
        self._made_from.pop("seeds")
        self._known = {self._key(record["job"]): record for record in self._read()}

    def _read(self) -> Iterator[dict]:
        if not self._file.exists():
            return
        for line in self._file.read_text("utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # half a line: it was killed while writing
                continue
            if record["config"] == self._made_from:
                yield record

    @staticmethod
    def _key(job: dict) -> str:
        return json.dumps(job, sort_keys=True)

    def get(self, job: Job) -> dict | None:
        """`{"results", "commit"}` of a job, or None."""
        return self._known.get(self._key(json.loads(json.dumps(asdict(job)))))

    def add(self, job: Job, results: Results) -> None:
        """Keeps the results of a job."""
        record = {"job": json.loads(json.dumps(asdict(job))), "results": results}
        record |= {"commit": self._commit, "config": self._made_from}
        self._known[self._key(record["job"])] = record
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self._file.exists() or self._file.read_bytes()[-1:] in (b"", b"\n")
        with self._file.open("a", encoding="utf-8") as file:
            file.write(("" if fresh else "\n") + json.dumps(record) + "\n")
