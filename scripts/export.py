"""Writes one trained run as a model file, which needs no training data.

  python scripts/export.py --workdir runs/utd_mhad --split 22_5 --out wave.safetensors
  python scripts/export.py --workdir runs/utd_mhad --card card.md --out model.safetensors

The file has the encoder, the zero-shot method, the texts of all classes, and the configuration.
`python -m dynapurls_jax.predict --model=wave.safetensors` takes it.
"""

from pathlib import Path

from dynapurls_jax.commands import parser_of
from dynapurls_jax.serving.model import model_of
from dynapurls_jax.serving.model_file import write_model
from dynapurls_jax.stream_eval import load_config
from dynapurls_jax.training.run import load_run, read_inputs


def main() -> None:
    """Exports one run."""
    parser = parser_of(__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="of trained runs")
    parser.add_argument("--split", help="default: the first of the configuration")
    parser.add_argument("--seed", type=int, help="default: the first of the configuration")
    parser.add_argument("--card", type=Path, help="Markdown that says what the model is")
    parser.add_argument("--out", type=Path, required=True, help="the file, *.safetensors")
    options = parser.parse_args()
    config = load_config(options.workdir)
    split = options.split or config.splits[0]
    seed = config.seeds[0] if options.seed is None else options.seed
    run = load_run(read_inputs(config), options.workdir, split, seed)
    card = options.card.read_text("utf-8") if options.card else ""
    write_model(model_of(run), options.out, card)
    size = options.out.stat().st_size / 1e6
    print(f"{split}, seed {seed}: {options.out}, {size:.2f} MB")


if __name__ == "__main__":
    main()
