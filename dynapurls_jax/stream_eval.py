"""Zero-shot evaluation on the unseen stream, static and refined, over several stream orders.

  python -m dynapurls_jax.stream_eval                      the newest run under runs/
  python -m dynapurls_jax.stream_eval --workdir=runs/utd_mhad --split=22_5 --seeds=0,1
  python -m dynapurls_jax.stream_eval --query=oracle_label     the published protocol, marked ORACLE
  python -m dynapurls_jax.stream_eval --gzsl       seen and unseen classes together, behind a gate

  some_camera | python -m dynapurls_jax.stream_eval --input=- --state=runs/camera

Prints a table and writes report.json, report.md and, for each run, a page with figures and a viewer
of clips (with --gzsl gate_roc.png, from gates fitted on the trained split pseudo-<split>-0). With
--input it evaluates nothing: it answers each clip or tokens that come (JSON lines or npy arrays,
see data_pipelines/formats/sample_stream.py) with a JSON line: class, confidence, latency.
"""

import contextlib
import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from data_pipelines.errors import DataError
from dynapurls_jax.compile_cache import keep_programs
from dynapurls_jax.config import ADAPTERS, GATES, default_config
from dynapurls_jax.flags import check_config, run

_WORKDIR = flags.DEFINE_string("workdir", None, "A trained workdir; default: the newest in runs/.")
_ADAPTER = flags.DEFINE_string("adapter", None, f"Test-time method: {', '.join(ADAPTERS)}.")
_QUERY = flags.DEFINE_string(
    "query", None, "Who asks: label_free, per_candidate, or oracle_label (marked ORACLE)."
)
_SPLIT = flags.DEFINE_list("split", None, "Splits to evaluate; default: those trained last.")
_SEEDS = flags.DEFINE_list("seeds", None, "Training seeds; default: those trained last.")
_GZSL = flags.DEFINE_bool("gzsl", False, "Generalised: test clips of seen and unseen classes.")
_GATE = flags.DEFINE_enum("gate", "all", [*GATES, "all"], "With --gzsl: what tells unseen clips.")
_INPUT = flags.DEFINE_string("input", None, "Answer the samples of this file; - is standard input.")
_STATE = flags.DEFINE_string(
    "state", None, "With --input: a folder to keep the stream's state in, and to go on from."
)
_CAPACITY = flags.DEFINE_integer(
    "capacity",
    None,
    "With --input: room for so many classes; default: the unseen ones.",
    lower_bound=1,
)
_PROFILE = flags.DEFINE_bool("profile", False, "Write a trace of the evaluation's first run.")
_ORDERS = flags.DEFINE_integer("orders", None, "Number of stream orders.", lower_bound=1)


def newest_workdir(root: Path) -> Path:
    """The workdir under `root` that was trained last.

    Raises:
      FileNotFoundError: there is none; says how to make one.
    """
    found = sorted(root.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"no trained workdir under {root.resolve()}; make one with\n"
            "  python -m dynapurls_jax.train --config=configs/demo.py"
        )
    return found[-1].parent


