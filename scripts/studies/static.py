"""What the static model should be: heads, dropout, queries, scored granularities, centring.

  python scripts/studies/static.py                       pseudo-unseen classes of all datasets
  python scripts/studies/static.py --datasets demo --variants "row head" "joint head, dropout 0.3"

Runs are those of `refinement.py --pseudo`, with other methods on the same encoders; missing ones
are trained. No refinement. Shares of hits in %, mean ± std over runs, one seed each, for the global
granularity and for all of them weighted by alpha, each as it is and with the mean of the training
clips subtracted from the projected vectors ("centred").
"""

from pathlib import Path

import jax
import numpy as np
from study_runs import PSEUDO, ROOT

from dynapurls_jax.adaptation.similarity import embedding_of
from dynapurls_jax.commands import parser_of
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.metrics import accuracy
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.evaluation.tasks import unseen_task
from dynapurls_jax.evaluation.trained_run import TrainedRun
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.run import make_spec, read_inputs, train_run

VARIANTS = {  # overrides of the dataset's configuration
    "row head": {},
    "row head, dropout 0.3": {"method.purls.dropout": 0.3},
    "row head, weight decay 0.1": {"fit.weight_decay": 0.1},
    "joint head, dropout 0.3": {"method.purls.head": "joint", "method.purls.dropout": 0.3},
    "row head, per_candidate": {"method.purls.query": "per_candidate"},
}
COLUMNS = ("global", "all", "global, centred", "all, centred")


def main() -> None:
    """Prints a table as it grows."""
    parser = parser_of(__doc__)
    parser.add_argument("--datasets", nargs="+", choices=PSEUDO, default=list(PSEUDO))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    options = parser.parse_args()
    keep_memory()
    print(f"| dataset | model | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|---|", flush=True)
    for dataset in options.datasets:
        for name in options.variants:
            config = load_config(ROOT / f"configs/{dataset}.py")
            config.update_from_flattened_dict(VARIANTS[name])
            inputs = read_inputs(config)
            shares = [
                hit_rates(train_run(make_spec(inputs, options.runs / dataset, split, seed)))
                for split, seed in PSEUDO[dataset]
            ]
            cells = map(percent, zip(*shares, strict=True))
            print(f"| {dataset} | {name} | {' | '.join(cells)} |", flush=True)
            jax.clear_caches()


def hit_rates(run: TrainedRun) -> list[float]:
    """Accuracies of a run in the order of `COLUMNS`."""
    embedding, variables, task = embedding_of(run.method), run.variables, unseen_task(run)

    def vectors(features):
        return embedding.embed(variables, features, task.candidates)

    test = vectors(task.features)
    mean = vectors(run.features_of(run.protocol.train)).mean(axis=0)
    return [
        accuracy(
            np.asarray(match(variables, moved, task.candidates.classes).argmax(-1)), task.labels
        )
        for moved in (test, test - mean)
        for match in (embedding.match, embedding.match_all)
    ]


if __name__ == "__main__":
    main()
