"""The texts that serve the paper's model best: the same encoders, methods with other texts.

  python scripts/studies/text.py --gpt3 gpt3_desc.xlsx     names, published GPT-3 texts, ours
  python scripts/studies/text.py --datasets nw_ucla --pseudo    choices: pseudo-unseen classes

Trains missing runs of the configs in configs/ (encoders once, a method for each source of texts),
then prints static accuracy on unseen classes, mean and standard deviation over seeds (and random
splits of one size). With --pseudo the unseen classes stay out: classes held out of the seen ones
take their place in the method (not in the encoder, which is the same for all texts). Choices
between texts may be made only there.
"""

from pathlib import Path

from study_runs import DATASETS, ROOT

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
PARSER.add_argument("--gpt3", type=Path, help="the spreadsheet of published descriptions")
PARSER.add_argument(
    "--others",
    nargs="*",
    default=[],
    metavar="NAME=FOLDER",
    help="more sources: folders with <dataset>.json",
)
PARSER.add_argument("--pseudo", action="store_true", help="choose: pseudo-unseen classes")
PARSER.add_argument("--runs", type=Path, default=ROOT / "runs" / "study_text")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import json
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from data_pipelines.builders.registry import public_dataset
from dynapurls_jax.config import choose_paper_model, load_config
from dynapurls_jax.evaluation.metrics import accuracy
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.evaluation.trained_run import Inputs
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.text.spreadsheet import read_sheet
from dynapurls_jax.training.extract import extract
from dynapurls_jax.training.fit import fit_method
from dynapurls_jax.training.pretrain import pretrain
from dynapurls_jax.training.run import make_spec, read_inputs

SHEETS = {"utd_mhad": "UTD-MHAD", "nw_ucla": "NW-UCLA"}


def main() -> None:
    """Trains, evaluates, prints a table as it grows."""
    options = PARSER.parse_args()
    keep_memory()
    print("| dataset | split | texts | static, % | seen validation, % |")
    print("|---|---|---|---|---|", flush=True)
    for dataset in options.datasets:
        for name, source in sources(dataset, options):
            study(dataset, name, source, options)


def sources(dataset: str, options) -> Iterator[tuple[str, str]]:
    """Names of texts, each with its value of `text.descriptions`."""
    yield "class names", "names"
    if options.gpt3 and dataset in SHEETS:
        file = options.runs / f"gpt3_{dataset}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        names = public_dataset(dataset).CLASSES
        _, classes = read_sheet(options.gpt3, SHEETS[dataset], names)
        file.write_text(json.dumps({"classes": classes}))
        yield "GPT-3", str(file)
    for other in options.others:
        name, _, folder = other.partition("=")
        yield name, f"{folder}/{dataset}.json"
    yield "ours", ""


def study(dataset: str, name: str, source: str, options) -> None:
    """Prints the lines of one dataset with one source of texts."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    choose_paper_model(config)
    config.text.descriptions = source
    inputs = read_inputs(config)
    accuracies: dict[str, list[tuple[float, float]]] = {}
    for split in config.splits:
        for seed in config.seeds:
            found = accuracies_of(inputs, options.runs / dataset, split, seed, options.pseudo)
            size = f"{split.rsplit('-', 1)[0]} x 3" if split.startswith("random-") else split
            accuracies.setdefault(size, []).append(found)
    for size, values in accuracies.items():
        static, seen = zip(*values, strict=True)
        split = f"{'pseudo ' * options.pseudo}{size}"
        cells = [dataset, split, name, percent(static), percent(seen)]
        print(f"| {' | '.join(cells)} |", flush=True)


def accuracies_of(
    inputs: Inputs, workdir: Path, split: str, seed: int, pseudo: bool
) -> tuple[float, float]:
    """Static accuracy on unseen clips and accuracy on seen validation clips, of one run.

    Args:
      pseudo: take the encoder of the split, and the method of its pseudo split.
    """
    encoder_spec = make_spec(inputs, workdir, split, seed)
    stage = pretrain(encoder_spec)
    tokens = extract(encoder_spec, stage)
    spec = make_spec(inputs, workdir, f"pseudo-{split}-{seed}", seed) if pseudo else encoder_spec
    method, variables, results = fit_method(spec, tokens, None, stage.identity)
    clips, classes = spec.protocol.unseen_test, spec.protocol.unseen
    test = jnp.asarray(tokens[clips].reshape(len(clips), -1, tokens.shape[-1]), jnp.float32)
    candidates = method.bind(variables, jnp.asarray(inputs.text[classes]))
    logits = method.score(variables, method.encode(variables, test), candidates)
    labels = np.searchsorted(classes, inputs.corpus.labels[clips])
    return accuracy(np.asarray(logits.argmax(-1)), labels), results["val_accuracy"]


if __name__ == "__main__":
    main()
