"""Writes clips or features in the formats that other projects read, and models in one file.

  python scripts/export.py clips --dataset=utd_mhad --format=pyskl --out=utd_mhad.pkl
  python scripts/export.py clips --dataset=ntu60 --format=agcn --protocol=xview --out=ntu60_xview
  python scripts/export.py clips --dataset=ntu60 --format=ctr_gcn --out=NTU60_CS.npz
  python scripts/export.py features --workdir=runs/ntu60 --split=55_5 --seed=0 --out=features
  python scripts/export.py model --workdir=runs/utd_mhad --split=22_5 --out=model.safetensors

clips: cleaned, in metres, as recorded. pyskl: one pickle with all protocols as splits. agcn: a
folder of {train,val}_data_joint.npy and _label.pkl, ctr_gcn: one npz; both of one protocol, padded
with zeros to 300 frames and two persons. features: {train,val,test}.npy [N, n, T', V] with labels
in the form of SynSE and PURLS, of a trained run. model: encoder, zero-shot method, texts of all
classes and configuration of a trained run, with a model card; no training data is needed, and
`python -m dynapurls_jax.predict --model=model.safetensors` takes it.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.builders.registry import DATASETS
from data_pipelines.datasets import load_corpus
from data_pipelines.errors import DataError
from data_pipelines.formats.feature_folder import write_features
from data_pipelines.formats.gcn_arrays import write_agcn, write_ctr_gcn
from data_pipelines.formats.pyskl import write_pyskl
from data_pipelines.protocols import side_of
from data_pipelines.settings import DataSettings
from dynapurls_jax.commands import parser_of

if TYPE_CHECKING:
    from dynapurls_jax.evaluation.trained_run import TrainedRun

SUFFIXES = {"pyskl": ".pkl", "ctr_gcn": ".npz", "agcn": ""}


def main(arguments: list[str] | None = None) -> None:
    """Parses the arguments and writes."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(required=True)
    clips = commands.add_parser("clips", help="clips of a dataset")
    clips.add_argument("--dataset", choices=DATASETS, required=True)
    clips.add_argument("--manual_dir", default="", help="folder with the owner's archive")
    clips.add_argument("--format", choices=SUFFIXES, required=True)
    clips.add_argument("--protocol", default="", help="such as xsub; default the usual one")
    clips.add_argument("--skip_bad", action="store_true", help="leave out unreadable files")
    clips.add_argument("--out", type=Path, required=True)
    clips.set_defaults(run=export_clips)
    features = commands.add_parser("features", help="backbone features of a trained run")
    features.add_argument("--workdir", type=Path, required=True)
    features.add_argument("--split", required=True)
    features.add_argument("--seed", type=int, default=0)
    features.add_argument("--out", type=Path, required=True, help="a folder")
    features.set_defaults(run=export_features)
    model = commands.add_parser("model", help="a trained run in one file")
    model.add_argument("--workdir", type=Path, required=True)
    model.add_argument("--split", required=True)
    model.add_argument("--seed", type=int, default=0)
    model.add_argument("--card", type=Path, help="Markdown that says what the model is")
    model.add_argument("--out", type=Path, required=True, help="*.safetensors")
    model.set_defaults(run=export_model)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (DataError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"written: {options.out}")


def export_clips(options: argparse.Namespace) -> None:
    """Clips of a dataset."""
    if options.out.suffix != SUFFIXES[options.format]:
        raise ValueError(
            f"--out: expected a name that ends in {SUFFIXES[options.format]!r} for "
            f"{options.format}, got {options.out}"
        )
    settings = DataSettings(options.dataset, options.manual_dir, skip_bad=options.skip_bad)
    corpus = load_corpus(settings)
    print(corpus.summary())
    side_of(corpus, options.protocol)
    protocol = options.protocol or next(iter(corpus.sides))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "pyskl":
        write_pyskl(corpus, options.out)
    elif options.format == "agcn":
        write_agcn(corpus, protocol, options.out)
    else:
        write_ctr_gcn(corpus, protocol, options.out)


def trained_run(options: argparse.Namespace) -> "TrainedRun":
    """The run that the options choose."""
    from dynapurls_jax.stream_eval import load_config
    from dynapurls_jax.training.run import load_run, read_inputs

    inputs = read_inputs(load_config(options.workdir))
    return load_run(inputs, options.workdir, options.split, options.seed)


def export_model(options: argparse.Namespace) -> None:
    """A trained run in one file."""
    from dynapurls_jax.serving.model_file import RUN_MODEL, SUFFIX, read_model, write_model

    if options.out.suffix != SUFFIX:
        raise ValueError(f"--out: expected a name that ends in {SUFFIX}, got {options.out}")
    card = options.card.read_text("utf-8") if options.card else ""
    folder = options.workdir / options.split / f"seed{options.seed}"
    write_model(read_model(folder / RUN_MODEL), options.out, card)


def export_features(options: argparse.Namespace) -> None:
    """Tokens of a trained run."""
    run = trained_run(options)
    inputs = run.inputs
    count, _, width = run.tokens.shape
    tokens = run.tokens.reshape(count, -1, inputs.skeleton.num_joints, width)
    write_features(options.out, tokens, inputs.corpus.labels, run.protocol)


if __name__ == "__main__":
    main()
