"""Ctrl-C and SIGTERM: at once where nothing is lost by it, else when a state is whole."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the work.

    Attributes:
      status: what the process should exit with, 128 + the signal's number, as shells have it.
    """

    def __init__(self, kind: int):
        super().__init__(signal.Signals(kind).name)
        self.status = 128 + kind


def stop_on_signals() -> None:
    """From now on either signal raises `Stopped` in the main thread."""

    def stop(kind, _):
        raise Stopped(kind)

    for kind in KINDS:
        signal.signal(kind, stop)


@contextmanager
def interrupts_after() -> Iterator[list[int]]:
    """Notes a signal instead of stopping in the middle; gives the list of those that came.

    A second one does not wait: whoever sends it means it.
    """
    came: list[int] = []

    def note(kind, _):
        if came:
            raise Stopped(kind)
        came.append(kind)

    before = {kind: signal.signal(kind, note) for kind in KINDS}
    try:
        yield came
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
