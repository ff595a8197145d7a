"""What --state costs a stream: milliseconds of a line, and of retiring or adding a class.

  python scripts/benchmarks/stream_state.py
  python scripts/benchmarks/stream_state.py --lines 500 --model runs/utd_mhad

The same lines are answered with and without a state, in turns; the fastest turn of each counts.
A state is saved every `SAVE_EVERY` lines. The processor's time leaves out the disk
and other programs.
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--model", default="demo", help="a pretrained name, a file or a workdir")
PARSER.add_argument("--lines", type=int, default=2000, help="of one turn")
PARSER.add_argument("--repeats", type=int, default=3, help="turns; the fastest counts")
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import tempfile
import time
from pathlib import Path

import numpy as np
from timing import device_title, line, table

from data_pipelines.formats.sample_stream import Request
from dynapurls_jax.serving.answer import answer_all
from dynapurls_jax.serving.frame_window import FrameWindow
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.serving.pretrained import find_model
from dynapurls_jax.serving.replies import Replies


def main() -> None:
    """Prints a table of both streams, and their ratio."""
    options = PARSER.parse_args()
    model = find_model(options.model)
    replies = Replies(LiveStream(ModelInputs(model)), FrameWindow(1.0, 1.0))
    tokens = np.random.default_rng(0).normal(size=(64, *model.token_shape)).astype(np.float32)
    tokens = tokens.reshape(64, -1, model.token_shape[-1])
    name = model.candidates[0]
    samples = [Request(n, "tokens", tokens[n % 64]) for n in range(options.lines)]
    changes = [Request(n, "add" if n % 2 else "retire", name) for n in range(40)]
    found: dict[bool, list[np.ndarray]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(1 + options.repeats):
            for saved in found:
                folder = Path(scratch) / str(turn) if saved else None
                times = [each(replies, kind, folder) for kind in (samples, changes)]
                found[saved] += [np.array(times)] if turn else []  # the first turn compiles
    print(f"{device_title()}, {options.model}, {model.config.adapter.name}; milliseconds")
    table("state", "line", "its processor time", "change", "its processor time")
    least = {saved: np.min(times, axis=0).ravel() for saved, times in found.items()}
    for saved, times in least.items():
        line("saved" if saved else "none", *(f"{1e3 * time:.2f}" for time in times))
    line("saved : none", *(f"{ratio:.2f}" for ratio in least[True] / least[False]))


def each(replies: Replies, requests: list[Request], folder: Path | None) -> tuple[float, float]:
    """Seconds of an answer after the first one, with the saves between them; of the processor."""
    for answer in answer_all(replies, requests, folder):
        assert "error" not in answer, answer
        now = np.array([time.perf_counter(), time.process_time()])
        start = now if answer["line"] == 0 else start
    return tuple((now - start) / len(requests))


if __name__ == "__main__":
    main()
