"""From a trained workdir to a report: the one place where labels meet predictions."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.alignment.oracle import oracle_hit_rate
from dynapurls_jax.evaluation.report import RunResult, write_report
from dynapurls_jax.evaluation.zero_shot import candidate_text, predict_streams, stream_order
from dynapurls_jax.text.prompts import tower_prompt
from dynapurls_jax.training.align import model_of
from dynapurls_jax.training.run import Inputs, TrainedRun, load_inputs, load_trained


def evaluate(config: ConfigDict, workdir: Path, folder: Path, command: str) -> str:
    """Evaluates every split and seed of `config` and writes the report into `folder`.

    Raises:
      FileNotFoundError: a run is not trained; says how to train it.

    Returns:
      The report's Markdown.
    """
    inputs = load_inputs(config)
    results = [
        evaluate_run(inputs, load_trained(inputs, workdir, split, seed))
        for split in config.splits
        for seed in config.seeds
    ]
    query, adapter = config.alignment.query, config.eval.adapter
    return write_report(folder, results, inputs.corpus, adapter, query, command)


def evaluate_run(inputs: Inputs, trained: TrainedRun) -> RunResult:
    """Predictions of one run on its unseen clips, with the labels beside them."""
    config, protocol = inputs.config, trained.protocol
    model = model_of(config, inputs.text.shape[-1])
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
    stream = model.encode(trained.variables, trained.tokens[protocol.unseen_test])
    labels = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])
    streams, oracle = {}, None
    if config.alignment.query == "oracle_label":
        oracle = float(oracle_hit_rate(model, trained.variables, stream, text, jnp.asarray(labels)))
    else:
        orders = [
            stream_order(config.eval.stream, labels, trained.seed, number)
            for number in range(config.eval.orders)
        ]
        for name in dict.fromkeys(["static", config.eval.adapter]):
            method = make_method(
                *(name, config, model, trained.variables, stream, len(orders[0])),
                lambda: tower_prompt(config.text, inputs.corpus, protocol.unseen, model.rows),
            )
            adapter = make_adapter(config, method)
            streams[name] = predict_streams(
                adapter, text, stream, orders, trained.seed, config.eval.chunk
            )
    return RunResult(
        split=trained.split,
        seed=trained.seed,
        class_names=tuple(inputs.corpus.class_names[c] for c in protocol.unseen),
        labels=labels,
        streams=streams,
        oracle=oracle,
        training=trained.results,
    )
