"""A progress bar on a terminal, a few lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(title: str, total: int, first: int = 0) -> Iterator[Callable[..., None]]:
    """Shows how far a loop is.

    Args:
      title: what is being done.
      total, first: number of rounds, and how many were done before (a resumed run).

    Yields:
      `report(done, **figures)`, to be called after each round.
    """
    if first:
        print(f"{title}: resuming after {first} of {total}")
    if not sys.stderr.isatty():
        start = time.monotonic()
        last: dict[str, float] = {}

        def report(done: int, **figures: float) -> None:
            last.update(figures)

        yield report
        text = ", ".join(f"{name} {value:.3f}" for name, value in last.items())
        print(f"{title}: {time.monotonic() - start:.0f} s. {text}", flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=first, figures="")

        def report(done: int, **figures: float) -> None:
            text = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            bar.update(task, completed=done, figures=text)

        yield report
