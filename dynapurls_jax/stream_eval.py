"""Evaluates a trained model on unseen classes, or runs it on a live stream.

  dynapurls stream                                     the newest run in runs/
  dynapurls stream --workdir=runs/utd_mhad --split=22_5 --seeds=0,1
  dynapurls stream --query=oracle_label                the published protocol, marked ORACLE
  dynapurls stream --gzsl                              seen and unseen classes, behind a gate

  some_camera | dynapurls stream --input=- --model=universal --skeleton=coco_17
  some_camera | dynapurls stream --input=- --workdir=runs/utd_mhad --state=camera

The test clips of the unseen classes are a stream, in several random orders. The model predicts them
without (static) and with (refined) adaptation to the stream. Prints a table and writes report.json,
report.md, and for each run a page with figures and its clips. --gzsl writes gate_roc.png too; its
gates are fitted on the split pseudo-<split>-0, which must be trained first. With --input there is
no evaluation, and no training data is needed: input lines are clips, frames and new actions (JSON
lines or npy arrays, docs/streaming.md), output lines are JSON with class, confidence, top, latency.
"""

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from data_pipelines.logs import log
from dynapurls_jax import stream_answers
from dynapurls_jax.adaptation.registry import ADAPTERS, GATES
from dynapurls_jax.compile_cache import keep_programs
from dynapurls_jax.flags import run
from dynapurls_jax.registry import chosen_settings
from dynapurls_jax.workdirs import RUNS, newest_workdir, workdir_config

_WORKDIR = flags.DEFINE_string("workdir", None, "A trained workdir; default: the newest in runs/.")
_ADAPTER = flags.DEFINE_string(
    "adapter", None, f"Test-time method: {', '.join(ADAPTERS.names)}; or my_module:MY_ENTRY."
)
_QUERY = flags.DEFINE_string(
    "query",
    None,
    "For method purls, the text of the attention queries: label_free, per_candidate, or "
    "oracle_label (marked ORACLE).",
)
_SPLIT = flags.DEFINE_list("split", None, "Splits to evaluate; default: those trained last.")
_SEEDS = flags.DEFINE_list("seeds", None, "Training seeds; default: those trained last.")
_GZSL = flags.DEFINE_bool("gzsl", False, "Generalised: test clips of seen and unseen classes.")
_GATE = flags.DEFINE_enum(
    "gate",
    "all",
    [*GATES.names, "all"],
    "With --gzsl: the gate's score. With --input: use the model's gate between seen classes and "
    "other actions; only stacking.",
)
_INPUT = flags.DEFINE_string(
    "input", None, "Run on the requests of this file; - is standard input."
)
_PROFILE = flags.DEFINE_bool("profile", False, "Write a trace of the evaluation's first run.")
_ORDERS = flags.DEFINE_integer("orders", None, "Number of stream orders.", lower_bound=1)

flags.adopt_module_key_flags(stream_answers)


def check_flags() -> None:
    """Refuses flags that would be ignored.

    Raises:
      ValueError: names the flag, and the flag that it needs or excludes.
    """
    if _INPUT.value:
        stream_answers.check_flags()
    else:
        stream_answers.refuse_flags()
    if flags.FLAGS["model"].value and (_WORKDIR.value or _SPLIT.value or _SEEDS.value):
        raise ValueError("--model replaces --workdir, --split and --seeds: expected one of them")
    if _INPUT.value and _QUERY.value:
        raise ValueError("--input uses the model as it was trained, so it excludes --query")
    if _INPUT.value and _GATE.value not in ("all", "stacking"):
        raise ValueError(f"--input: a model's gate is stacking, got --gate={_GATE.value}")
    if _INPUT.value and (_GZSL.value or _ORDERS.value):
        raise ValueError("--input reads one stream, so it excludes --gzsl and --orders")
    if _PROFILE.value and (_INPUT.value or _GZSL.value):
        raise ValueError("--profile traces an evaluation, so it excludes --input and --gzsl")
    if flags.FLAGS["gate"].present and not (_GZSL.value or _INPUT.value):
        raise ValueError("--gate goes with --gzsl or --input")
    for name, chosen in (("split", _SPLIT.value), ("seeds", _SEEDS.value)):
        if _INPUT.value and chosen and len(chosen) > 1:
            raise ValueError(f"--input reads one stream: expected one --{name}, got {chosen}")
    if _INPUT.value and _INPUT.value != "-" and not Path(_INPUT.value).is_file():
        raise FileNotFoundError(f"--input: no file {_INPUT.value}")