def load_config(workdir: Path) -> ConfigDict:
    """The configuration that a workdir was trained with.

    Raises:
      FileNotFoundError: it is not a workdir.
      DataError: it is one, but not of this version.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{workdir} is no workdir: it has no config.json")
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error}); train again to renew it", path) from error
    config = default_config()  # a workdir of an earlier version lacks keys that came since
    try:
        config.update(values)
        check_config(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition(". Other fields")[0]
        raise DataError(
            f"no configuration of this version ({reason}); train again", path
        ) from error
    return config


def _subset(kind: str, chosen: list[str] | None, trained: tuple) -> tuple:
    """The chosen ones of what was trained."""
    if chosen is None:
        return trained
    names = {str(item): item for item in trained}
    missing = [item for item in chosen if item not in names]
    if missing:
        raise ValueError(
            f"--{kind}: {', '.join(missing)} not in this workdir, which has {', '.join(names)}"
        )
    return tuple(names[item] for item in chosen)


def check_flags() -> None:
    """Refuses flags that would be ignored.

    Raises:
      ValueError: says which, and what it goes with.
    """
    given = {name for name in ("state", "capacity") if flags.FLAGS[name].present}
    if given and not _INPUT.value:
        raise ValueError(f"--{given.pop()} goes with --input")
    if _INPUT.value and (_GZSL.value or _ORDERS.value):
        raise ValueError("--input answers one stream: without --gzsl and --orders")
    if _PROFILE.value and (_INPUT.value or _GZSL.value):
        raise ValueError("--profile traces an evaluation: without --input and --gzsl")
    if flags.FLAGS["gate"].present and not _GZSL.value:
        raise ValueError("--gate goes with --gzsl")
    for name, chosen in (("split", _SPLIT.value), ("seeds", _SEEDS.value)):
        if _INPUT.value and chosen and len(chosen) > 1:
            raise ValueError(f"--input answers one stream: expected one --{name}, got {chosen}")
    if _INPUT.value and _INPUT.value != "-" and not Path(_INPUT.value).is_file():
        raise FileNotFoundError(f"--input: no file {_INPUT.value}")


def answer_input(config: ConfigDict, workdir: Path, source: str) -> None:
    """One JSON line for each request; everything else that there is to say goes to stderr."""
    from data_pipelines.formats.sample_stream import read_requests
    from dynapurls_jax.serving.live_stream import LiveStream, answer_all
    from dynapurls_jax.training.run import load_inputs

    split, seed = config.splits[0], config.seeds[0]
    with contextlib.redirect_stdout(sys.stderr):
        live = LiveStream(load_inputs(config), workdir, split, seed, _CAPACITY.value)
        if len(config.splits) * len(config.seeds) > 1:
            print("several runs here: the first is taken; --split and --seeds choose another")
        print(f"{split}, seed {seed}, {config.eval.adapter}; ready", flush=True)
    folder = Path(_STATE.value) if _STATE.value else None
    with contextlib.ExitStack() as stack:
        stream = sys.stdin.buffer
        if source != "-":
            stream = stack.enter_context(Path(source).open("rb"))
        answers = stack.enter_context(
            contextlib.closing(answer_all(live, read_requests(stream), folder))
        )
        for answer in answers:
            print(json.dumps(answer), flush=True)
    state = live.state
    print(f"{int(state.samples)} samples, {int(state.skipped)} skipped", file=sys.stderr)


def main(_: list[str]) -> None:
    """Flags, then one call."""
    from dynapurls_jax.evaluation.evaluate import evaluate
    from dynapurls_jax.evaluation.evaluate_gzsl import evaluate_gzsl

    workdir = Path(_WORKDIR.value) if _WORKDIR.value else newest_workdir(Path("runs"))
    check_flags()
    config = load_config(workdir)
    config.splits = _subset("split", _SPLIT.value, config.splits)
    config.seeds = _subset("seeds", _SEEDS.value, config.seeds)
    config.alignment.query = _QUERY.value or config.alignment.query
    config.eval.adapter = _ADAPTER.value or config.eval.adapter
    config.eval.orders = _ORDERS.value or config.eval.orders
    check_config(config)
    keep_programs(workdir)
    if _INPUT.value:
        answer_input(config, workdir, _INPUT.value)
        return
    command = " ".join(["python -m dynapurls_jax.stream_eval", *sys.argv[1:]])
    # A part of the workdir gets a folder of its own: it must not replace the whole.
    name = [config.alignment.query, config.eval.adapter, *(_SPLIT.value or [])]
    name += [f"seed{seed}" for seed in _SEEDS.value or []]
    if _GZSL.value:
        gates = GATES if _GATE.value == "all" else (_GATE.value,)
        name = ["gzsl", *name, *(gates if len(gates) == 1 else ())]
        folder = workdir / "report" / "_".join(name)
        print(evaluate_gzsl(config, workdir, folder, gates, command))
    else:
        folder = workdir / "report" / "_".join(name)
        print(evaluate(config, workdir, folder, command, _PROFILE.value))
    print(f"report: {folder / 'report.md'}")


if __name__ == "__main__":
    run(main)
