"""Writes clips and features in the formats of other projects, and trained models in one file.

  dynapurls export clips --dataset=utd_mhad --format=pyskl --out=utd_mhad.pkl
  dynapurls export clips --dataset=ntu60 --format=agcn --protocol=xview --out=ntu60_xview
  dynapurls export clips --dataset=ntu60 --format=ctr_gcn --out=NTU60_CS.npz
  dynapurls export features --workdir=runs/ntu60 --split=55_5 --seed=0 --out=features
  dynapurls export model --workdir=runs/utd_mhad --split=22_5 --out=model.safetensors

clips: cleaned, in metres, as recorded. pyskl: one pickle with all protocols as splits. agcn: a
folder of {train,val}_data_joint.npy and _label.pkl; ctr_gcn: one npz; both of one protocol, padded
with zeros to 300 frames and two persons. features: {train,val,test}.npy [N, n, T', V] with labels
in the form of SynSE and PURLS, of a trained run. model: encoder, zero-shot method, texts of all
classes and configuration of a trained run, with a model card; no training data is needed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.builders.registry import DATASETS
from data_pipelines.logs import log
from dynapurls_jax.commands import Parser, errors_in_words, parser_of
from dynapurls_jax.flags import USER_ERRORS

if TYPE_CHECKING:
    from dynapurls_jax.evaluation.trained_run import TrainedRun

SUFFIXES = {"pyskl": ".pkl", "ctr_gcn": ".npz", "agcn": ""}
PREDICT = 'dynapurls predict --actions="walk,run"'


def main(arguments: list[str] | None = None) -> None:
    """Parses the arguments and writes."""
    options = _parser().parse_args(arguments)
    with errors_in_words(USER_ERRORS, "nothing is kept of it"):
        following = options.export(options)
    print(f"written: {options.out}\nnext: {following}")


def _parser() -> Parser:
    parser = parser_of(__doc__)
    kinds = parser.add_subparsers(required=True, metavar="clips|features|model", prog="export")
    parser.epilog = "options of a kind: dynapurls export clips --help"

    def kind(name: str, title: str, export: Callable) -> Parser:
        found = kinds.add_parser(name, help=title, description=title)
        found.set_defaults(export=export)
        return found

    clips = kind("clips", "Writes the clips of a dataset.", export_clips)
    clips.add_argument("--dataset", choices=DATASETS, required=True, metavar="NAME")
    clips.add_argument("--manual_dir", default="", help="folder with the owner's archive")
    clips.add_argument("--format", choices=SUFFIXES, required=True)
    clips.add_argument("--protocol", default="", help="such as xsub; default: the usual one")
    clips.add_argument("--skip_bad", action="store_true", help="leave out unreadable files")
    clips.add_argument("--out", type=Path, required=True, help="*.pkl, *.npz or a folder")
    features = kind("features", "Writes the features of a trained run.", export_features)
    model = kind("model", "Writes a trained run as one model file.", export_model)
    for of_run in (features, model):
        of_run.add_argument("--workdir", type=Path, required=True)
        of_run.add_argument("--split", required=True)
        of_run.add_argument("--seed", type=int, default=0)
    features.add_argument("--out", type=Path, required=True, help="a folder")
    model.add_argument("--card", type=Path, help="Markdown that describes the model")
    model.add_argument("--out", type=Path, required=True, help="*.safetensors")
    return parser


def export_clips(options: argparse.Namespace) -> str:
    """Writes the clips of a dataset; gives the next command."""
    from data_pipelines.datasets import load_corpus
    from data_pipelines.formats.gcn_arrays import write_agcn, write_ctr_gcn
    from data_pipelines.formats.pyskl import write_pyskl
    from data_pipelines.layouts import LAYOUTS
    from data_pipelines.protocols import side_of
    from data_pipelines.settings import DataSettings

    if options.out.suffix != SUFFIXES[options.format]:
        raise ValueError(
            f"--out: expected a name that ends in {SUFFIXES[options.format]!r} for "
            f"{options.format}, got {options.out}"
        )
    settings = DataSettings(options.dataset, options.manual_dir, skip_bad=options.skip_bad)
    corpus = load_corpus(settings)
    log.info(corpus.summary())
    side_of(corpus, options.protocol)
    protocol = options.protocol or next(iter(corpus.sides))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "pyskl":
        write_pyskl(corpus, options.out)
    elif options.format == "agcn":
        write_agcn(corpus, protocol, options.out)
    else:
        write_ctr_gcn(corpus, protocol, options.out)
    name = corpus.skeleton.name
    layout = f" --skeleton={name}" if name in LAYOUTS else ""
    return f"{PREDICT} --clips={options.out}{layout}"


def trained_run(options: argparse.Namespace) -> "TrainedRun":
    """The run that the options choose."""
    from dynapurls_jax.training.run import load_run, read_inputs
    from dynapurls_jax.workdirs import workdir_config

    inputs = read_inputs(workdir_config(options.workdir))
    return load_run(inputs, options.workdir, options.split, options.seed)


def export_model(options: argparse.Namespace) -> str:
    """Writes a trained run as one file; gives the next command."""
    from dynapurls_jax.serving.model_file import RUN_MODEL, SUFFIX, read_model, write_model

    if options.out.suffix != SUFFIX:
        raise ValueError(f"--out: expected a name that ends in {SUFFIX}, got {options.out}")
    card = options.card.read_text("utf-8") if options.card else ""
    folder = options.workdir / options.split / f"seed{options.seed}"
    write_model(read_model(folder / RUN_MODEL), options.out, card)
    return f"{PREDICT} --clips=my_clips --model={options.out}"


def export_features(options: argparse.Namespace) -> str:
    """Writes the tokens of a trained run; gives the next command."""
    from data_pipelines.formats.feature_folder import write_features

    run = trained_run(options)
    inputs = run.inputs
    tokens = run.tokens.reshape(len(run.tokens), *run.token_shape)
    write_features(options.out, tokens, inputs.corpus.labels, run.protocol)
    train = f"dynapurls train --config={run.config.name} --config.data.features={options.out}"
    return f"{train} --config.splits={options.split} --workdir=runs/features"


if __name__ == "__main__":
    main()
