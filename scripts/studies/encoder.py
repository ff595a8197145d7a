"""How to train the encoder: recipes compared by their accuracy on seen validation clips.

  python scripts/studies/encoder.py                         all variants, UTD-MHAD, 3 seeds
  python scripts/studies/encoder.py --variants adamw sgd    some of them

Only seen classes take part. Trained encoders stay in --runs: a second call only reads them.
"""

import argparse
from pathlib import Path

from study_runs import ROOT

from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.pretrain import pretrain
from dynapurls_jax.training.run import make_spec, read_inputs

PUBLISHED = {
    "pretrain.optimizer": "sgd",
    "pretrain.learning_rate": 0.1,
    "pretrain.weight_decay": 1e-4,
}
VARIANTS = {  # overrides of the dataset's configuration
    f"{name}{length}": recipe | {"pretrain.epochs": epochs}
    for name, recipe in (("adamw", {}), ("sgd", PUBLISHED))
    for length, epochs in (("", 25), ("-long", 75))
}


def main() -> None:
    """Prints a table as it grows: accuracy of the encoder's own classifier."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="utd_mhad", help="one of configs/")
    parser.add_argument("--splits", nargs="+", default=["22_5"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "study_encoder")
    options = parser.parse_args()
    keep_memory()
    print("| recipe | seen validation, % | of each run |\n|---|---|---|")
    for variant in options.variants:
        config = load_config(ROOT / f"configs/{options.dataset}.py")
        config.update_from_flattened_dict(VARIANTS[variant])
        inputs = read_inputs(config)
        shares = [
            pretrain(make_spec(inputs, options.runs / options.dataset, split, seed)).results[
                "val_accuracy"
            ]
            for split in options.splits
            for seed in options.seeds
        ]
        each = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"| {variant} | {percent(shares)} | {each} |", flush=True)


if __name__ == "__main__":
    main()
