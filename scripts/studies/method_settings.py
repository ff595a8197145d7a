"""Settings of the trained zero-shot methods, chosen on held-out seen classes.

  python scripts/studies/method_settings.py
  python scripts/studies/method_settings.py --methods smie star --rates 1e-3

For each method, learning rate and cycle (of the variational ones): accuracy on the seen classes
that the folds hold out (`training.folds`), smoothed over epochs, with kinematic statistics. No clip
and no text of an unseen class is read. Trained runs are kept in runs/method_settings: the same
command resumes. The best mean of each method is in `dynapurls_jax/reproduction/methods.py`.
"""

from dataclasses import replace

from study_runs import ROOT

from dynapurls_jax.commands import parser_of
from dynapurls_jax.zero_shot.registry import METHODS

RATE = "fit.learning_rate"
RUNS = {"utd_mhad": "22_5", "kinder_gator": "random-46_12-0"}
PARSER = parser_of(__doc__)
PARSER.add_argument("--methods", nargs="+", choices=METHODS.names, help="default: all of Table 3")
PARSER.add_argument("--rates", nargs="+", type=float, default=[3e-4, 1e-3, 3e-3])
PARSER.add_argument("--cycles", nargs="+", type=int, default=[200], help="steps")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import numpy as np

from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.trained_run import Inputs
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.reproduction.jobs import changed
from dynapurls_jax.reproduction.layout import Overrides
from dynapurls_jax.reproduction.methods import CHOSEN, CYCLIC, ENCODER, TRAINED, inputs_of
from dynapurls_jax.training.run import make_spec, read_inputs, train_runs


def main() -> None:
    """Prints a table as it grows."""
    options = PARSER.parse_args()
    keep_memory()
    inputs = {dataset: read(dataset) for dataset in RUNS}
    print(f"| method | settings | {' | '.join(RUNS)} | mean |")
    print("|---" * (3 + len(RUNS)) + "|", flush=True)
    for method in options.methods or TRAINED:
        for settings in grid(method, options.cycles):
            found = [
                100 * held_out(method, settings, options.rates, *one) for one in inputs.items()
            ]
            for rate, shares in zip(options.rates, np.transpose(found), strict=True):
                named = {"rate": rate} | settings
                cells = [method, ", ".join(f"{key} {value}" for key, value in named.items())]
                cells += [f"{share:.1f}" for share in [*shares, np.mean(shares)]]
                print(f"| {' | '.join(cells)} |", flush=True)


def grid(method: str, cycles: list[int]) -> list[Overrides]:
    """The settings of a method that are compared, besides the rates."""
    if method in CYCLIC:
        # Training must not stop before the end of some cycles.
        return [{f"method.{method}.cycle": c, "fit.patience": c, "fit.epochs": c} for c in cycles]
    return [{key: value for key, value in CHOSEN.get(method, {}).items() if key != RATE}]


def read(dataset: str) -> Inputs:
    """Clips and texts of a dataset."""
    return read_inputs(changed(load_config(ROOT / f"configs/{dataset}.py"), ENCODER))


def held_out(
    method: str, settings: Overrides, rates: list[float], dataset: str, inputs: Inputs
) -> np.ndarray:
    """The accuracies in [0, 1] on held-out seen classes, of each learning rate."""
    workdir, specs = ROOT / "runs" / "method_settings" / dataset, []
    for rate in rates:
        chosen = inputs_of(method) | {RATE: rate} | settings
        own = replace(inputs, config=changed(inputs.config, chosen))
        specs.append(make_spec(own, workdir, RUNS[dataset], 0))
    return np.array([run.results["method"]["held_out_accuracy"] for run in train_runs(specs)])


if __name__ == "__main__":
    main()
