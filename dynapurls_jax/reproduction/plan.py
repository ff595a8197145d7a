"""The work on one dataset: its tables, or its part of the summary."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

import dynapurls_jax
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.reproduction.jobs import Runner, config_of, jobs_of
from dynapurls_jax.reproduction.pages import Page, cells_of, file_stem, markdown, write_page
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.summary import mean_of, summarise, summary_jobs, summary_table
from dynapurls_jax.reproduction.tables import table_of
from dynapurls_jax.reproduction.work import do_jobs, work_of
from dynapurls_jax.training.run import write_config


class Plan(NamedTuple):
    """The work on one dataset.

    Attributes:
      dataset: name of its configuration.
      config: with the options' changes.
      seeds: of each split.
      workdir: of the trained runs and the records.
      out: folder of the tables.
      tables: names of `TABLES`.
      descriptions: a JSON file with other descriptions, for Table 5; empty: none.
    """

    dataset: str
    config: ConfigDict
    seeds: int
    workdir: Path
    out: Path
    tables: Sequence[str]
    descriptions: str = ""


def make_tables(plan: Plan, command_of: Callable[[str], str]) -> None:
    """Does the missing jobs of all tables; writes and prints the tables.

    Args:
      command_of: the command that makes a table of this name.
    """
    runner, records = opened(plan)
    tables = {name: table_of(name, plan.descriptions) for name in plan.tables}
    jobs = {
        name: jobs_of(table, config_of(table, plan.config), plan.seeds)
        for name, table in tables.items()
    }
    work = work_of([job for of_table in jobs.values() for job in of_table], plan.dataset, records)
    for name in plan.tables:
        do_jobs(jobs[name], runner, records, work)
        make_table(name, plan, records, command_of(name))
        jax.clear_caches()
    if not (plan.workdir / "config.json").exists():  # for `dynapurls stream`
        plan.config.seeds = tuple(range(plan.seeds))
        write_config(plan.config, plan.workdir)


def make_table(name: str, plan: Plan, records: Records, command: str) -> None:
    """Writes and prints a table from the records."""
    table = table_of(name, plan.descriptions)
    config = config_of(table, plan.config)
    cells, commits, devices = cells_of(name, table, config, plan.seeds, records)
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


def write_summary(plans: Sequence[Plan], command: str, file: Path) -> None:
    """Does the missing jobs of the summary; writes it as JSON and prints its table."""
    datasets: dict[str, Any] = {}
    commits: set[str] = set()
    for plan in plans:
        runner, records = opened(plan)
        jobs = summary_jobs(plan.config, plan.seeds)
        do_jobs(jobs, runner, records, work_of(jobs, plan.dataset, records))
        done = {job: record for job in jobs if (record := records.get(job)) is not None}
        datasets[plan.dataset] = summarise(plan.config, plan.seeds, done)
        commits |= {record["commit"] for record in done.values()}
        jax.clear_caches()
    summary = {
        "command": command,
        "commits": sorted(commits),
        "paper_seeds": plans[0].seeds,
        "datasets": datasets,
        "mean": mean_of(datasets),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    print(f"\n{summary_table(summary)}\nwritten: {file}")


def opened(plan: Plan) -> tuple[Runner, Records]:
    """The runner of a plan's jobs, and the records of finished jobs."""
    runner = Runner(plan.config, plan.workdir, plan.seeds)
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    about = {"commit": commit(), "device": device}
    return runner, Records(plan.workdir / "records.jsonl", runner.sources, about)


def commit() -> str:
    """The commit of a checkout, marked as dirty where files differ; the version of a wheel."""
    root = Path(dynapurls_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return f"version {dynapurls_jax.__version__}"
    call = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    git = subprocess.run(call, capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else "unknown"
