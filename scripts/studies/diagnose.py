"""What a trained run has learned, apart from its accuracy.

  python scripts/studies/diagnose.py --workdir runs/utd_mhad
  python scripts/studies/diagnose.py --workdir runs/utd_mhad --splits 22_5 --seeds 0

Prints for each run the measures of its report (`dynapurls_jax.evaluation.diagnosis`): the cosine
between the projected rows of a clip, against that between the rows of a text; the entropy of
attention for each granularity, over log S; how tokens separate the unseen classes (ORACLE: it takes
their labels), by nearest neighbour and by class means. Besides: accuracy of each row of text alone,
and linear discriminant analysis of kinematic statistics on the encoder's own task, against the
encoder.
"""

from pathlib import Path

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--workdir", type=Path, required=True, help="of trained runs")
PARSER.add_argument("--splits", nargs="+", help="default: all of the configuration")
PARSER.add_argument("--seeds", nargs="+", type=int, help="default: all that are trained")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds


import jax.numpy as jnp
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from dynapurls_jax.encoders.kinematics import Kinematics, KinematicsSettings
from dynapurls_jax.evaluation.diagnosis import diagnose, has_rows
from dynapurls_jax.evaluation.tasks import Task, unseen_task
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.training.run import load_run, read_inputs, trained_seeds
from dynapurls_jax.workdirs import workdir_config


def main() -> None:
    """Prints the diagnosis of every chosen run."""
    options = PARSER.parse_args()
    config = workdir_config(options.workdir)
    inputs = read_inputs(config)
    for split in options.splits or config.splits:
        for seed in options.seeds or trained_seeds(inputs, options.workdir, split):
            print(f"\n{split}, seed {seed}")
            for line in diagnosis(load_run(inputs, options.workdir, split, seed)):
                print(f"  {line}")


def diagnosis(run: TrainedRun) -> list[str]:
    """The lines of one run."""
    task = unseen_task(run)
    lines = [f"{name}: {value:.3f}" for name, value in diagnose(run, task).items()]
    if has_rows(run.method):
        lines.append(accuracy_by_row(run, task))
    if run.inputs.clips is not None and len(run.protocol.seen_test):
        lines.append(discriminant(run))
    return lines


def accuracy_by_row(run: TrainedRun, task: Task) -> str:
    """Accuracy of each row of text alone."""
    assert run.method.embedding is not None
    vectors = run.method.embedding.embed(run.variables, task.features, task.candidates)
    cosines = jnp.einsum("bqgd,cgd->bqcg", vectors, task.candidates.classes)
    same = vectors.shape[1] == 1
    scores = cosines[:, 0] if same else jnp.einsum("bccg->bcg", cosines)
    hits = np.asarray(scores.argmax(axis=1)) == task.labels[:, None]
    parts = [f"{n} {100 * h:.1f}" for n, h in zip(GRANULARITIES, hits.mean(axis=0), strict=True)]
    return f"accuracy by row, %: {', '.join(parts)}"


def discriminant(run: TrainedRun) -> str:
    """Seen test clips: discriminant analysis of kinematic statistics, against the encoder."""
    protocol, clips = run.protocol, run.inputs.clips
    assert clips is not None
    encoder = Kinematics(KinematicsSettings(), clips.skeleton)
    indices = np.concatenate([protocol.train, protocol.val, protocol.seen_test])
    tokens = np.asarray(encoder.tokens(jnp.asarray(clips.clips[indices])))
    labels, known = run.inputs.corpus.labels[indices], len(indices) - len(protocol.seen_test)
    flat = tokens.reshape(len(tokens), -1)
    flat = StandardScaler().fit(flat[:known]).transform(flat)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    share = model.fit(flat[:known], labels[:known]).score(flat[known:], labels[known:])
    results = run.results["encoder"] or {}
    own = results.get("seen_test_accuracy")
    beside = "it has no classifier" if own is None else f"{100 * own:.1f} %"
    return f"seen test clips: LDA on kinematic statistics {100 * share:.1f} %, the encoder {beside}"


if __name__ == "__main__":
    main()
