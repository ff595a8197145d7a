"""How to train the encoder: recipes compared by their accuracy on seen validation clips.

  python scripts/studies/encoder.py                         all variants, UTD-MHAD, 3 seeds
  python scripts/studies/encoder.py --variants adamw sgd    some of them
  python scripts/studies/encoder.py --pooling               pooling by true length against T' parts

Seen classes alone take part. Runs are kept in --runs: a second call only reads them.
"""

import argparse
import shutil
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import numpy as np

from data_pipelines.protocols import make_protocol
from dynapurls_jax.config import load_config
from dynapurls_jax.encoders.masking import clip_lengths
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.run import encoder_stage, load_inputs, run_folder, train_one

ROOT = Path(__file__).parents[1]
# What each changes in the dataset's config.
PUBLISHED = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4}
VARIANTS = {
    f"{name}{kind}": {"pretrain": {**recipe, "epochs": epochs}, "encoder": {"sign_gradient": sign}}
    for name, recipe in (("adamw", {}), ("sgd", PUBLISHED))
    for length, epochs in (("", 25), ("-long", 75))
    for kind, sign in ((length, False), (f"{length}-sign", True))
}


def main() -> None:
    """Prints a table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="utd_mhad", help="one of configs/")
    parser.add_argument("--splits", nargs="+", default=["22_5"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--pooling", action="store_true", help="compare poolings instead")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "study_encoder")
    options = parser.parse_args()
    keep_memory()
    (compare_poolings if options.pooling else compare_recipes)(options)


def compare_recipes(options) -> None:
    """Seen validation accuracy of the encoder's own classifier."""
    print("| recipe | seen validation, % | of each run |\n|---|---|---|")
    for variant in options.variants:
        config = load_config(ROOT / f"configs/{options.dataset}.py")
        config.update(VARIANTS[variant])
        inputs = load_inputs(config)
        shares = []
        for split in options.splits:
            protocol = make_protocol(inputs.corpus, split, config.data.protocol)
            for seed in options.seeds:
                folder = run_folder(options.runs / options.dataset / variant, split, seed)
                _, stage = encoder_stage(inputs, inputs.clips, protocol, folder, seed)
                shares.append(stage.results["val_accuracy"])
        each = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"| {variant} | {percent(shares)} | {each} |", flush=True)


def compare_poolings(options) -> None:
    """Seen validation accuracy of the alignment, on clips that end in zeros (`data.fit=pad`)."""
    print("| pooling | seen validation, % | of each run |\n|---|---|---|")
    config = load_config(ROOT / f"configs/{options.dataset}.py")
    config.data.fit = "pad"
    config.data.frames = 128
    config.pretrain.epochs = 25
    inputs = load_inputs(config)

    def whole(clips):
        return jnp.full(len(clips), float(clips.shape[2]))

    workdir = options.runs / options.dataset
    poolings = {"true length": clip_lengths, "whole array": whole}
    for name, pooling in poolings.items():
        shares = []
        for split in options.splits:
            for seed in options.seeds:
                folder = workdir / name.replace(" ", "-")
                encoder = run_folder(workdir / "true-length", split, seed) / "encoder"
                copy = run_folder(folder, split, seed) / "encoder"
                if encoder.exists() and not copy.exists():  # one encoder for both
                    shutil.copytree(encoder, copy.with_name("copy"), dirs_exist_ok=True)
                    copy.with_name("copy").rename(copy)
                with mock.patch("dynapurls_jax.encoders.shift_gcn.clip_lengths", pooling):
                    run = train_one(inputs, folder, split, seed)
                shares.append(run.results["align"]["val_accuracy"])
        each = " ".join(f"{100 * share:.1f}" for share in shares)
        print(f"| {name} | {percent(shares)} | {each} |", flush=True)
    print(f"clips of {np.mean(inputs.corpus.frames):.0f} frames on average")


if __name__ == "__main__":
    main()
