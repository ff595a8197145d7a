"""Trains a zero-shot model: encoder, tokens, method, for every split and seed of a configuration.

  dynapurls train --config=demo                   synthetic clips, nothing to download
  dynapurls train --config=utd_mhad --config.splits=22_5,18_9 --config.encoder.name=shift_gcn
  dynapurls train --config=my_experiment.py --workdir=runs/mine

--config is the name of a shipped configuration or a Python file with get_config(). Each of its keys
is an option: --config.KEY=VALUE. Finished stages are skipped: after Ctrl-C, SIGTERM or a crash the
same command resumes. Each stage writes metrics.jsonl and tensorboard/ into its folder. All devices
of the machine are used. Several machines train together over a shared workdir: --processes=auto on
TPU pods and Slurm, otherwise for example --processes=first-machine:9911,0,2 on each.
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
    from dynapurls_jax.adaptation.registry import supports
    from dynapurls_jax.serving.run_models import keep_model
    from dynapurls_jax.training import processes
    from dynapurls_jax.training.run import train_all

    keep_programs(workdir)
    if _PROCESSES.value:
        processes.join(_PROCESSES.value)
    option = ""

    def finish(spec, run) -> None:
        nonlocal option
        keep_model(spec, run)
        if not supports(config.adapter.name, run.method):
            option = " --adapter=static"

    train_all(config, workdir, _PROFILE.value, finish)
    print(f"trained: {workdir}\nnext: dynapurls stream --workdir={workdir}{option}")


if __name__ == "__main__":
    run(main)
