"""Progress display: a bar in a terminal, a line every half minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY = 30.0  # seconds


@contextmanager
def progress(title: str, total: int, first: int = 0) -> Iterator[Callable[..., None]]:
    """Shows the progress of a loop.

    Args:
      title: title of the display.
      total: number of iterations.
      first: number of iterations done by an earlier, interrupted run.

    Yields:
      `report(done, **figures)`, to call after each iteration.
    """
    if first:
        print(f"  {title}: resuming after {first} of {total}", flush=True)
    if sys.stderr.isatty():
        yield from _bar(title, total, first)
    else:
        yield from _log(title, total, first)


def _figures(figures: dict[str, float]) -> str:
    return "".join(f", {name} {value:.3f}" for name, value in figures.items())


def _log(title: str, total: int, first: int) -> Iterator[Callable[..., None]]:
    start = printed = time.monotonic()
    line = ""

    def report(done: int, **figures: float) -> None:
        nonlocal printed, line
        seconds = time.monotonic() - start
        line = f"  {title}: {done}/{total}, {seconds:.0f} s{_figures(figures)}"
        if time.monotonic() - printed > LOG_EVERY:
            printed = time.monotonic()
            left = seconds / max(done - first, 1) * (total - done)
            print(f"{line}, about {left:.0f} s left", flush=True)

    yield report
    print(line, flush=True)


def _bar(title: str, total: int, first: int) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=first, figures="")

        def report(done: int, **figures: float) -> None:
            bar.update(task, completed=done, figures=_figures(figures).removeprefix(", "))

        yield report
