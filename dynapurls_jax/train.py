"""Trains a zero-shot model: encoder, tokens, alignment, for every split and seed of a config.

  python -m dynapurls_jax.train --config=configs/utd_mhad.py
  python -m dynapurls_jax.train --config=configs/demo.py --config.alignment.query=per_candidate

Stages that are done are skipped; after Ctrl-C or a crash the same command goes on where it was.
"""

import json
from pathlib import Path

from absl import flags

from dynapurls_jax.config import plain
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
    workdir.mkdir(parents=True, exist_ok=True)
    record = workdir / "config.json"
    text = json.dumps(plain(config, *config), indent=1)
    if not record.exists():
        record.write_text(text)
    train_all(config, workdir)
    record.write_text(text)  # only now: a refused config must not replace that of the workdir
    print(f"trained: {workdir}\nnext: python -m dynapurls_jax.stream_eval --workdir={workdir}")


if __name__ == "__main__":
    run(main)
