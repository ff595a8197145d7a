"""Many clips through a stream: the device encodes and adapts while the host reads what follows.

Expected cost: a batch takes what the encoder takes for it, the stream's steps beside it, and
nothing of the host's work, as long as two threads prepare a batch in less time
(scripts/benchmarks/pipeline.py shows the rates).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Float

from dynapurls_jax.encoders.base import clips_per_device
from dynapurls_jax.serving.clip_tokens import ClipTokens, EncoderInput
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.recognition import Recognition

_THREADS = 2
Answer = Recognition | ValueError


def recognise_all(
    live: LiveStream,
    clips: Iterable[Callable[[], Float[np.ndarray, "m t v 3"]]],
    learn: bool = True,
    size: int | None = None,
) -> Iterator[Answer]:
    """The answers to clips in their order, those of `LiveStream.predict` one by one.

    Clips that fill no batch are answered one by one: another size would be another program.

    Args:
      clips: functions that read a clip, in the model's source joints; called in threads.
      learn: from each clip, after its answer; otherwise as `LiveStream.look`.
      size: clips in a batch.

    Yields:
      For each clip what it shows, or why the model cannot use it.

    Raises:
      ValueError: the model takes no clips, or there is no action.
    """
    tokens = live.clip_tokens
    size = size or clips_per_device()
    running: Callable[[], Iterator[Answer]] | None = None
    for entries in _batches(prepared_ahead(tokens, clips, 2 * size), size):
        started = _start(live, tokens, entries, learn, size)
        if running is not None:
            yield from running()
        running = started
    if running is not None:
        yield from running()


def prepared_ahead(
    tokens: ClipTokens, clips: Iterable[Callable], ahead: int
) -> Iterator[EncoderInput | ValueError]:
    """Clips read and prepared in threads, in order, at most `ahead` before they are used."""

    def prepare(read: Callable) -> EncoderInput | ValueError:
        try:
            return tokens.prepared(read())
        except ValueError as error:
            return error

    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(_THREADS) as threads:
        for read in clips:
            waiting.append(threads.submit(prepare, read))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(
    prepared: Iterable[EncoderInput | ValueError], size: int
) -> Iterator[list[EncoderInput | ValueError]]:
    """Runs of entries with `size` clips that can be used; the last one may have fewer."""
    entries: list[EncoderInput | ValueError] = []
    usable = 0
    for entry in prepared:
        entries.append(entry)
        usable += isinstance(entry, EncoderInput)
        if usable == size:
            yield entries
            entries, usable = [], 0
    if entries:
        yield entries


def _start(
    live: LiveStream,
    tokens: ClipTokens,
    entries: list[EncoderInput | ValueError],
    learn: bool,
    size: int,
) -> Callable[[], Iterator[Answer]]:
    """Gives a batch to the device; the result waits for its answers."""
    inputs = [entry for entry in entries if isinstance(entry, EncoderInput)]
    batches = [inputs] if len(inputs) == size else [[one] for one in inputs]
    parts = [live.predict_batch(tokens.encoded(batch), learn) for batch in batches]

    def answers() -> Iterator[Answer]:
        found = (answer for part in parts for answer in part())
        for entry in entries:
            yield entry if isinstance(entry, ValueError) else next(found)

    return answers
