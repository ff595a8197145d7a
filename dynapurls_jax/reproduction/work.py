"""Runs jobs in sequence, skips recorded ones, and reports progress."""

import time
from collections.abc import Callable, Sequence

from data_pipelines.logs import log
from dynapurls_jax.reproduction.jobs import Job
from dynapurls_jax.reproduction.kinds import Results
from dynapurls_jax.reproduction.records import Records


class Work:
    """Progress: total number of jobs, number of finished jobs, and elapsed time."""

    def __init__(self, total: int):
        self.total, self.done, self.start = total, 0, time.monotonic()

    def report(self, job: Job, results: Results) -> None:
        """Prints the progress after a finished job."""
        self.done += 1
        seconds = time.monotonic() - self.start
        log.info(progress_line(job, results, self.done, self.total, seconds))


def work_of(jobs: Sequence[Job], dataset: str, records: Records) -> Work:
    """Counts the unfinished jobs and prints their number."""
    missing = [job for job in dict.fromkeys(jobs) if records.get(job) is None]
    log.info(f"{dataset}: {len(missing)} jobs to do; records in {records.file}")
    return Work(len(missing))


def do_jobs(
    jobs: Sequence[Job], runner: Callable[[Job], Results], records: Records, work: Work
) -> None:
    """Runs the jobs without a record; each result is recorded immediately."""
    for job in jobs:
        if records.get(job) is None:
            results = runner(job)
            records.add(job, results)
            work.report(job, results)


def progress_line(job: Job, results: Results, done: int, total: int, seconds: float) -> str:
    """A log line: a finished job, the elapsed time and an estimate of the remaining time.

    Args:
      seconds: elapsed time.
    """
    overrides = " ".join(f"{key}={value}" for key, value in job.overrides)
    name, values = next(iter(results.items()))
    left = seconds / done * (total - done)
    return (
        f"[{done}/{total}] {job.split} seed {job.seed} {job.kind} {overrides}: {name} "
        f"{sum(values) / len(values):.3f}; {seconds:.0f} s, about {left / 60:.0f} min left"
    )
