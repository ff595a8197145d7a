"""Jobs one after the other: what is recorded is not done again, and what is left is said."""

import time
from collections.abc import Callable, Sequence

from dynapurls_jax.reproduction.jobs import Job, Results
from dynapurls_jax.reproduction.records import Records


class Work:
    """The number of jobs to do, the number done, and the time since the start."""

    def __init__(self, total: int):
        self.total, self.done, self.start = total, 0, time.monotonic()

    def report(self, job: Job, results: Results) -> None:
        """Prints a finished job."""
        self.done += 1
        seconds = time.monotonic() - self.start
        print(progress_line(job, results, self.done, self.total, seconds), flush=True)


def work_of(jobs: Sequence[Job], dataset: str, records: Records) -> Work:
    """Counts, and prints, what is left of some jobs."""
    missing = [job for job in dict.fromkeys(jobs) if records.get(job) is None]
    print(f"{dataset}: {len(missing)} jobs to do; records in {records.file}", flush=True)
    return Work(len(missing))


def do_jobs(
    jobs: Sequence[Job], runner: Callable[[Job], Results], records: Records, work: Work
) -> None:
    """Does the jobs that have no record; each is recorded at once."""
    for job in jobs:
        if records.get(job) is None:
            results = runner(job)
            records.add(job, results)
            work.report(job, results)


def progress_line(job: Job, results: Results, done: int, total: int, seconds: float) -> str:
    """A finished job, and the time that the others take at this rate."""
    overrides = " ".join(f"{key}={value}" for key, value in job.overrides)
    name, values = next(iter(results.items()))
    left = seconds / done * (total - done)
    return (
        f"[{done}/{total}] {job.split} seed {job.seed} {job.kind} {overrides}: {name} "
        f"{sum(values) / len(values):.3f}; {seconds:.0f} s, about {left / 60:.0f} min left"
    )
