"""Trains a zero-shot model: encoder, tokens, method, for every split and seed of a configuration.

  python -m dynapurls_jax.train --config=utd_mhad         or a file, --config=configs/utd_mhad.py
  python -m dynapurls_jax.train --config=configs/demo.py --config.method.purls.query=per_candidate
  python -m dynapurls_jax.train --config=configs/utd_mhad.py --config.encoder.name=kinematics \
    --config.method.name=ridge

Stages that are done are skipped; after Ctrl-C, SIGTERM or a crash the same command goes on where it
was. Each stage reports into its folder while it runs: metrics.jsonl, and tensorboard/ for
`tensorboard --logdir=runs`. All devices of the machine take part; several machines too, over a
workdir that they share: --processes=auto on TPU pods and Slurm, else on each, say,
--processes=first-machine:9911,0,2.
"""

from pathlib import Path

from absl import flags

from dynapurls_jax.compile_cache import keep_programs
from dynapurls_jax.config_names import config_names
from dynapurls_jax.flags import define_config, run

_CONFIG = define_config(default=None)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default runs/<name>.")
_PROFILE = flags.DEFINE_bool(
    "profile", False, "Write a trace of a few steps into each stage's folder of the first run."
)
_PROCESSES = flags.DEFINE_string(
    "processes", None, "Train together with others: auto, or host:port,number,count."
)


def main(_: list[str]) -> None:
    """Checks the flags, then trains all runs of the configuration."""
    from dynapurls_jax.config import check_config

    config = _CONFIG.value
    if config is None:
        raise ValueError(f"expected --config=NAME, one of {', '.join(config_names())}, or a file")
    check_config(config)
    workdir = Path(_WORKDIR.value) if _WORKDIR.value else Path("runs") / config.name
    # JAX starts only once the flags are right.
    from dynapurls_jax.serving.run_models import keep_model
    from dynapurls_jax.training import processes
    from dynapurls_jax.training.run import train_all

    keep_programs(workdir)
    if _PROCESSES.value:
        processes.join(_PROCESSES.value)
    train_all(config, workdir, _PROFILE.value, keep_model)
    print(f"trained: {workdir}\nnext: python -m dynapurls_jax.stream_eval --workdir={workdir}")


if __name__ == "__main__":
    run(main)
