"""Answers a stream of requests and saves its state in a folder."""

import sys
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import Any

from data_pipelines.formats.sample_stream import Request
from data_pipelines.locks import one_at_a_time
from dynapurls_jax.serving.replies import Replies
from dynapurls_jax.serving.stream_checkpoint import StreamCheckpoint
from dynapurls_jax.training.signals import Stopped, deferred_signals


def answer_all(
    replies: Replies, requests: Iterable[Request], folder: Path | None
) -> Generator[dict[str, Any], None, None]:
    """Yields the answer to each request; saves the state regularly and at the end.

    SIGINT and SIGTERM take effect between two requests, when the state is consistent.

    Args:
      folder: folder of the state, which is restored; locked for one process. None saves nothing.

    Raises:
      WorkdirMismatchError: the folder has the state of another stream.
      Stopped: a signal was received.
    """
    with ExitStack() as stack:
        checkpoint = None
        if folder is not None:
            with redirect_stdout(sys.stderr):  # the lock may print a message
                stack.enter_context(one_at_a_time(folder / "lock"))
            checkpoint = stack.enter_context(closing(StreamCheckpoint(replies.stream, folder)))
        for request in requests:
            with deferred_signals() as signals:
                answer = replies.answer(request)
                if checkpoint is not None and answer is not None:
                    checkpoint.after(request, answer)
            if answer is not None:
                yield answer
            if signals:
                raise Stopped(signals[0])
