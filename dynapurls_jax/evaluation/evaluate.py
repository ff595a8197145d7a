"""From a trained workdir to a report: the one place where labels meet predictions."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.zero_shot.oracle import oracle_hit_rate
from dynapurls_jax.evaluation.inspection import inspect_run
from dynapurls_jax.evaluation.page import Clips
from dynapurls_jax.evaluation.report import RunResult, write_report
from dynapurls_jax.evaluation.run_page import write_run_page
from dynapurls_jax.evaluation.streams import (
    candidate_text,
    predict_streams,
    stream_key,
    stream_order,
)
from dynapurls_jax.text.features import class_texts
from dynapurls_jax.text.prompts import tower_prompt
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.run import (
    Inputs,
    TrainedRun,
    load_inputs,
    load_trained,
    skeleton_of,
)


def evaluate(
    config: ConfigDict, workdir: Path, folder: Path, command: str, profile: bool = False
) -> str:
    """Evaluates every split and seed of `config` and writes the report into `folder`.

    Args:
      profile: write a trace of the first run into it, too.

    Raises:
      FileNotFoundError: a run is not trained; says how to train it.

    Returns:
      The report's Markdown.
    """
    inputs = load_inputs(config)
    results: list[RunResult] = []
    for split in config.splits:
        for seed in config.seeds:
            trained = load_trained(inputs, workdir, split, seed)
            with ExitStack() as stack:
                if profile and not results:
                    stack.enter_context(jax.profiler.trace(folder / "profile"))
                    print(f"  trace: {folder / 'profile'}", flush=True)
                result = evaluate_run(inputs, trained)
            if result.details is not None:
                clips = clips_of(inputs, trained, result.details.samples)
                page = write_run_page(folder, result, clips, inputs.corpus, config, command)
                print(f"  clip by clip: {page}", flush=True)
            results.append(replace(result, details=None))  # 16 000 clips of NTU are much
    query, adapter = config.alignment.query, config.eval.adapter
    return write_report(folder, results, inputs.corpus, adapter, query, command)


def clips_of(inputs: Inputs, trained: TrainedRun, samples: np.ndarray) -> Clips:
    """What a run's page plays: these of its unseen test clips, and who asks for attention."""
    config, protocol = inputs.config, trained.protocol
    index, texts = protocol.unseen_test[samples], None
    asks = "the mean of the seen classes' texts"
    if config.alignment.partition == "static":
        asks = "nobody: the partition is fixed"
    elif config.alignment.query == "per_candidate":
        asks = "the class that the static model predicted"
        if config.text.encoder != "precomputed":
            every = class_texts(config.text, inputs.corpus)
            texts = [[phrasings[0] for phrasings in every[c]] for c in protocol.unseen]
    return Clips(
        joints=None if inputs.clips is None else inputs.clips.clips,
        rows=index,
        ids=[inputs.corpus.clip_ids[n] for n in index],
        skeleton=skeleton_of(inputs),
        asks=asks,
        texts=texts,
    )


def evaluate_run(inputs: Inputs, trained: TrainedRun) -> RunResult:
    """Predictions of one run on its unseen clips, with the labels beside them."""
    config, protocol = inputs.config, trained.protocol
    model = model_of(config, inputs.text.shape[-1])
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, protocol.unseen)
    stream = model.encode(trained.variables, trained.tokens_of(protocol.unseen_test))
    labels = np.searchsorted(protocol.unseen, inputs.corpus.labels[protocol.unseen_test])
    streams, oracle, details = {}, None, None
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
            chunk = config.eval.chunk
            streams[name] = predict_streams(adapter, text, stream, orders, trained.seed, chunk)
        details = inspect_run(
            *(model, trained.variables, text, stream, method, adapter),
            order=orders[0],
            key=stream_key(trained.seed, 0),
            chunk=config.eval.chunk,
        )
    return RunResult(
        split=trained.split,
        seed=trained.seed,
        class_names=tuple(inputs.corpus.class_names[c] for c in protocol.unseen),
        labels=labels,
        streams=streams,
        oracle=oracle,
        training=trained.results,
        details=details,
    )
