"""Where test-time refinement helps, where it hurts, and how much there is to gain.

  python scripts/studies/refinement.py --pseudo    pseudo-unseen classes: to choose on
  python scripts/studies/refinement.py             unseen classes, once, after the choice
  python scripts/studies/refinement.py --datasets nw_ucla --method ridge --streams blocked

Trains missing runs (kinematic statistics and a zero-shot method), then runs every test-time method
over several orders of each run's stream: shuffled, with classes in blocks, with class ratios of
1:10. Gains are paired with the static model on the same samples, in points. Bounds that use labels
are marked ORACLE: `labels`, the balanced method with the truth as assignments; `prior`, the same
method with the classes' true shares; `labelled memory`, the paper's refinement with every sample
stored under its true class. A run is a split and seed; "hurt" is the share of runs x orders that
lose more than a point.
"""

from pathlib import Path

from study_runs import DATASETS, PSEUDO, ROOT, real_runs

from dynapurls_jax.commands import parser_of
from dynapurls_jax.evaluation.settings import STREAMS
from dynapurls_jax.zero_shot.registry import METHODS

PARSER = parser_of(__doc__)
PARSER.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
PARSER.add_argument("--method", choices=METHODS.names, default="sketch", help="zero-shot")
PARSER.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
PARSER.add_argument("--orders", type=int, default=5)
PARSER.add_argument(
    "--seeds", type=int, default=5, help="of each split, or random splits of a size"
)
PARSER.add_argument("--pseudo", action="store_true", help="pseudo-unseen classes")
PARSER.add_argument("--only", nargs="+", metavar="NAME", help="these methods only")
PARSER.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
PARSER.add_argument(
    "--json", type=Path, help="file of all figures; those in it are not computed again"
)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import json
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from refinement_variants import VARIANTS, Variant, method_of

from dynapurls_jax.adaptation.api import adapter_of, run_stream
from dynapurls_jax.adaptation.static import static
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.metrics import mean_std
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.evaluation.streams import StreamInputs, stream_order
from dynapurls_jax.evaluation.tasks import Task, unseen_task
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.rng import key_of
from dynapurls_jax.training.run import make_spec, read_inputs, train_run
from dynapurls_jax.zero_shot.base import ZeroShotMethod


class Orders(NamedTuple):
    """Several orders of one stream.

    Attributes:
      indices: `[orders, N]` into the samples.
      keys: `[orders]` of each order's randomness.
      labels: `[orders, N]` in stream order for an ORACLE, else None.
    """

    indices: jax.Array
    keys: jax.Array
    labels: jax.Array | None


def main() -> None:
    """Runs the study, prints tables, writes the figures of every run and order."""
    options = PARSER.parse_args()
    keep_memory()
    if wrong := set(options.only or ()) - set(VARIANTS):
        PARSER.error(f"--only: {', '.join(sorted(wrong))}: expected some of {', '.join(VARIANTS)}")
    variants = {name: VARIANTS[name] for name in options.only or VARIANTS}
    records = []
    if options.json and options.json.exists():
        records = json.loads(options.json.read_text())
    for dataset in options.datasets:
        study(dataset, variants, records, options)
        jax.clear_caches()  # hundreds of programs, of no use to the next dataset
    shown = [
        record
        for record in records
        if (record["orders"], record["pseudo"]) == (options.orders, options.pseudo)
        and record["zero_shot"] == options.method
        and record["method"] in ("static", *variants)
    ]
    print_tables(shown, options)


