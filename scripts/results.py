"""Makes the table of the paper's settings on the real datasets: trains, evaluates, writes docs.

  python scripts/results.py                      everything, one process for each core
  python scripts/results.py --datasets nw_ucla   a part of it

Uses the two commands as a user would. What is trained already is not trained again; the time that
is written down is that of this call. Writes the table between the markers of docs/results.md, if
all datasets were asked for. `scripts/study_refinement.py` compares test-time methods.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import jax
import numpy as np

from data_pipelines.datasets import load_corpus
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.report import percent

ROOT = Path(__file__).parents[1]
DATASETS = ("utd_mhad", "nw_ucla", "kinder_gator")
QUERIES = ("label_free", "oracle_label")
START, END = "<!-- results -->", "<!-- /results -->"


def main() -> None:
    """Trains, evaluates, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the workdirs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    options = parser.parse_args()
    start = time.monotonic()
    before = runs_done(options.runs)
    train_everything(options)
    rows = [row for name in options.datasets for row in evaluate(name, options.runs / name)]
    minutes = (time.monotonic() - start) / 60
    table = format_table(rows)
    trained = runs_done(options.runs) - before
    note = (
        f"`python scripts/results.py`: {minutes:.0f} minutes, {trained} alignments trained; "
        f"{options.jobs} processes on {os.cpu_count()} cores ({jax.devices()[0].platform})."
    )
    print(f"{table}\n\n{note}")
    if set(options.datasets) == set(DATASETS):
        write(table, note)
        print("written: docs/results.md")
    else:
        print("not written to docs/results.md: only a part of the datasets was asked for")


def runs_done(runs: Path) -> int:
    """How many alignment stages there are."""
    return len(list(runs.glob("*/*/seed*/align-*/stage.json")))


def command(name: str, workdir: Path, query: str, *extra: str) -> list[str]:
    """The training command of a dataset."""
    python = [sys.executable, "-m", "dynapurls_jax.train", f"--config=configs/{name}.py"]
    return [*python, f"--workdir={workdir}", f"--config.alignment.query={query}", *extra]


def train_everything(options) -> None:
    """Every split of every dataset as a process of its own, each kept to one core."""
    cores: SimpleQueue[int] = SimpleQueue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    for number in range(options.jobs):
        cores.put(available[number % len(available)])

    def pin(core: int) -> list[str]:
        return ["taskset", "-c", str(core)] if options.jobs > 1 and shutil.which("taskset") else []

    def job(task):
        name, split = task
        core = cores.get()
        log = options.runs / name / f"{split}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("w") as file:
                for query in QUERIES:
                    call = command(name, log.parent, query, f"--config.splits=('{split}',)")
                    subprocess.run(
                        [*pin(core), *call], cwd=ROOT, stdout=file, stderr=file, check=True
                    )
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"training {name} {split} failed, see {log}") from error
        finally:
            cores.put(core)
        print(f"trained {name} {split}", flush=True)

    for name in options.datasets:  # prepared once, before the processes need it
        print(load_corpus(name).summary(), flush=True)
    tasks = [
        (name, split)
        for name in options.datasets
        for split in load_config(ROOT / f"configs/{name}.py").splits
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(job, tasks))


def evaluate(name: str, workdir: Path) -> list[dict]:
    """Evaluates both protocols; a row for each split, the random splits of a size together."""
    records = {}
    for query in QUERIES:
        # Everything is trained: this only makes the workdir that of the whole config.
        subprocess.run(
            command(name, workdir, query), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        subprocess.run(
            [
                *(sys.executable, "-m", "dynapurls_jax.stream_eval"),
                *(f"--workdir={workdir}", "--adapter=dynapurls"),
            ],
            cwd=ROOT,
            check=True,
        )
        report = workdir / "report" / f"{query}_dynapurls" / "report.json"
        records[query] = json.loads(report.read_text())["runs"]
    groups: dict[str, dict] = {}
    for zero_shot, oracle in zip(*(records[query] for query in QUERIES), strict=True):
        split = zero_shot["split"]
        key = f"{split.rsplit('-', 1)[0]} x 3" if split.startswith("random-") else split
        row = groups.setdefault(
            key,
            {"dataset": name, "split": key, "unseen": zero_shot["candidates"]}
            | {"clips": zero_shot["clips"], "static": [], "refined": [], "gain": [], "oracle": []}
            | {"seen": []},
        )
        static = zero_shot["methods"]["static"]["accuracy_of_each_order"][0]
        refined = zero_shot["methods"]["dynapurls"]["accuracy_of_each_order"]
        row["static"].append(static)
        row["refined"] += refined
        row["gain"] += [value - static for value in refined]
        row["oracle"].append(oracle["ORACLE_hit_rate_not_an_accuracy"])
        row["seen"].append(zero_shot["training"]["encoder"]["val_accuracy"])
    return list(groups.values())


def format_table(rows: list[dict]) -> str:
    """The table in Markdown; all figures in percent."""
    lines = [
        "| dataset | split (seen_unseen) | clips | chance | static | refined | gain | hurt > 1 "
        "point | seen val. | ORACLE |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = {k: percent(row[k]) for k in ("static", "refined", "gain", "seen", "oracle")}
        hurt = 100 * np.mean(np.array(row["gain"]) < -0.01)
        lines.append(
            f"| {row['dataset']} | {row['split']} | {row['clips']} | {100 / row['unseen']:.1f} | "
            f"{cells['static']} | {cells['refined']} | {cells['gain']} | {hurt:.0f} % | "
            f"{cells['seen']} | {cells['oracle']} (ORACLE) |"
        )
    return "\n".join(lines)


def write(table: str, note: str) -> None:
    """Puts table and note between the markers of docs/results.md."""
    page = ROOT / "docs" / "results.md"
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(f"{before}{START}\n{table}\n\n{note}\n{END}{after}")


if __name__ == "__main__":
    main()
