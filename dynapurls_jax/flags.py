"""What the two commands share: the --config flag and its errors, clear and without a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from data_pipelines.errors import DataError, unknown
from dynapurls_jax.config import (
    ADAPTERS,
    CONFIDENCES,
    DATASETS,
    DTYPES,
    FITS,
    GRANULARITY_SETS,
    HEADS,
    KEEPS,
    OPTIMIZERS,
    ORDERS,
    PARTITIONS,
    PRIORS,
    QUERIES,
    REFINE_OPTIMIZERS,
    SCORES,
    STREAMS,
    TARGETS,
    TEXT_ENCODERS,
    THRESHOLDS,
    TURNS,
    WEIGHTS,
    default_config,
)
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.training.signals import Stopped, stop_on_signals
from dynapurls_jax.training.stages import CheckpointError, NonFiniteError, WorkdirMismatchError

# Errors that a user can act on: their message says everything, so no traceback is shown.
USER_ERRORS = (
    CheckpointError,
    DataError,
    ModuleNotFoundError,
    NonFiniteError,
    OSError,
    ValueError,
    WorkdirMismatchError,
)


def define_config(default: str | None) -> flags.FlagHolder:
    """`--config=FILE` with `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        "config",
        default,
        "Experiment: a Python file with get_config(). Any key of it can be overridden: "
        "--config.alignment.query=per_candidate. dynapurls_jax/config.py lists all keys.",
        lock_config=True,
    )


def check_config(config: ConfigDict) -> None:
    """Refuses, before any work, a config that lacks keys or names something that does not exist.

    Raises:
      ValueError: says which key, what was expected and what came.
    """
    missing = sorted(_keys(default_config()) - _keys(config))
    if missing:
        raise ValueError(
            f"config lacks {', '.join(missing)}: get_config() should start from "
            "dynapurls_jax.config.default_config()"
        )
    names = {
        "data.name": (config.data.name, DATASETS),
        "data.fit": (config.data.fit, FITS),
        "encoder.dtype": (config.encoder.dtype, DTYPES),
        "pretrain.optimizer": (config.pretrain.optimizer, OPTIMIZERS),
        "text.encoder": (config.text.encoder, TEXT_ENCODERS),
        "text.dtype": (config.text.dtype, DTYPES),
        "alignment.query": (config.alignment.query, QUERIES),
        "alignment.head": (config.alignment.head, HEADS),
        "alignment.score": (config.alignment.score, SCORES),
        "alignment.partition": (config.alignment.partition, PARTITIONS),
        "alignment.granularities": (config.alignment.granularities, GRANULARITY_SETS),
        "alignment.weights": (config.alignment.weights, WEIGHTS),
        "eval.adapter": (config.eval.adapter, ADAPTERS),
        "eval.stream": (config.eval.stream, ORDERS),
        "eval.turn": (config.eval.turn, TURNS),
        "refine.optimizer": (config.refine.optimizer, REFINE_OPTIMIZERS),
        "refine.keep": (config.refine.keep, KEEPS),
        "refine.confidence": (config.refine.confidence, CONFIDENCES),
        "refine.threshold_kind": (config.refine.threshold_kind, THRESHOLDS),
        "refine.targets": (config.refine.targets, TARGETS),
        "balanced.prior": (config.balanced.prior, PRIORS),
    }
    for key, (value, known) in names.items():
        if value not in known:
            raise unknown(key, value, known)
    if config.data.frames < 4 or config.data.frames % 4:
        raise ValueError(f"data.frames: expected a multiple of 4, got {config.data.frames}")
    for stream in config.data.streams:
        if stream not in STREAMS:
            raise unknown("stream in data.streams", stream, STREAMS)
    if not config.data.streams:
        raise ValueError(f"data.streams: expected one or more of {', '.join(STREAMS)}")
    counts = {"eval.orders": config.eval.orders, "eval.chunk": config.eval.chunk}
    counts |= {f"refine.{key}": config.refine[key] for key in ("steps", "window")}
    counts |= {f"balanced.{key}": config.balanced[key] for key in ("window", "passes")}
    counts |= {f"tda.{key}": config.tda[key] for key in ("slots", "negative_slots")}
    counts |= {f"adanpc.{key}": config.adanpc[key] for key in ("neighbours", "slots")}
    counts |= {f"tpt.{key}": config.tpt[key] for key in ("views", "steps")}
    counts["tent.steps"] = config.tent.steps
    for key, value in counts.items():
        if value < 1:
            raise ValueError(f"{key}: expected 1 or more, got {value}")
    if config.refine.slots < 0:
        raise ValueError(f"refine.slots: expected 0 or more, got {config.refine.slots}")
    if config.alignment.partition == "static" and config.alignment.query != "label_free":
        raise ValueError(
            "alignment.partition=static asks nobody where to look: expected "
            f"alignment.query=label_free with it, got {config.alignment.query}"
        )
    positive = {f"balanced.{key}": config.balanced[key] for key in ("temperature", "trust")}
    positive["refine.target_temperature"] = config.refine.target_temperature
    for key, value in positive.items():
        if value <= 0:
            raise ValueError(f"{key}: expected more than 0, got {value}")
    for key in ("share", "kept"):
        if not 0 < config.tpt[key] <= 1:
            raise ValueError(
                f"tpt.{key}: expected a share above 0, at most 1, got {config.tpt[key]}"
            )
    if config.refine.threshold_kind == "quantile" and not 0 <= config.refine.threshold <= 1:
        raise ValueError(
            f"refine.threshold: expected a quantile in [0, 1], got {config.refine.threshold}"
        )


def _keys(config: ConfigDict, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in config.items():
        nested = isinstance(value, ConfigDict)
        keys |= _keys(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}"}
    return keys


def default_workdir(config: ConfigDict) -> Path:
    """`runs/<config.name>`."""
    return Path("runs") / config.name


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command; errors of the user's making end it with their message and status 2.

    Ctrl-C and SIGTERM end it with status 130 and 143, once what is under way can be gone on with.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
        if not flags.FLAGS["verbosity"].present:  # libraries log every file they touch
            logging.set_verbosity(logging.ERROR)
        keep_memory()
        stop_on_signals()
        try:
            main(argv)
        except USER_ERRORS as error:
            if flags.FLAGS.verbosity > 0:  # --verbosity=1 shows where it came from
                raise
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except Stopped as stopped:
            print(f"\nstopped by {stopped}; the same command goes on from here", file=sys.stderr)
            sys.exit(stopped.status)

    def parse(argv: list[str]) -> list[str]:
        try:
            return app.parse_flags_with_usage(argv)
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            message = error.args[0] if isinstance(error, KeyError) else error
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)

    app.run(guarded, flags_parser=parse)