def apply_flags(config: ConfigDict) -> None:
    """Changes a workdir's configuration as the flags say.

    Raises:
      ValueError: a flag names something that does not exist or that the workdir does not have.
    """
    from dynapurls_jax.config import check_config

    config.splits = _chosen("split", _SPLIT.value, config.splits)
    config.seeds = _chosen("seeds", _SEEDS.value, config.seeds)
    if _QUERY.value:
        settings = chosen_settings(config.method)
        if "query" not in settings:
            raise ValueError(f"--query: this workdir's method {config.method.name} has no queries")
        settings.query = _QUERY.value
    config.adapter.name = _ADAPTER.value or config.adapter.name
    config.eval.orders = _ORDERS.value or config.eval.orders
    check_config(config)


def _chosen(flag: str, chosen: list[str] | None, trained: tuple) -> tuple:
    """Those of the trained splits or seeds that a flag names; all without the flag."""
    if chosen is None:
        return trained
    names = {str(item): item for item in trained}
    missing = [item for item in chosen if item not in names]
    if missing:
        raise ValueError(
            f"--{flag}: {', '.join(missing)} not in this workdir, which has {', '.join(names)}"
        )
    return tuple(names[item] for item in chosen)


def report_folder(config: ConfigDict, workdir: Path) -> Path:
    """`<workdir>/report/<method>[-<query>]_<adapter>`, and what the flags chose.

    A part of the workdir gets a folder of its own: it must not replace the report of the whole.
    """
    query = chosen_settings(config.method).get("query")
    method = f"{config.method.name}-{query}" if query else config.method.name
    parts = [method, config.adapter.name, *(_SPLIT.value or [])]
    parts += [f"seed{seed}" for seed in _SEEDS.value or []]
    if _GZSL.value:
        parts = ["gzsl", *parts, *([] if _GATE.value == "all" else [_GATE.value])]
    return workdir / "report" / "_".join(parts).replace(":", ".")


def evaluate_workdir(config: ConfigDict, workdir: Path) -> None:
    """Writes the report of all splits and seeds; prints its first table."""
    from dynapurls_jax.evaluation.evaluate import evaluate
    from dynapurls_jax.evaluation.evaluate_gzsl import evaluate_gzsl, real_splits
    from dynapurls_jax.evaluation.report import overview
    from dynapurls_jax.evaluation.trained_run import TrainedRun
    from dynapurls_jax.training.run import load_pseudo_runs, load_run, read_inputs

    folder = report_folder(config, workdir)
    command = " ".join(["dynapurls stream", *sys.argv[1:]])
    splits = real_splits(config.splits) if _GZSL.value else config.splits
    inputs = read_inputs(config)

    def runs() -> Iterator[TrainedRun]:
        for split in splits:
            for seed in config.seeds:
                yield load_run(inputs, workdir, split, seed)

    if _GZSL.value:
        pseudo_runs = {split: load_pseudo_runs(inputs, workdir, split) for split in splits}
        gates = GATES.names if _GATE.value == "all" else (_GATE.value,)
        markdown = evaluate_gzsl(runs(), pseudo_runs, folder, gates, command)
    else:
        markdown = evaluate(runs(), folder, command, _PROFILE.value)
    print(overview(markdown), end="\n\n")
    print(f"report: {folder / 'report.md'}")
    # Without an encoder a model cannot read clips; the published protocol writes no model file.
    if config.data.features or config.fit.published_protocol:
        print(f"next: open the pages in {folder} in a browser")
    else:
        print(f'next: dynapurls predict --clips=my_clips --actions="walk,run" --model={workdir}')


def served_folder(workdir: Path) -> Path:
    """The folder of the run that answers a stream: by the flags, else the first."""
    config = workdir_config(workdir)
    apply_flags(config)
    split, seed = config.splits[0], config.seeds[0]
    if len(config.splits) * len(config.seeds) > 1:
        log.warning("several runs here: the first is taken; --split and --seeds choose another")
    return workdir / split / f"seed{seed}"


def main(_: list[str]) -> None:
    """Checks the flags, then evaluates a workdir or answers the requests of a stream."""
    from data_pipelines.paths import data_home

    workdir = Path(_WORKDIR.value) if _WORKDIR.value else None
    check_flags()
    if _INPUT.value:
        keep_programs(data_home() if flags.FLAGS["model"].value or workdir is None else workdir)
        with redirect_stdout(sys.stderr):
            name = flags.FLAGS["model"].value or served_folder(workdir or newest_workdir(RUNS))
        stream_answers.answer_input(
            name, _INPUT.value, _ADAPTER.value, bool(flags.FLAGS["gate"].present)
        )
        return
    workdir = workdir or newest_workdir(RUNS)
    config = workdir_config(workdir)
    apply_flags(config)
    keep_programs(workdir)
    evaluate_workdir(config, workdir)


if __name__ == "__main__":
    run(main)
