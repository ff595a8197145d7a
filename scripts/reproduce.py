"""The paper's tables on a dataset that you have.

  python scripts/reproduce.py --quick                       all tables on the demo, in minutes
  python scripts/reproduce.py --table 6 --dataset utd_mhad
  python scripts/reproduce.py --all --dataset utd_mhad nw_ucla --seeds 5
  python scripts/reproduce.py --table 3 --dataset ntu60 --manual-dir /data/ntu
  python scripts/reproduce.py --summary                     the defaults' result, in docs/results

Tables: 3 (zero-shot accuracy), 6 (semantics and partitioning), 7 (granularities and weights), 8
(memory), 9 (seen and unseen), 10 (test-time methods), fig7 (sensitivity). Missing runs are trained;
each result is recorded at once, so that the same command resumes after Ctrl-C. Writes Markdown, CSV
and JSON. On NTU RGB+D the paper's figures are printed beside ours; they rest on a protocol that
takes the true label. The tables are of the paper's parts, Shift-GCN and PURLS; the summary compares
this project's default with them and with the closed form, on the three small datasets.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from dynapurls_jax.commands import parser_of
from dynapurls_jax.config import NO_DATASETS, choose_paper_model, load_config
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.flags import USER_ERRORS
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.reproduction.jobs import Runner, jobs_of
from dynapurls_jax.reproduction.pages import (
    Page,
    cells_of,
    file_stem,
    markdown,
    write_page,
)
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.summary import (
    mean_of,
    summarise,
    summary_jobs,
    summary_table,
)
from dynapurls_jax.reproduction.tables import TABLES
from dynapurls_jax.reproduction.work import do_jobs, work_of
from dynapurls_jax.training.run import write_config

ROOT = Path(__file__).parents[1]
DATASETS = sorted({file.stem for file in (ROOT / "configs").glob("*.py")} - NO_DATASETS)
REAL = ("utd_mhad", "nw_ucla", "kinder_gator")
SUMMARY = ROOT / "docs" / "results" / "summary.json"


class Plan(NamedTuple):
    """The work on one dataset.

    Attributes:
      dataset: name of its configuration.
      config: with the flags' changes.
      seeds: of each split.
      workdir: of the trained runs and the records.
      out: folder of the tables.
      tables: names of `TABLES`.
    """

    dataset: str
    config: ConfigDict
    seeds: int
    workdir: Path
    out: Path
    tables: Sequence[str]


def main() -> None:
    """Flags, then dataset by dataset, table by table."""
    parser = parser_of(__doc__)
    parser.add_argument("--table", nargs="+", choices=TABLES, metavar="N", help=", ".join(TABLES))
    parser.add_argument("--all", action="store_true", help="all tables")
    names = ", ".join(DATASETS)
    parser.add_argument(
        "--dataset", nargs="+", choices=DATASETS, default=["demo"], metavar="NAME", help=names
    )
    parser.add_argument(
        "--quick", action="store_true", help="all tables on the demo with short training"
    )
    parser.add_argument("--seeds", type=int, help="of each split; default: the configuration's")
    parser.add_argument("--orders", type=int, help="of each stream; default: the configuration's")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: the configuration's")
    parser.add_argument("--manual-dir", default="", help="folder of the dataset's archives")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "reproduction", help="for the tables"
    )
    parser.add_argument("--summary", action="store_true", help="of the small datasets")
    options = parser.parse_args()
    if options.summary:
        chosen = (options.table, options.all, options.quick, options.splits, options.orders)
        if any(chosen) or options.dataset != ["demo"]:
            parser.error("--summary is of three datasets: expected --seeds or --runs beside it")
        keep_memory()
        write_summary(options)
        return
    if not (options.table or options.all or options.quick):
        parser.error("expected --table N, --all, --quick or --summary")
    others = (options.table, options.seeds, options.orders, options.splits)
    if options.quick and (any(others) or options.dataset != ["demo"]):
        parser.error("--quick is all tables on the demo: expected no other choices with it")
    keep_memory()
    for dataset in options.dataset:
        reproduce(dataset, options)


def plan_of(dataset: str, options: argparse.Namespace) -> Plan:
    """The work that the flags choose."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    if not options.summary:
        choose_paper_model(config)
    config.data.manual_dir = options.manual_dir
    config.eval.orders = options.orders or config.eval.orders
    config.splits = tuple(options.splits or config.splits)
    name, seeds, out = dataset, options.seeds or len(config.seeds), options.out
    if options.quick:
        name, seeds, out = "quick", 1, out / "quick"
        config.pretrain.epochs, config.fit.epochs, config.eval.orders = 4, 30, 2
    return Plan(dataset, config, seeds, options.runs / name, out, options.table or list(TABLES))


