"""Clips per second from raw files to predictions, and what each part takes alone.

  python scripts/benchmarks/pipeline.py --clips=../shared/data/ntu_clips --copies=4
  python scripts/benchmarks/pipeline.py --clips=... --method=static --frames=300

Files of any format that `predict` reads, each `--copies` times, through a Shift-GCN with random
weights and a test-time method at C = 12, chunk 1, label-free. Parts: `reading` from a file to the
encoder's input, in the pipeline's threads; `encoding` of batches that are prepared; `streaming` of
tokens that are on the device. `one by one` answers each clip before the next one is read.

Expected: together takes what the slowest part takes alone, on a device of its own encoding, as long
as the host reads faster. On a CPU the parts share its cores, so together cannot take less than all
of their processor time over the number of cores.
"""

from pathlib import Path

from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument("--clips", type=Path, required=True, help="folder of clips")
PARSER.add_argument("--copies", type=int, default=4, help="times that each file is read")
PARSER.add_argument("--frames", type=int, default=64, help="T, a multiple of 4")
PARSER.add_argument("--width", type=int, default=64, help="of the Shift-GCN")
PARSER.add_argument("--method", default="dynapurls", choices=ADAPTERS.names)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from stream_setup import make_setup
from timing import device_title, line, table

from data_pipelines.clip_files import CommonClips
from data_pipelines.skeletons import KINECT_V2
from dynapurls_jax.config import paper_config
from dynapurls_jax.encoders.base import clips_per_device, token_shape, trained_encoder
from dynapurls_jax.encoders.registry import make_encoder
from dynapurls_jax.host_memory import keep_memory
from dynapurls_jax.serving.live_stream import LiveStream
from dynapurls_jax.serving.model import Classes, Model
from dynapurls_jax.serving.model_inputs import ModelInputs
from dynapurls_jax.serving.pipeline import prepared_ahead, recognise_all
from dynapurls_jax.serving.sensor import model_clip

CLASSES, PERSONS = 12, 2


def main() -> None:
    """Prints the rates."""
    options = PARSER.parse_args()
    keep_memory()
    files = sorted(file for file in options.clips.iterdir() if file.is_file()) * options.copies
    size = clips_per_device()
    files = files[: len(files) // size * size]
    if not files:
        PARSER.error(f"--copies: expected {size} clips or more, got {options.copies} of each file")
    live = LiveStream(ModelInputs(random_model(options)))
    reads = [partial(read, file, live.inputs.model) for file in files]
    print(f"{device_title()}; {len(files)} clips in batches of {size}, T = {options.frames}")
    table("part", "clips/s", "ms a clip")
    for name, seconds in parts(live, reads, size):
        line(name, f"{len(files) / seconds:.1f}", f"{1e3 * seconds / len(files):.2f}")


def parts(live: LiveStream, reads: list[Callable], size: int) -> Iterator[tuple[str, float]]:
    """Names of the parts and the seconds that all clips take in them."""
    everything = partial(recognise_all, live, reads, size=size)
    last(everything())  # compiles
    inputs = list(prepared_ahead(live.clip_tokens, reads, 2 * size))
    batches = [inputs[first : first + size] for first in range(0, len(inputs), size)]
    tokens = [live.clip_tokens.encoded(batch) for batch in batches]
    reading = partial(prepared_ahead, live.clip_tokens, reads, 2 * size)
    yield "reading", timed(lambda: last(reading()))
    yield "encoding", timed(lambda: last(map(live.clip_tokens.encoded, batches)))
    yield "streaming", timed(lambda: [live.predict_batch(batch) for batch in tokens][-1]())
    yield "together", timed(lambda: last(everything()))
    yield "one by one", timed(lambda: last(live.predict(read()) for read in reads))


def timed(call: Callable[[], Any]) -> float:
    """Seconds of the faster of two calls."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)


def last(results: Iterator[Any]) -> Any:
    """The last of some results."""
    found = None
    for found in results:
        if isinstance(found, ValueError):
            raise found
    return found if isinstance(found, jax.Array) else None


def read(file: Path, model: Model) -> np.ndarray:
    """The first clip of a file, in the joints of the model."""
    return model_clip(CommonClips(file, None, None).clip(0), model)


def random_model(options: Any) -> Model:
    """A Shift-GCN and a PURLS with random weights, at the shapes of NTU RGB+D."""
    config = paper_config("ntu60")
    config.data.frames, config.adapter.name = options.frames, options.method
    config.encoder.shift_gcn.width = options.width
    module = make_encoder(config.encoder, KINECT_V2)
    shape = (PERSONS, options.frames, KINECT_V2.num_joints, 3)
    init = jax.jit(partial(module.init, method="tokens"))
    variables = init(jax.random.key(0), jnp.ones((1, *shape)))
    setup = make_setup(CLASSES, "label_free", 64)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Model(
        config=config,
        source=KINECT_V2,
        skeleton=KINECT_V2,
        clip_shape=(PERSONS, options.frames),
        token_shape=token_shape(module, shape),
        method=setup.model,
        variables=setup.variables,
        encoder=trained_encoder(module, variables, ("joint",), KINECT_V2),
        classes=Classes(names, np.asarray(setup.candidates.classes)),
        candidates=names,
        texts={},
    )


if __name__ == "__main__":
    main()
