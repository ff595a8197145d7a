"""Progress display: a bar in a terminal, a line every half minute in a log; none with --quiet."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_pipelines.logs import is_quiet, log

LOG_EVERY = 30.0  # seconds
Item = TypeVar("Item")


@contextmanager
def progress(title: str, total: int, first: int = 0) -> Iterator[Callable[..., None]]:
    """Shows the progress of a loop on standard error.

    Args:
      title: title of the display.
      total: number of iterations.
      first: number of iterations done by an earlier, interrupted run.

    Yields:
      `report(done, **figures)`, to call after each iteration.
    """
    if first:
        log.info(f"  {title}: resuming after {first} of {total}")
    if sys.stderr.isatty() and not is_quiet():
        yield from _bar(title, total, first)
    else:
        yield from _log(title, total, first)


def counted(title: str, items: Collection[Item]) -> Iterator[Item]:
    """The items, with the progress of the loop over them."""
    with progress(title, len(items)) as report:
        for done, item in enumerate(items, 1):
            yield item
            report(done)


def _figures(figures: dict[str, float]) -> str:
    return "".join(f", {name} {value:.3f}" for name, value in figures.items())


def _log(title: str, total: int, first: int) -> Iterator[Callable[..., None]]:
    start = printed = time.monotonic()
    line = ""

    def report(done: int, **figures: float) -> None:
        nonlocal printed, line
        seconds = time.monotonic() - start
        line = f"  {title}: {done}/{total}, {seconds:.0f} s{_figures(figures)}"
        if done < total and time.monotonic() - printed > LOG_EVERY:
            printed = time.monotonic()
            left = seconds / max(done - first, 1) * (total - done)
            log.info(f"{line}, about {left:.0f} s left")

    yield report
    if line:
        log.info(line)


def _bar(title: str, total: int, first: int) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=first, figures="")

        def report(done: int, **figures: float) -> None:
            bar.update(task, completed=done, figures=_figures(figures).removeprefix(", "))

        yield report
