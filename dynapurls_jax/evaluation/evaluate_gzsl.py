"""Generalised zero-shot evaluation of a trained workdir: gates fitted on pseudo runs, then tested.

Texts and logits have a row for every class of the corpus, those that do not take part switched
off: class ids are global all the way.
"""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from data_pipelines.protocols import Protocol
from dynapurls_jax.adaptation import Gate, adapter_of, gated, run_stream, static
from dynapurls_jax.adaptation.registry import make_adapter, make_method
from dynapurls_jax.zero_shot.nn.partition import Text
from dynapurls_jax.evaluation.gzsl import (
    GateFit,
    PseudoClips,
    fit_gate,
    gate_of,
    scores_of,
    table_9,
)
from dynapurls_jax.evaluation.gzsl_report import (
    NO_GATE,
    GzslResult,
    pseudo_split,
    write_gzsl_report,
)
from dynapurls_jax.evaluation.streams import candidate_text, predict_streams, stream_order
from dynapurls_jax.text.prompts import tower_prompt
from dynapurls_jax.training.fit import model_of
from dynapurls_jax.training.run import Inputs, TrainedRun, load_inputs, load_trained, trained_seeds

CHUNK = 256  # clips scored at once where nothing is learned


def evaluate_gzsl(
    config: ConfigDict, workdir: Path, folder: Path, gates: Sequence[str], command: str
) -> str:
    """Evaluates every real split and seed of `config` and writes the report into `folder`.

    Args:
      gates: names in `adaptation.gated.GATE_SCORES`.

    Raises:
      FileNotFoundError: a run is not trained, or no pseudo run to fit the gates on; says how to
        train it.
      ValueError: no real split, or a query that needs labels.

    Returns:
      The report's Markdown.
    """
    if config.alignment.query == "oracle_label":
        raise ValueError(
            "query=oracle_label has no zero-shot logits, so nothing for a gate to read"
        )
    splits = [split for split in config.splits if not split.startswith("pseudo-")]
    if not splits:
        raise ValueError(
            f"expected a split with unseen classes of its own, got {', '.join(config.splits)}: on "
            "pseudo splits gates are fitted"
        )
    inputs = load_inputs(config)
    seeds = {split: pseudo_seeds(inputs, workdir, split) for split in splits}
    fits, results = {}, []
    for split in splits:
        pseudo = pseudo_clips(inputs, workdir, split, seeds[split])
        fits[split] = {gate: fit_gate(gate, pseudo) for gate in gates}
        for seed in config.seeds:
            trained = load_trained(inputs, workdir, split, seed)
            results.append(evaluate_run(inputs, trained, fits[split]))
    return write_gzsl_report(folder, results, fits, seeds, config, inputs.corpus, command)


def pseudo_seeds(inputs: Inputs, workdir: Path, split: str) -> tuple[int, ...]:
    """Seeds of the trained runs on which the gates of a split can be fitted.

    Raises:
      FileNotFoundError: there is none; says how to train one.
    """
    pseudo = pseudo_split(split)
    seeds = trained_seeds(inputs, workdir, pseudo)
    if not seeds:
        config = inputs.config
        there = sorted({folder.parent.name for folder in workdir.glob("*/seed*")})
        # All of them: what is evaluated without --split is what was trained last.
        splits = tuple(dict.fromkeys([*config.splits, *there, pseudo]))
        raise FileNotFoundError(
            f"{workdir / pseudo}: no trained run to fit the gate of split {split} on; train it "
            f"with\n  python -m dynapurls_jax.train --config=configs/{config.name}.py "
            f"--workdir={workdir} --config.alignment.query={config.alignment.query} "
            f'--config.splits="{splits}"'
        )
    return seeds


def pseudo_clips(
    inputs: Inputs, workdir: Path, split: str, seeds: Sequence[int]
) -> list[PseudoClips]:
    """Held-out seen and pseudo-unseen clips of a split's pseudo runs, for each seed.

    Each seed has an encoder and an alignment of its own.
    """
    found = []
    for seed in seeds:
        trained = load_trained(inputs, workdir, pseudo_split(split), seed)
        protocol = trained.protocol
        clips = np.concatenate([protocol.val, protocol.unseen_test])
        logits = static_logits(inputs, trained, clips)
        labels = inputs.corpus.labels[clips]
        found.append(PseudoClips(logits, labels, seen_classes(inputs, protocol)))
    return found


