"""Makes the paper's tables on a dataset that you have.

  dynapurls reproduce --quick                       tables 6 to 10 on the demo, in minutes
  dynapurls reproduce --table 3 --dataset utd_mhad  all zero-shot methods
  dynapurls reproduce --all --dataset utd_mhad nw_ucla --seeds 5
  dynapurls reproduce --table 6 --dataset ntu60 --manual_dir=/data/ntu
  dynapurls reproduce --table 5 --dataset utd_mhad --descriptions gpt3_utd_mhad.json
  dynapurls reproduce --summary                     this project's defaults on three datasets

Tables of all zero-shot methods on the same inputs, kinematic statistics: 3 (the dataset's splits,
with generalised accuracies and ORACLE columns), 4 (random splits), texts (class names and
descriptions), adapters (test-time methods on each). Tables of the paper's parts, Shift-GCN and
PURLS: 5 (encoders), 6 (semantics and partitioning), 7 (granularities and weights), 8 (memory), 9
(seen and unseen), 10 (test-time methods), fig7 (sensitivity), streams (late fusion of input
streams, on seen classes). Published figures are printed beside ours; their protocols take labels of
the test clips. The summary compares this project's defaults with the paper's model and with the
closed form.
Missing runs are trained. Each result is recorded at once: after Ctrl-C the same command resumes.
Writes Markdown, CSV and JSON.
"""

import argparse
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipelines.errors import unknown
from dynapurls_jax.commands import Parser, errors_in_words, parser_of
from dynapurls_jax.config_names import config_file, dataset_names
from dynapurls_jax.flags import USER_ERRORS
from dynapurls_jax.host_memory import keep_memory

if TYPE_CHECKING:
    from dynapurls_jax.reproduction.plan import Plan

SMALL = ("utd_mhad", "nw_ucla", "kinder_gator")  # datasets of the summary
RUNS = Path("runs")


def main(arguments: list[str] | None = None) -> None:
    """Checks the options, then makes the tables dataset by dataset, or the summary."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if complaint := refused(options):
        parser.error(complaint)
    keep_memory()
    from dynapurls_jax.reproduction.plan import make_tables, write_summary

    if options.summary:
        plans = [plan_of(dataset, options) for dataset in SMALL]
        command = f"dynapurls reproduce --summary --seeds {plans[0].seeds}"
        write_summary(plans, command, options.out / "summary.json")
        print("next: dynapurls reproduce --table 3 --dataset utd_mhad")
        return
    for dataset in options.dataset:
        plan = plan_of(dataset, options)
        make_tables(plan, partial(command_of, dataset=dataset, options=options))
    print(f"tables: {plan.out}\nnext: dynapurls stream --workdir={plan.workdir}")


def _parser() -> Parser:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--table",
        nargs="+",
        metavar="N",
        help="3, 4, texts, adapters, 5, 6, 7, 8, 9, 10, fig7 or streams",
    )
    parser.add_argument("--all", action="store_true", help="all tables")
    parser.add_argument(
        "--quick", action="store_true", help="tables 6 to 10 on the demo, short training"
    )
    parser.add_argument("--summary", action="store_true", help="of the three small datasets")
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=dataset_names(),
        default=["demo"],
        metavar="NAME",
        help=f"{', '.join(dataset_names())} [demo]",
    )
    parser.add_argument("--seeds", type=int, help="of each split; default: the configuration's")
    parser.add_argument("--orders", type=int, help="of each stream; default: the configuration's")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: the configuration's")
    parser.add_argument(
        "--descriptions",
        default="",
        metavar="FILE",
        help="JSON with other descriptions, for more rows of table 5",
    )
    parser.add_argument("--manual_dir", default="", help="folder of the dataset's archives")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"folder of the workdirs [{RUNS}]")
    out = RUNS / "reproduction"
    parser.add_argument("--out", type=Path, default=out, help=f"folder of the tables [{out}]")
    return parser


def refused(options: argparse.Namespace) -> str:
    """Why the options cannot be used together; empty if they can."""
    chosen = (options.table, options.all, options.splits, options.orders)
    demo = options.dataset == ["demo"]
    if options.summary and (any(chosen) or options.quick or not demo):
        return "--summary is of three datasets: expected --seeds, --runs or --out beside it"
    if options.quick and (any(chosen) or options.seeds or not demo):
        return "--quick is of tables on the demo: expected no other choices with it"
    if options.descriptions and (options.table != ["5"] or len(options.dataset) > 1):
        return "--descriptions is for table 5 of one dataset: expected --table 5 with it"
    if not (options.table or options.all or options.quick or options.summary):
        return "expected --table N, --all, --quick or --summary"
    return ""


def plan_of(dataset: str, options: argparse.Namespace) -> "Plan":
    """The work on one dataset.

    Raises:
      ValueError: there is no such table.
      FileNotFoundError, DataError: the other descriptions cannot be read.
    """
    from dynapurls_jax.config import choose_paper_model, load_config
    from dynapurls_jax.reproduction.plan import Plan
    from dynapurls_jax.reproduction.tables import SHORT, TABLES
    from dynapurls_jax.text.descriptions import load_descriptions

    for table in options.table or ():
        if table not in TABLES:
            raise unknown("table", table, TABLES)
    if options.descriptions:
        load_descriptions(options.descriptions)  # refused before any work
    config = load_config(Path(config_file(dataset)))
    if not options.summary:
        choose_paper_model(config)
    config.data.manual_dir = options.manual_dir
    config.eval.orders = options.orders or config.eval.orders
    config.splits = tuple(options.splits or config.splits)
    name, out, tables = dataset, options.out, options.table or list(TABLES)
    seeds = options.seeds or (1 if options.summary or options.quick else len(config.seeds))
    if options.quick:
        name, out = "quick", out / "quick"
        config.pretrain.epochs, config.fit.epochs, config.eval.orders = 4, 30, 2
        tables = list(SHORT)
    return Plan(dataset, config, seeds, options.runs / name, out, tables, options.descriptions)


def command_of(name: str, dataset: str, options: argparse.Namespace) -> str:
    """The command that makes one table again."""
    flags = ["--quick"] if options.quick else ["--table", name, "--dataset", dataset]
    for flag in ("splits", "seeds", "orders"):
        value = getattr(options, flag)
        if value:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    if options.descriptions:
        flags += ["--descriptions", options.descriptions]
    if options.manual_dir:
        flags += [f"--manual_dir={options.manual_dir}"]
    return shlex.join(["dynapurls", "reproduce", *flags])


if __name__ == "__main__":
    with errors_in_words(USER_ERRORS):
        main()
