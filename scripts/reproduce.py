"""The paper's tables, made again on a dataset that you have.

  python scripts/reproduce.py --quick                       all tables on the demo, in minutes
  python scripts/reproduce.py --table 6 --dataset utd_mhad
  python scripts/reproduce.py --all --dataset utd_mhad nw_ucla --seeds 5
  python scripts/reproduce.py --table 3 --dataset ntu60 --manual-dir /data/ntu
  python scripts/reproduce.py --docs                        README and docs/results.md from the json

Tables: 3 (zero-shot accuracy), 6 (semantics and partitioning), 7 (granularities and weights), 8
(memory), 9 (seen and unseen), 10 (test-time methods), fig7 (sensitivity). What is missing is
trained and computed, in order; every figure is kept as soon as it is there, so that the same
command goes on after Ctrl-C. Writes Markdown, CSV and JSON. On NTU RGB+D the paper's figures are
printed beside ours; they rest on a protocol that uses the true label.
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

import jax

from data_pipelines.errors import DataError
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.flags import USER_ERRORS
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.reproduction.jobs import Job, Runner, jobs_of
from dynapurls_jax.reproduction.pages import (
    Page,
    cells_of,
    markdown,
    read_page,
    readme_table,
    write_page,
)
from dynapurls_jax.reproduction.records import Records
from dynapurls_jax.reproduction.tables import TABLES
from dynapurls_jax.training.run import write_config

ROOT = Path(__file__).parents[1]
DATASETS = sorted(file.stem for file in (ROOT / "configs").glob("*.py"))
PUBLISHED = ROOT / "docs" / "results"  # the json that the documents are made of
DOCUMENTED = ("utd_mhad", "nw_ucla", "kinder_gator", "demo")
START, END = "<!-- results -->", "<!-- /results -->"


def main() -> None:
    """Flags, then dataset by dataset, table by table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", nargs="+", choices=TABLES, metavar="N", help=", ".join(TABLES))
    parser.add_argument("--all", action="store_true", help="all tables")
    known = ", ".join(DATASETS)
    parser.add_argument(
        "--dataset", nargs="+", choices=DATASETS, default=["demo"], metavar="NAME", help=known
    )
    parser.add_argument(
        "--quick", action="store_true", help="all tables on the demo, hardly trained: a look"
    )
    parser.add_argument("--seeds", type=int, help="of each split; default: the configuration's")
    parser.add_argument("--orders", type=int, help="of each stream; default: the configuration's")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="default: the configuration's")
    parser.add_argument("--manual-dir", default="", help="where the dataset's archives are")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "reproduction", help="for the tables"
    )
    parser.add_argument("--docs", action="store_true", help="only write the documents again")
    options = parser.parse_args()
    if options.docs:
        write_documents()
        return
    if not (options.table or options.all or options.quick):
        parser.error("expected --table N, --all or --quick")
    others = (options.table, options.seeds, options.orders, options.splits)
    if options.quick and (any(others) or options.dataset != ["demo"]):
        parser.error("--quick is all tables on the demo: without other choices")
    keep_memory()
    for dataset in options.dataset:
        reproduce(dataset, options)


