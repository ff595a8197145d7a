"""Ctrl-C and SIGTERM: they end a command at once, or after the state is saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
      status: exit status of the process, 128 + the number of the signal, as shells have it.
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
    """Records a signal in the list that it gives, instead of stopping in the middle.

    A second signal stops at once.
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