def study(dataset: str, variants: dict[str, Variant], records: list, options) -> None:
    """Appends a record for each run, kind of stream and method without one."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.method.name = options.method
    inputs = read_inputs(config)
    runs = PSEUDO[dataset] if options.pseudo else real_runs(dataset, options.seeds)
    for split, seed in runs:
        run = train_run(make_spec(inputs, options.runs / dataset, split, seed))
        task = unseen_task(run)
        for kind in options.streams:
            for name, variant in {"static": None, **variants}.items():
                record = {"dataset": dataset, "zero_shot": options.method}
                record |= {"split": split, "seed": seed}
                record |= {"stream": kind, "method": name, "orders": options.orders}
                record |= {"pseudo": options.pseudo, "settings": repr(variant)}
                if not any(other | record == other for other in records):
                    accuracies = accuracy_of_orders(run, task, variant, kind, options.orders)
                    records.append(record | {"accuracy": accuracies})
        if options.json:
            options.json.write_text(json.dumps(records, indent=1))
        print(f"{dataset} {options.method} {split} seed {seed}: done", flush=True)


def accuracy_of_orders(
    run: TrainedRun, task: Task, variant: Variant | None, kind: str, count: int
) -> list[float]:
    """Accuracies of a variant, or of the static model, over several orders of a kind of stream."""
    numbers = range(count)
    indices = np.stack([stream_order(kind, task.labels, run.seed, n) for n in numbers])
    keys = jnp.stack([key_of(run.seed, "stream", n) for n in numbers])
    labels = task.labels[indices]
    oracle = jnp.asarray(labels) if variant and variant.oracle else None
    orders = Orders(jnp.asarray(indices), keys, oracle)
    predicted = predict(run.method, variant, run.variables, task.inputs, orders)
    return (np.asarray(predicted) == labels).mean(axis=1).tolist()


@partial(jax.jit, static_argnums=(0, 1))
def predict(
    model: ZeroShotMethod, variant: Variant | None, variables, inputs: StreamInputs, orders: Orders
):
    """Predictions `[orders, N]`, positions in the candidates."""

    def one(order: Orders):
        features = jax.tree.map(lambda leaf: leaf[order.indices], inputs.features)
        stream = inputs._replace(features=features)
        method = static(model, variables)
        if variant is not None:
            method = method_of(variant, model, variables, stream, order.labels)
        adapter = adapter_of(method)
        state = adapter.init(inputs.candidates, key=order.keys)
        return run_stream(adapter, state, features, chunk=1)[1].label

    return jax.vmap(one)(orders)


def print_tables(records: list[dict], options) -> None:
    """Gains by dataset for each kind of stream, and static accuracies by split."""
    accuracy = {
        (r["dataset"], r["split"], r["seed"], r["stream"], r["method"]): np.array(r["accuracy"])
        for r in records
    }
    datasets = list(dict.fromkeys(r["dataset"] for r in records))
    methods = list(dict.fromkeys(r["method"] for r in records))
    kind_of_classes = "PSEUDO-unseen" if options.pseudo else "unseen"
    for kind in options.streams:
        print(
            f"\n{options.method}, {kind} streams, {kind_of_classes} classes, {options.orders} "
            "orders; points over static, mean ± std over runs; hurt: all runs x orders\n"
        )
        print(f"| method | {' | '.join(datasets)} | mean | hurt | worst |")
        print("|---|" + "---|" * (len(datasets) + 3))
        for method in methods:
            sign = "" if method == "static" else "+"
            cells, means, every = [], [], []
            for dataset in datasets:
                gains = [
                    100 * (value - (0 if method == "static" else accuracy[(*key[:4], "static")]))
                    for key, value in accuracy.items()
                    if key[0] == dataset and key[3:] == (kind, method)
                ]
                mean, std = mean_std([g.mean() for g in gains])
                cells.append(f"{mean:{sign}.1f} ± {std:.1f}")
                means.append(mean)
                every += gains
            every = np.concatenate(every)
            hurt = "" if method == "static" else f"{100 * np.mean(every < -1):.0f} %"
            worst = "" if method == "static" else f"{every.min():+.0f}"
            mean = f"{np.mean(means):{sign}.1f}"
            print(f"| {method} | {' | '.join(cells)} | {mean} | {hurt} | {worst} |")
    print_splits(records, options)


def print_splits(records: list[dict], options) -> None:
    """Accuracy in % on the first kind of stream by split, random splits of a size together."""
    groups: dict[tuple, dict[str, list]] = {}
    for record in records:
        if record["stream"] == options.streams[0]:
            split = record["split"]
            size = split.rsplit("-", 1)[0] if "random-" in split or options.pseudo else split
            group = groups.setdefault((record["dataset"], size), {})
            group.setdefault(record["method"], []).append(np.mean(record["accuracy"]))
    methods = list(next(iter(groups.values())))
    print(f"\nAccuracy in %, {options.streams[0]} streams, mean ± std over runs\n")
    print(f"| dataset | split | runs | {' | '.join(methods)} |")
    print("|---|---|---|" + "---|" * len(methods))
    for (dataset, size), group in groups.items():
        cells = " | ".join(percent(group[method]) for method in methods)
        print(f"| {dataset} | {size} | {len(group['static'])} | {cells} |")


if __name__ == "__main__":
    main()