def reproduce(dataset: str, options) -> None:
    """All wanted tables of a dataset."""
    config = load_config(ROOT / f"configs/{dataset}.py")
    config.data.manual_dir = options.manual_dir
    config.eval.orders = options.orders or config.eval.orders
    config.splits = tuple(options.splits or config.splits)
    seeds, workdir, out = options.seeds or len(config.seeds), options.runs / dataset, options.out
    if options.quick:
        seeds, workdir, out = 1, options.runs / "quick", out / "quick"
        config.pretrain.epochs, config.alignment.epochs, config.eval.orders = 4, 30, 2
    names = options.table if options.table else list(TABLES)
    runner = Runner(config, workdir)
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    about = {"commit": commit(), "device": device}
    records = Records(workdir / "records.jsonl", runner.sources(), about)
    todo = {name: jobs_of(TABLES[name], config, seeds) for name in names}
    every = dict.fromkeys(job for jobs in todo.values() for job in jobs)
    missing = [job for job in every if records.get(job) is None]
    print(f"{dataset}: {len(missing)} jobs to do; kept in {workdir / 'records.jsonl'}", flush=True)
    start, done = time.monotonic(), 0
    for name in names:
        for job in todo[name]:
            if records.get(job) is not None:
                continue
            results = runner(job)
            records.add(job, results)
            done += 1
            print(progress_line(job, results, done, len(missing), time.monotonic() - start))
        table = TABLES[name]
        cells, commits, devices = cells_of(name, table, config, seeds, records)
        page = Page(
            name=name,
            title=table.title,
            note=table.note,
            dataset=dataset,
            synthetic=dataset == "demo",
            orders=config.eval.orders,
            commits=commits,
            devices=devices,
            command=command_of(name, dataset, options),
            cells=cells,
        )
        written = write_page(page, out)
        if name == "fig7":
            written.append(out / f"fig7_{dataset}.png")
            plot_sensitivity(cells, title_of(page), written[-1])
        print(f"\n{markdown(page)}\nwritten: {', '.join(map(str, written))}\n", flush=True)
        jax.clear_caches()
    if not (workdir / "config.json").exists():  # so that stream_eval finds the runs
        config.seeds = tuple(range(seeds))
        write_config(config, workdir)


def progress_line(job: Job, results: dict, done: int, total: int, seconds: float) -> str:
    """What was done, and how long the rest will take if it goes on like this."""
    changes = " ".join(f"{key}={value}" for key, value in job.overrides if key != "text")
    name, values = next(iter(results.items()))
    left = seconds / done * (total - done)
    return (
        f"[{done}/{total}] {job.split} seed {job.seed} {job.kind} {changes}: {name} "
        f"{sum(values) / len(values):.3f}; {seconds:.0f} s, about {left / 60:.0f} min left"
    )


def command_of(name: str, dataset: str, options) -> str:
    """The command that makes one table again."""
    what = ["--quick"] if options.quick else ["--table", name, "--dataset", dataset]
    for flag in ("splits", "seeds", "orders"):
        value = getattr(options, flag)
        if value:
            what += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    if options.manual_dir:
        what += ["--manual-dir", options.manual_dir]
    return shlex.join(["python", "scripts/reproduce.py", *what])


def title_of(page: Page) -> str:
    """What a picture is of."""
    return f"{page.dataset}{', SYNTHETIC data' if page.synthetic else ''}, unseen classes"


def commit() -> str:
    """The commit of this checkout, marked if it was changed since."""
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    found = subprocess.run(call, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


def write_documents() -> None:
    """README.md and docs/results.md, from the json in docs/results."""
    pages: dict[str, list[Page]] = {}
    for name in TABLES:
        files = [PUBLISHED / f"{prefix(name)}_{dataset}.json" for dataset in DOCUMENTED]
        pages[name] = [read_page(file) for file in files if file.exists()]
    real = [page for page in pages["3"] if not page.synthetic]
    blocks = [markdown(page, "##") for name in TABLES for page in pages[name]]
    for page in pages["fig7"]:
        picture = PUBLISHED / f"fig7_{page.dataset}.png"
        plot_sensitivity(page.cells, title_of(page), picture)
        blocks.append(f"![Figure 7, {page.dataset}](results/{picture.name})\n")
    for file, text in ((ROOT / "README.md", readme_table(real)), (ROOT / "docs/results.md", "")):
        content = file.read_text("utf-8")
        before, _, rest = content.partition(START)
        _, found, after = rest.partition(END)
        if not found:
            raise DataError(f"expected {START} and {END} around what is generated", file)
        text = text or "\n".join(blocks)
        file.write_text(f"{before}{START}\n{text}{END}{after}", "utf-8")
        print(f"written: {file}")


def prefix(name: str) -> str:
    """How files of a table begin."""
    return f"table{name}" if name.isdecimal() else name


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
