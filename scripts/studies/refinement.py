"""Where test-time refinement helps, where it hurts, and how much there is to gain.

  python scripts/studies/refinement.py --pseudo           pseudo-unseen classes: to choose on
  python scripts/studies/refinement.py --pseudo --search   settings within the paper's frame
  python scripts/studies/refinement.py                     unseen classes, once, with what was chosen
  python scripts/studies/refinement.py --datasets nw_ucla --queries per_candidate --streams blocked

Trains what is missing (encoders, alignments), then runs every method over several orders of each
run's stream: shuffled, with classes in blocks, with class ratios of 1:10. Gains are paired with the
static model on the same samples, in points. Bounds that use labels are marked ORACLE: `labels`, the
balanced method whose assignments are the truth; `prior`, the same method told the classes' true
shares; `labelled memory`, the paper's refinement with every sample filed under its true class. A
run is a split and seed; "hurt" is the share of runs x orders that lose more than a point.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.protocols import make_protocol
from dynapurls_jax.adaptation import adapter_of, run_stream, static
from dynapurls_jax.config import ORDERS, load_config
from dynapurls_jax.evaluation.metrics import mean_std
from dynapurls_jax.evaluation.streams import candidate_text, stream_order
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.run import (
    align_stage,
    encode_stages,
    load_inputs,
    on_device,
    run_folder,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.studies.refinement_variants import SEARCH, VARIANTS, Variant, method_of

ROOT = Path(__file__).parents[1]
RANDOM = ("53_5", "46_12", "38_20")
DATASETS = ("utd_mhad", "nw_ucla", "kinder_gator", "demo")
PSEUDO = {  # two of each: pseudo split number k, seed k
    "utd_mhad": [(f"pseudo-{s}-{k}", k) for s in ("22_5", "18_9", "14_13") for k in (0, 1)],
    "nw_ucla": [(f"pseudo-{s}-{k}", k) for s in ("8_2", "5_5") for k in (0, 1)],
    "kinder_gator": [(f"pseudo-random-{s}-{k}-{k}", k) for s in RANDOM for k in (0, 1)],
    "demo": [(f"pseudo-random-40_8-0-{k}", k) for k in (0, 1)],
}


def main() -> None:
    """Runs, prints tables, keeps the figures of every run and order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--queries", nargs="+", default=["label_free"])
    parser.add_argument("--streams", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument(
        "--seeds", type=int, default=5, help="of each split, or random splits of a size"
    )
    parser.add_argument("--pseudo", action="store_true", help="pseudo-unseen classes")
    parser.add_argument(
        "--search", action="store_true", help="the paper's frame; only with --pseudo"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these methods only")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    parser.add_argument(
        "--json", type=Path, help="keep every figure there; what it has is not computed again"
    )
    options = parser.parse_args()
    if options.search and not options.pseudo:
        parser.error("--search chooses settings, which unseen classes must not do: add --pseudo")
    keep_memory()
    variants = SEARCH if options.search else VARIANTS
    if options.only:
        variants = {name: variants[name] for name in options.only}
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    for query in options.queries:
        for dataset in options.datasets:
            study(dataset, query, variants, rows, options)
            jax.clear_caches()  # hundreds of programs, of no use to the next dataset
    shown = [
        row
        for row in rows
        if (row["orders"], row["pseudo"]) == (options.orders, options.pseudo)
        and row["method"] in ("static", *variants)
    ]
    for query in options.queries:
        print_tables([row for row in shown if row["query"] == query], options)


def runs_of(dataset: str, options) -> list[tuple[str, int]]:
    """Splits and seeds: some seeds of each split, or some random splits of each size."""
    if options.pseudo:
        return PSEUDO[dataset]
    seeds = range(options.seeds)
    if dataset == "kinder_gator":
        return [(f"random-{size}-{k}", 0) for size in RANDOM for k in seeds]
    splits = {"utd_mhad": ("22_5", "18_9", "14_13"), "nw_ucla": ("8_2", "5_5")}
    return [(split, k) for split in splits.get(dataset, ("random-40_8-0",)) for k in seeds]


def study(dataset: str, query: str, variants: dict[str, Variant], rows: list, options) -> None:
    """Appends a row for each run, kind of stream and method that `rows` does not have yet."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.alignment.query = query
    inputs = load_inputs(config)
    model = model_of(config, inputs.text.shape[-1])  # one for all runs, as is what is compiled
    for split, seed in runs_of(dataset, options):
        folder = run_folder(options.runs / dataset, split, seed)
        protocol = make_protocol(inputs.corpus, split, config.data.protocol)
        tokens, identity, _ = encode_stages(inputs, protocol, folder, seed)
        variables, _ = align_stage(inputs, protocol, folder, seed, tokens, identity)
        text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
        visual = model.encode(variables, on_device(tokens, protocol.unseen_test))
        labels = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])
        for kind in options.streams:
            orders = np.stack(
                [stream_order(kind, labels, seed, number) for number in range(options.orders)]
            )
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(
                jnp.arange(options.orders)
            )
            for name, variant in {"static": None, **variants}.items():
                about = {"dataset": dataset, "query": query, "split": split, "seed": seed}
                about |= {"stream": kind, "method": name, "orders": options.orders}
                about |= {"pseudo": options.pseudo, "settings": repr(variant)}
                if any(row | about == row for row in rows):
                    continue
                told = jnp.asarray(labels[orders]) if variant and variant.oracle else None
                found = predict(model, variant, variables, text, visual, orders, keys, told)
                hits = np.asarray(found) == labels[orders]
                rows.append(about | {"accuracy": hits.mean(axis=1).tolist()})
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
        print(f"{dataset} {query} {split} seed {seed}: done", flush=True)


@partial(jax.jit, static_argnums=(0, 1))
def predict(model, variant: Variant | None, variables, text, visual, orders, keys, told):
    """Labels `[orders, N]`; `told` are the labels in stream order for an ORACLE, else None."""

    def one(order, key, labels):
        stream = jax.tree.map(lambda leaf: leaf[order], visual)
        method = static(model, variables)
        if variant is not None:
            method = method_of(variant, model, variables, stream, len(text.classes), labels)
        adapter = adapter_of(method, variant is not None and variant.learn_first)
        chunk = 1 if variant is None else variant.chunk
        return run_stream(adapter, adapter.init(text, key=key), stream, chunk=chunk)[1].label

    return jax.vmap(one, in_axes=(0, 0, None if told is None else 0))(orders, keys, told)


def print_tables(rows: list[dict], options) -> None:
    """Gains by dataset for each kind of stream, and static accuracies by split."""
    accuracy = {
        (r["dataset"], r["split"], r["seed"], r["stream"], r["method"]): np.array(r["accuracy"])
        for r in rows
    }
    datasets = list(dict.fromkeys(r["dataset"] for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    kind_of_classes = "PSEUDO-unseen" if options.pseudo else "unseen"
    for kind in options.streams:
        print(
            f"\n{rows[0]['query']}, {kind} streams, {kind_of_classes} classes, {options.orders} "
            "orders; points over static, mean ± std over runs; hurt: all runs x orders\n"
        )
        print(f"| method | {' | '.join(datasets)} | mean | hurt | worst |")
        print("|---|" + "---|" * (len(datasets) + 3))
        for method in methods:
            cells, means, every = [], [], []
            for dataset in datasets:
                gains = [
                    100 * (value - (0 if method == "static" else accuracy[(*key[:4], "static")]))
                    for key, value in accuracy.items()
                    if key[0] == dataset and key[3:] == (kind, method)
                ]
                mean, std = mean_std([g.mean() for g in gains])
                sign = "" if method == "static" else "+"
                cells.append(f"{mean:{sign}.1f} ± {std:.1f}")
                means.append(mean)
                every += gains
            every = np.concatenate(every)
            hurt = "" if method == "static" else f"{100 * np.mean(every < -1):.0f} %"
            worst = "" if method == "static" else f"{every.min():+.0f}"
            sign = "" if method == "static" else "+"
            print(
                f"| {method} | {' | '.join(cells)} | {np.mean(means):{sign}.1f} | {hurt} "
                f"| {worst} |"
            )
    print_splits(rows, options)


def print_splits(rows: list[dict], options) -> None:
    """Accuracy in % of the shuffled streams for each split, random splits of a size together."""
    groups: dict[tuple, dict[str, list]] = {}
    for row in rows:
        if row["stream"] == options.streams[0]:
            split = row["split"]
            size = split.rsplit("-", 1)[0] if "random-" in split or options.pseudo else split
            group = groups.setdefault((row["dataset"], size), {})
            group.setdefault(row["method"], []).append(np.mean(row["accuracy"]))
    methods = list(next(iter(groups.values())))
    print(f"\nAccuracy in %, {options.streams[0]} streams, mean ± std over runs\n")
    print(f"| dataset | split | runs | {' | '.join(methods)} |")
    print("|---|---|---|" + "---|" * len(methods))
    for (dataset, size), group in groups.items():
        cells = []
        for method in methods:
            mean, std = mean_std(100 * np.array(group[method]))
            cells.append(f"{mean:.1f} ± {std:.1f}")
        print(f"| {dataset} | {size} | {len(group['static'])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
