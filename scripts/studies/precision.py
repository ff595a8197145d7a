"""The cost of bfloat16: the same trained runs with features of an encoder in either precision.

  python scripts/studies/precision.py --workdir=runs/utd_mhad

Prints accuracy in % of each run: of the encoder's classifier on seen test clips, and zero-shot on
unseen ones (static, from tokens of that precision). To compare trainings, train a second workdir
with --config.encoder.shift_gcn.dtype=bfloat16 and name both.
"""

from pathlib import Path

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--workdir", type=Path, nargs="+", required=True, help="trained")
PARSER.add_argument("--splits", nargs="+", help="default: all that were trained")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from dynapurls_jax.encoders.base import trained_encoder
from dynapurls_jax.encoders.layers import DTYPES
from dynapurls_jax.evaluation import metrics
from dynapurls_jax.evaluation.trained_run import Inputs, TrainedRun
from dynapurls_jax.training.extract import accuracy, encoded
from dynapurls_jax.training.pretrain import EncoderTask, encoder_task, trained_classifier
from dynapurls_jax.training.run import load_run, make_spec, read_inputs, trained_seeds
from dynapurls_jax.workdirs import workdir_config


def main() -> None:
    """Prints a table as it grows, then the means."""
    options = PARSER.parse_args()
    sides = [f"{side}, {dtype}" for side in ("seen test", "unseen") for dtype in DTYPES]
    print(f"| trained in | split | seed | {' | '.join(sides)} |\n|---|---|---|---|---|---|---|")
    shares = []
    for workdir in options.workdir:
        config = workdir_config(workdir)
        inputs = read_inputs(config)
        for split in options.splits or config.splits:
            for seed in trained_seeds(inputs, workdir, split):
                shares.append(accuracies(inputs, workdir, split, seed))
                figures = " | ".join(f"{100 * share:.1f}" for share in shares[-1])
                dtype = config.encoder.shift_gcn.dtype
                print(f"| {dtype} | {split} | {seed} | {figures} |", flush=True)
    table = 100 * np.array(shares)
    for name, first in (("seen test", 0), ("unseen", 2)):
        change = table[:, first + 1] - table[:, first]
        print(
            f"{name}: bfloat16 less float32 {change.mean():+.2f} ± {change.std(ddof=1):.2f} points"
        )


def accuracies(inputs: Inputs, workdir: Path, split: str, seed: int) -> list[float]:
    """Of one run: on seen test clips in each of `DTYPES`, then on unseen ones."""
    run, spec = load_run(inputs, workdir, split, seed), make_spec(inputs, workdir, split, seed)
    _, variables = trained_classifier(spec, encoder_task(spec))  # a finished stage is only read
    seen, unseen = [], []
    for dtype in DTYPES:
        config = inputs.config.copy_and_resolve_references()
        config.encoder.shift_gcn.dtype = dtype
        task = encoder_task(replace(spec, inputs=replace(inputs, config=config)))
        seen.append(accuracy(task, variables, spec.protocol.seen_test))
        unseen.append(zero_shot_accuracy(run, task, variables))
    return seen + unseen


def zero_shot_accuracy(run: TrainedRun, task: EncoderTask, variables: dict) -> float:
    """Static accuracy on the unseen clips, with tokens of the task's encoder.

    Args:
      variables: of the encoder and its classifier.
    """
    encoder = trained_encoder(task.encoder, variables, task.streams, task.clips.skeleton)
    clips = run.protocol.unseen_test
    chunks = list(encoded(encoder.tokens, variables, task.clips, clips, title="tokens"))
    tokens = np.concatenate(chunks).reshape(len(clips), *run.tokens.shape[1:])
    features = run.method.encode(run.variables, jnp.asarray(tokens, jnp.float32))
    classes = run.protocol.unseen
    logits = run.method.score(run.variables, features, run.candidates_of(classes))
    return metrics.accuracy(np.asarray(logits.argmax(-1)), run.labels_of(clips, classes))


if __name__ == "__main__":
    main()
