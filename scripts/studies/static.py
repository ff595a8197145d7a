"""What the static model should be: heads, dropout, queries, scored rows, centring; no refinement.

  python scripts/studies/static.py                       pseudo-unseen classes of all datasets
  python scripts/studies/static.py --datasets demo --variants "row head" "joint head"

Runs are those of `scripts/studies/refinement.py --pseudo`: an encoder and an alignment for each,
trained where missing (alignments of another form in a folder of their own). Shares of hits in %,
mean ± std over runs, one seed each, for the global row and for all rows weighted by alpha, each as
it is and with the mean of the training clips taken from the projected rows ("centred").
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.protocols import make_protocol
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.report import percent
from dynapurls_jax.evaluation.streams import candidate_text
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.run import (
    align_stage,
    encode_stages,
    load_inputs,
    on_device,
    run_folder,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.studies.refinement import PSEUDO, ROOT

VARIANTS = {
    "row head": {},
    "row head, dropout 0.3": {"dropout": 0.3},
    "row head, weight decay 0.1": {"weight_decay": 0.1},
    "joint head, dropout 0.3": {"head": "joint", "dropout": 0.3},
    "row head, per_candidate": {"query": "per_candidate"},
}


def main() -> None:
    """Prints a table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=PSEUDO, default=list(PSEUDO))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    options = parser.parse_args()
    keep_memory()
    print("| dataset | model | global | all rows | global, centred | all rows, centred |")
    print("|---|---|---|---|---|---|", flush=True)
    for dataset in options.datasets:
        for name in options.variants:
            cells = map(percent, zip(*study(dataset, name, options), strict=True))
            print(f"| {dataset} | {name} | {' | '.join(cells)} |", flush=True)
            jax.clear_caches()


def study(dataset: str, name: str, options) -> list[list[float]]:
    """Shares of hits of each run: global, all rows, and both centred."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.alignment.update(VARIANTS[name])
    inputs = load_inputs(config)
    model = model_of(config, inputs.text.shape[-1])
    found = []
    for split, seed in PSEUDO[dataset]:
        encoder = run_folder(options.runs / dataset, split, seed)
        folder = encoder
        if set(VARIANTS[name]) - {"query"}:  # a query has a folder of its own in every run
            own = "static-" + "".join(c if c.isalnum() else "-" for c in name)
            folder = run_folder(options.runs / dataset / own, split, seed)
        protocol = make_protocol(inputs.corpus, split, config.data.protocol)
        tokens, identity, _ = encode_stages(inputs, protocol, encoder, seed)
        variables, _ = align_stage(inputs, protocol, folder, seed, tokens, identity)
        text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
        labels = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])

        def rows(clips, variables=variables, tokens=tokens, text=text):
            visual = model.encode(variables, on_device(tokens, clips))
            return model.project(variables, visual, model.queries(text))

        test, mean = rows(protocol.unseen_test), rows(protocol.train).mean(axis=0)
        found.append(
            [
                float(np.mean(np.argmax(match(variables, moved, text.classes), axis=-1) == labels))
                for moved in (test, test - mean)
                for match in (model.match, model.match_all)
            ]
        )
    return found


if __name__ == "__main__":
    main()
