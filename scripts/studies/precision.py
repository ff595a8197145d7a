"""What bfloat16 costs: the same trained runs with features of an encoder in either precision.

  python scripts/studies/precision.py --workdir=runs/utd_mhad

Prints accuracy in % of each run: of the encoder's classifier on seen test clips, and zero-shot on
unseen ones (static, from tokens that the encoder makes in that precision). To compare trainings,
train a second workdir with --config.encoder.dtype=bfloat16 and name both.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dynapurls_jax.config import DTYPES
from dynapurls_jax.evaluation.streams import candidate_text
from dynapurls_jax.stream_eval import load_config
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.extract import accuracy, encoded, tokens_of
from dynapurls_jax.training.run import (
    encoder_stage,
    load_inputs,
    run_folder,
    train_one,
    trained_seeds,
)


def main() -> None:
    """Prints a table as it grows, then the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, nargs="+", required=True, help="trained")
    parser.add_argument("--splits", nargs="+", help="default: all that were trained")
    options = parser.parse_args()
    print(
        "| trained in | split | seed | seen test, float32 | bfloat16 | unseen, float32 | bfloat16 |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for workdir in options.workdir:
        config = load_config(workdir)
        inputs = load_inputs(config)
        for split in options.splits or config.splits:
            for seed in trained_seeds(inputs, workdir, split):
                shares = [
                    figure
                    for pair in zip(*both(inputs, workdir, split, seed), strict=True)
                    for figure in pair
                ]
                rows.append(shares)
                figures = " | ".join(f"{100 * share:.1f}" for share in shares)
                print(f"| {config.encoder.dtype} | {split} | {seed} | {figures} |", flush=True)
    table = 100 * np.array(rows)
    for name, first in (("seen test", 0), ("unseen", 2)):
        change = table[:, first + 1] - table[:, first]
        print(
            f"{name}: bfloat16 less float32 {change.mean():+.2f} ± {change.std(ddof=1):.2f} points"
        )


def both(inputs, workdir: Path, split: str, seed: int) -> list[tuple[float, float]]:
    """Seen test and unseen accuracy of one run in each precision, in the order of `DTYPES`."""
    run = train_one(inputs, workdir, split, seed)
    protocol, found = run.protocol, []
    folder = run_folder(workdir, split, seed)
    variables, _ = encoder_stage(inputs, inputs.clips, protocol, folder, seed)
    labels = np.searchsorted(protocol.seen, inputs.corpus.labels)
    truth = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])
    model = model_of(inputs.config, inputs.text.shape[-1])
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
    for dtype in DTYPES:
        config = inputs.config.copy_and_resolve_references()
        config.encoder.dtype = dtype
        rows = protocol.seen_test
        seen = accuracy(config, variables, inputs.clips, rows, labels[rows])
        apply = tokens_of(config, variables, inputs.clips)
        chunks = encoded(apply, variables, inputs.clips, protocol.unseen_test, "tokens")
        tokens = np.concatenate(list(chunks))
        tokens = jnp.asarray(tokens.reshape(len(tokens), -1, tokens.shape[-1]), jnp.float32)
        logits = model.score(run.variables, model.encode(run.variables, tokens), text)
        found.append((seen, float((np.asarray(logits).argmax(-1) == truth).mean())))
    return found


if __name__ == "__main__":
    sys.exit(main())