def reproduce(dataset: str, options: argparse.Namespace) -> None:
    """All chosen tables of a dataset."""
    plan = plan_of(dataset, options)
    runner, records = opened(plan)
    jobs = {name: jobs_of(TABLES[name], plan.config, plan.seeds) for name in plan.tables}
    work = work_of([job for of_table in jobs.values() for job in of_table], dataset, records)
    for name in plan.tables:
        do_jobs(jobs[name], runner, records, work)
        make_table(name, plan, records, command_of(name, dataset, options))
        jax.clear_caches()
    if not (plan.workdir / "config.json").exists():  # so that stream_eval finds the runs
        plan.config.seeds = tuple(range(plan.seeds))
        write_config(plan.config, plan.workdir)


def opened(plan: Plan) -> tuple[Runner, Records]:
    """What does the jobs of a plan, and the records of what is done."""
    runner = Runner(plan.config, plan.workdir)
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    about = {"commit": commit(), "device": device}
    return runner, Records(plan.workdir / "records.jsonl", runner.sources(), about)


def write_summary(options: argparse.Namespace) -> None:
    """Does the summary's jobs on the small datasets, and writes it."""
    datasets, commits = {}, []
    seeds = options.seeds or 1
    for dataset in REAL:
        plan = plan_of(dataset, options)
        runner, records = opened(plan)
        jobs = summary_jobs(plan.config, seeds)
        do_jobs(jobs, runner, records, work_of(jobs, dataset, records))
        done = {job: record for job in jobs if (record := records.get(job)) is not None}
        datasets[dataset] = summarise(plan.config, seeds, done)
        commits += [record["commit"] for record in done.values()]
        jax.clear_caches()
    summary = {
        "command": f"python scripts/reproduce.py --summary --seeds {seeds}",
        "commits": sorted(set(commits)),
        "paper_seeds": seeds,
        "datasets": datasets,
        "mean": mean_of(datasets),
    }
    SUMMARY.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    print(f"\n{summary_table(summary)}\nwritten: {SUMMARY}; next: python scripts/write_docs.py")


def make_table(name: str, plan: Plan, records: Records, command: str) -> None:
    """Writes and prints a table from the records."""
    table = TABLES[name]
    cells, commits, devices = cells_of(name, table, plan.config, plan.seeds, records)
    page = Page(
        name=name,
        title=table.title,
        note=table.note,
        dataset=plan.dataset,
        synthetic=plan.dataset == "demo",
        orders=plan.config.eval.orders,
        commits=commits,
        devices=devices,
        command=command,
        cells=cells,
    )
    written = write_page(page, plan.out)
    if name == "fig7":
        written.append(plan.out / f"{file_stem(name, plan.dataset)}.png")
        plot_sensitivity(cells, page.picture_title, written[-1])
    print(f"\n{markdown(page)}\nwritten: {', '.join(map(str, written))}\n", flush=True)


def command_of(name: str, dataset: str, options: argparse.Namespace) -> str:
    """The command that makes one table again."""
    flags = ["--quick"] if options.quick else ["--table", name, "--dataset", dataset]
    for flag in ("splits", "seeds", "orders"):
        value = getattr(options, flag)
        if value:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    if options.manual_dir:
        flags += ["--manual-dir", options.manual_dir]
    return shlex.join(["python", "scripts/reproduce.py", *flags])


def commit() -> str:
    """The commit of this checkout, marked as dirty where files differ from it."""
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    git = subprocess.run(call, capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else "unknown"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped; the same command resumes here", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