def evaluate_run(inputs: Inputs, trained: TrainedRun, fits: dict[str, GateFit]) -> GzslResult:
    """Predictions of one run on its seen and unseen test clips, with the labels beside them."""
    config, protocol = inputs.config, trained.protocol
    if not len(protocol.seen_test):
        raise ValueError(f"split {trained.split!r} has no test clips of seen classes")
    clips = np.concatenate([protocol.seen_test, protocol.unseen_test])
    labels = inputs.corpus.labels[clips]
    seen = seen_classes(inputs, protocol)
    held_out = static_logits(inputs, trained, protocol.val)
    gates = {name: gate_of(fit, held_out, seen) for name, fit in fits.items()}
    logits = static_logits(inputs, trained, clips)
    orders = [
        stream_order(config.eval.stream, labels, trained.seed, number)
        for number in range(config.eval.orders)
    ]
    order = np.stack(orders)
    predicted = {NO_GATE: logits.argmax(axis=1)[order]}
    for name, gate in gates.items():
        full = predict_full(inputs, trained, clips, orders, gate)
        rows = table_9(full, logits[order], seen)
        predicted |= {(name, row): values for row, values in rows.items()}
    return GzslResult(
        split=trained.split,
        seed=trained.seed,
        seen=seen,
        candidates=len(protocol.seen) + len(protocol.unseen),
        labels=labels,
        gates=gates,
        scores={name: scores_of(name, logits, seen, fit.temperature) for name, fit in fits.items()},
        order=order,
        predicted=predicted,
    )


def predict_full(
    inputs: Inputs,
    trained: TrainedRun,
    clips: Int[np.ndarray, " N"],
    orders: Sequence[np.ndarray],
    gate: Gate,
) -> Int[np.ndarray, "orders N"]:
    """Class ids behind a gate, with `config.eval.adapter` on both sides."""
    config, protocol = inputs.config, trained.protocol
    model, variables = model_of(config, inputs.text.shape[-1]), trained.variables
    stream = model.encode(variables, trained.tokens_of(clips))
    everything = range(len(inputs.text))
    method = make_method(
        *(config.eval.adapter, config, model, variables, stream, len(orders[0])),
        lambda: tower_prompt(config.text, inputs.corpus, everything, model.rows),
    )
    adapter = make_adapter(config, gated(model, variables, gate, method, method, protocol.seen))
    text, active = all_classes(inputs, protocol)
    seed, chunk = trained.seed, config.eval.chunk
    return predict_streams(adapter, text, stream, orders, seed, chunk, active).predicted


def static_logits(
    inputs: Inputs, trained: TrainedRun, clips: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """What the model says without adaptation; minus infinity for classes that do not take part."""
    model = model_of(inputs.config, inputs.text.shape[-1])
    adapter = adapter_of(static(model, trained.variables))
    state = adapter.init(*all_classes(inputs, trained.protocol))
    stream = model.encode(trained.variables, trained.tokens_of(clips))
    return np.asarray(run_stream(adapter, state, stream, chunk=CHUNK)[1].logits)


def all_classes(inputs: Inputs, protocol: Protocol) -> tuple[Text, Bool[np.ndarray, " C"]]:
    """The text of every class of the corpus, and which are candidates: the seen and the unseen."""
    everything = np.arange(len(inputs.text))
    text = candidate_text(jnp.asarray(inputs.text), protocol.seen, everything)
    return text, np.isin(everything, [*protocol.seen, *protocol.unseen])


def seen_classes(inputs: Inputs, protocol: Protocol) -> Bool[np.ndarray, " C"]:
    """Of each class of the corpus, whether it is seen."""
    return np.isin(np.arange(len(inputs.text)), protocol.seen)
