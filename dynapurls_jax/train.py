"""Trains a zero-shot model: encoder, tokens, alignment, for every split and seed of a config.

  python -m dynapurls_jax.train --config=configs/utd_mhad.py
  python -m dynapurls_jax.train --config=configs/demo.py --config.alignment.query=per_candidate

Stages that are done are skipped; after Ctrl-C or a crash the same command goes on where it was.
"""

from pathlib import Path

from absl import flags

from dynapurls_jax.flags import check_config, default_workdir, define_config, run

_CONFIG = define_config(default=None)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default runs/<name>.")
flags.mark_flag_as_required("config")


def main(_: list[str]) -> None:
    """Flags, then one call."""
    from dynapurls_jax.training.run import train_all  # JAX starts only once the flags are right

    config = _CONFIG.value
    check_config(config)
    workdir = Path(_WORKDIR.value) if _WORKDIR.value else default_workdir(config)
    train_all(config, workdir)
    print(f"trained: {workdir}\nnext: python -m dynapurls_jax.stream_eval --workdir={workdir}")


if __name__ == "__main__":
    run(main)
