"""Answers to a stream of requests, with its state kept in a folder."""

import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import Any

from data_pipelines.formats.sample_stream import Request
from data_pipelines.locks import one_at_a_time
from dynapurls_jax.serving.replies import Replies
from dynapurls_jax.serving.stream_checkpoint import StreamCheckpoint
from dynapurls_jax.training.signals import Stopped, interrupts_after


def answer_all(
    replies: Replies, requests: Iterable[Request], folder: Path | None
) -> Generator[dict[str, Any], None, None]:
    """Answers requests as they come; saves the state along the way and at any end.

    Ctrl-C and SIGTERM take effect between two requests: only there is a state whole.

    Args:
      folder: of the state, which is continued, by one process at a time; None to save nothing.

    Raises:
      WorkdirMismatchError: the folder holds another stream's state.
      Stopped: after a signal.
    """
    with ExitStack() as stack:
        checkpoint = None
        if folder is not None:
            with redirect_stdout(sys.stderr):  # it may print that it waits
                stack.enter_context(one_at_a_time(folder / "lock"))
            checkpoint = stack.enter_context(closing(StreamCheckpoint(replies.stream, folder)))
        for request in requests:
            with interrupts_after() as signals:
                answer = replies.answer(request)
                if checkpoint is not None and answer is not None:
                    checkpoint.after(answer)
            if answer is not None:
                yield answer
            if signals:
                raise Stopped(signals[0])
