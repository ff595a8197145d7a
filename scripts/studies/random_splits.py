"""Two zero-shot methods on random class splits, with intervals of their difference.

  python scripts/studies/random_splits.py
  python scripts/studies/random_splits.py --methods ridge devise --splits 5 --datasets nw_ucla

For each size of published split: random splits of the same size, kinematic statistics, static
accuracy on the unseen classes. Differences are paired by split; the interval is the bootstrap's
(BCa, 95 %) of their mean. A method is better where it excludes 0.
"""

from study_runs import DATASETS, RANDOM, ROOT, SPLITS

from dynapurls_jax.commands import parser_of
from dynapurls_jax.zero_shot.registry import METHODS

PARSER = parser_of(__doc__)
PARSER.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
PARSER.add_argument("--methods", nargs=2, choices=METHODS.names, default=["ridge", "sketch"])
PARSER.add_argument("--splits", type=int, default=10, help="of each size")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import numpy as np
from scipy.stats import bootstrap

from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.metrics import accuracy
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.evaluation.tasks import unseen_task
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.run import make_spec, read_inputs, train_run


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    if options.splits < 2:
        PARSER.error(f"--splits: expected 2 or more for an interval, got {options.splits}")
    keep_memory()
    first, second = options.methods
    print(f"| dataset | splits | {first} | {second} | {second} less {first} | 95 % interval |")
    print("|---|---|---|---|---|---|", flush=True)
    for dataset in options.datasets:
        every = []
        for size in sizes_of(dataset):
            names = [f"random-{size}-{number}" for number in range(options.splits)]
            shares = np.array([accuracies(dataset, name, names) for name in options.methods])
            print(row(dataset, f"{size} x {options.splits}", shares), flush=True)
            every.append(shares)
        print(row(dataset, "all", np.concatenate(every, axis=1)), flush=True)


def sizes_of(dataset: str) -> tuple[str, ...]:
    """Seen and unseen classes of the dataset's splits."""
    return RANDOM if dataset == "kinder_gator" else SPLITS[dataset]


def accuracies(dataset: str, method: str, splits: list[str]) -> list[float]:
    """Static accuracy of a method on each split."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.encoder.name, config.method.name = "kinematics", method
    inputs = read_inputs(config)
    workdir = ROOT / "runs" / "random_splits" / dataset
    return [static_accuracy(train_run(make_spec(inputs, workdir, split, 0))) for split in splits]


def static_accuracy(run: TrainedRun) -> float:
    """On the unseen clips of test subjects."""
    task = unseen_task(run)
    logits = run.method.score(run.variables, task.features, task.candidates)
    return accuracy(np.asarray(logits.argmax(-1)), task.labels)


def row(dataset: str, splits: str, shares: np.ndarray) -> str:
    """A line of the table; `shares` are `[2, N]`."""
    differences = 100 * (shares[1] - shares[0])
    found = bootstrap((differences,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    cells = [dataset, splits, percent(shares[0]), percent(shares[1])]
    cells += [f"{differences.mean():+.1f}", f"{found.low:+.1f} to {found.high:+.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
