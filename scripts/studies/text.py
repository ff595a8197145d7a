"""Which words serve zero-shot recognition best: the same encoders, aligned with other texts.

  python scripts/studies/text.py --gpt3 gpt3_desc.xlsx     names, published GPT-3 texts, ours
  python scripts/studies/text.py --datasets nw_ucla --pseudo    choices: pseudo-unseen classes

Trains what is missing of the configs in configs/ (encoders once, an alignment for each source of
texts), then prints static accuracy on unseen classes, mean and standard deviation over seeds (and
random splits of one size). With --pseudo the unseen classes stay out: classes held out of the seen
ones take their place in the alignment (the encoder knows them, which is the same for all texts).
Only there may texts and templates be compared to choose between them.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.protocols import make_protocol
from dynapurls_jax.config import GRANULARITIES, load_config
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.evaluation.evaluate import evaluate_run
from dynapurls_jax.training.run import (
    TrainedRun,
    align_stage,
    encode_stages,
    load_inputs,
    run_folder,
)

ROOT = Path(__file__).parents[1]
SHEETS = {"utd_mhad": "UTD-MHAD", "nw_ucla": "NW-UCLA"}
DATASETS = ("utd_mhad", "nw_ucla", "kinder_gator")


def main() -> None:
    """Trains, evaluates, prints a table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--gpt3", type=Path, help="the spreadsheet of published descriptions")
    parser.add_argument("--templates", nargs="+", default=["a video of {}"])
    parser.add_argument(
        "--others",
        nargs="*",
        default=[],
        metavar="NAME=FOLDER",
        help="more sources: folders with <dataset>.json",
    )
    parser.add_argument("--pseudo", action="store_true", help="choose: pseudo-unseen classes")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "study_text")
    options = parser.parse_args()
    keep_memory()
    print("| dataset | split | texts | template | static, % | seen validation, % |")
    print("|---|---|---|---|---|---|", flush=True)
    for dataset in options.datasets:
        for name, source in sources(dataset, options):
            for template in options.templates:
                study(dataset, name, source, template, options)


def sources(dataset: str, options) -> Iterator[tuple[str, str]]:
    """Names of texts, and what to give as `text.descriptions`."""
    yield "class names", "names"
    if options.gpt3 and dataset in SHEETS:
        file = options.runs / f"gpt3_{dataset}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        importer = [sys.executable, ROOT / "scripts" / "import_descriptions.py", options.gpt3]
        what = ["--sheet", SHEETS[dataset], "--dataset", dataset, "--out", file]
        subprocess.run([*importer, *what], check=True, stdout=subprocess.DEVNULL)
        yield "GPT-3", str(file)
    for other in options.others:
        name, _, folder = other.partition("=")
        yield name, f"{folder}/{dataset}.json"
    yield "ours", ""


def study(dataset: str, name: str, source: str, template: str, options) -> None:
    """Rows of one dataset with one source of texts."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.text.descriptions = source
    config.text.template.update(dict.fromkeys(GRANULARITIES, template))
    config.eval.adapter, config.eval.orders = "static", 1
    inputs = load_inputs(config)
    accuracies: dict[str, list[tuple[float, float]]] = {}
    for split in config.splits:
        for seed in config.seeds:
            encoder = run_folder(options.runs / dataset / "encoders", split, seed)
            protocol = make_protocol(inputs.corpus, split, config.data.protocol)
            tokens, identity, _ = encode_stages(inputs, protocol, encoder, seed)
            if options.pseudo:
                protocol = make_protocol(
                    inputs.corpus, f"pseudo-{split}-{seed}", config.data.protocol
                )
            key = f"{name} {hashlib.sha256(template.encode()).hexdigest()[:6]}".replace(" ", "-")
            folder = run_folder(options.runs / dataset / key, protocol.split, seed)
            variables, stage = align_stage(inputs, protocol, folder, seed, tokens, identity)
            run = TrainedRun(split, seed, protocol, variables, tokens, {"align": stage.results})
            static = evaluate_run(inputs, run).accuracies("static")[0]
            size = f"{split.rsplit('-', 1)[0]} x 3" if split.startswith("random-") else split
            accuracies.setdefault(size, []).append((static, stage.results["val_accuracy"]))
    for size, values in accuracies.items():
        static, seen = zip(*values, strict=True)
        split = f"{'pseudo ' * options.pseudo}{size}"
        row = [dataset, split, name, template, percent(static), percent(seen)]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
