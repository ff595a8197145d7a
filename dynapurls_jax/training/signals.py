"""SIGINT and SIGTERM: they stop a command immediately, or after its state is saved."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal stopped the command.

    Attributes:
      status: exit status of the process: 128 + the number of the signal, as in shells.
    """

    def __init__(self, kind: int):
        super().__init__(signal.Signals(kind).name)
        self.status = 128 + kind


def stop_on_signals() -> None:
    """Installs handlers: both signals raise `Stopped` in the main thread."""

    def stop(kind, _):
        raise Stopped(kind)

    for kind in KINDS:
        signal.signal(kind, stop)


@contextmanager
def deferred_signals(note: str = "") -> Iterator[list[int]]:
    """Appends the first signal to the yielded list instead of stopping; a second signal stops.

    Args:
      note: a line for standard error at the first signal.
    """
    received: list[int] = []

    def record(kind, _):
        if received:
            raise Stopped(kind)
        received.append(kind)
        if note:
            os.write(2, f"\n{note}\n".encode())  # print is not safe in a handler

    before = {kind: signal.signal(kind, record) for kind in KINDS}
    try:
        yield received
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
