"""Pipelined recognition of many clips: the host reads the next clips while the device computes.

Expected cost: the time of a batch is that of the encoder and of the stream's steps; the host adds
nothing if two threads prepare a batch in less time (scripts/benchmarks/pipeline.py measures the
rates).
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
    """Recognises clips in batches, with the results of `LiveStream.predict` for single clips.

    The clips of an incomplete batch are recognised one by one, since another batch size would need
    another compilation.

    Args:
      clips: functions that read a clip in metres, in the joints `Model.source`; called in threads.
      learn: adapt to each clip after its prediction; otherwise as `LiveStream.look`.
      size: number of clips in a batch.

    Yields:
      For each clip, in order, its recognition, or the error if the clip cannot be used.

    Raises:
      ValueError: the model was trained on features, or there is no action.
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
    """Reads and prepares clips in threads, in order, at most `ahead` clips in advance."""

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
    """Groups of entries with `size` usable clips; the last group may have fewer."""
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
    """Dispatches a batch; the returned function waits for its results."""
    inputs = [entry for entry in entries if isinstance(entry, EncoderInput)]
    batches = [inputs] if len(inputs) == size else [[one] for one in inputs]
    parts = [live.predict_batch(tokens.encoded(batch), learn) for batch in batches]

    def answers() -> Iterator[Answer]:
        found = (answer for part in parts for answer in part())
        for entry in entries:
            yield entry if isinstance(entry, ValueError) else next(found)

    return answers
