"""The part of `dynapurls stream` that answers a stream of requests, with its flags."""

import json
import shlex
import sys
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_pipelines.logs import log

if TYPE_CHECKING:
    from dynapurls_jax.serving.replies import Replies

_STATE = flags.DEFINE_string(
    "state", None, "With --input: a folder where the stream's state is saved and continued."
)
_MODEL = flags.DEFINE_string(
    "model", None, "With --input: a pretrained model or a model file, in place of a workdir."
)
_ACTIONS = flags.DEFINE_list(
    "actions",
    None,
    "With --input: names of actions, classes of the model or others; default: the unseen "
    "classes, with --gate the seen ones too.",
)
_CAPACITY = flags.DEFINE_integer(
    "capacity", 64, "With --input: class slots, more if there are more actions.", lower_bound=1
)
_TOP = flags.DEFINE_integer(
    "top", 5, "With --input: actions listed in a prediction.", lower_bound=1
)
_WINDOW = flags.DEFINE_float("window", 2.0, "With --input: seconds of frames for a prediction.")
_STRIDE = flags.DEFINE_float("stride", 0.5, "With --input: seconds between predictions.")
_SKELETON = flags.DEFINE_string(
    "skeleton", None, "With --input: joint layout of the clips (docs/data.md), in any coordinates."
)
_UP = flags.DEFINE_string("up", "", "With --skeleton: the up axis; default: estimated.")
_MIRRORED = flags.DEFINE_bool(
    "mirrored", None, "With --skeleton: left-handed, as of webcams; default: estimated."
)
_METRES = flags.DEFINE_float(
    "metres", None, "With --skeleton: length of one unit in metres; default: estimated."
)
_FPS = flags.DEFINE_float(
    "fps", 30.0, "With --input: frame rate of frames and clips without times."
)

_COORDINATES = ("up", "mirrored", "metres")
_FLAGS = ("state", "model", "actions", "capacity", "top", "window", "stride", "skeleton", "fps")


def refuse_flags() -> None:
    """Refuses the flags of this module where no stream is answered.

    Raises:
      ValueError: names the flag.
    """
    for name in (*_FLAGS, *_COORDINATES):
        if flags.FLAGS[name].present:
            raise ValueError(f"--{name} goes with --input")


def check_flags() -> None:
    """Refuses flags that would be ignored.

    Raises:
      ValueError: names the flag, and the flag that it needs.
    """
    for name in _COORDINATES:
        if flags.FLAGS[name].present and not _SKELETON.value:
            raise ValueError(f"--{name} goes with --skeleton")


def make_replies(name: str | Path, adapter: str | None, gate: bool) -> "Replies":
    """A model, ready to answer requests.

    Args:
      name: see `find_model`.
      adapter: the test-time method; None: the model's.
      gate: whether the model's gate is used.

    Raises:
      ValueError, DataError, FileNotFoundError: see `find_model` and `LiveStream`.
    """
    from data_pipelines.conventions import Declared
    from dynapurls_jax.serving.frame_window import FrameWindow
    from dynapurls_jax.serving.live_stream import LiveStream
    from dynapurls_jax.serving.model_inputs import ModelInputs
    from dynapurls_jax.serving.pretrained import find_model
    from dynapurls_jax.serving.replies import Replies
    from dynapurls_jax.serving.sensor import Sensor

    window = FrameWindow(_WINDOW.value, _STRIDE.value)
    inputs = ModelInputs(find_model(name))
    if adapter:
        inputs = inputs.with_adapter(adapter)
    live = LiveStream(inputs, _ACTIONS.value, _CAPACITY.value, gate)
    sensor = None
    if _SKELETON.value:
        declared = Declared(_UP.value, _MIRRORED.value, _METRES.value, _FPS.value)
        sensor = Sensor(inputs.model, _SKELETON.value, declared, log.info)
    log.info(f"{name}, {inputs.model.config.adapter.name}; ready")
    return Replies(live, window, sensor, _TOP.value, _FPS.value)


def answer_input(name: str | Path, source: str, adapter: str | None, gate: bool) -> None:
    """One JSON line for each answer.

    Args:
      source: a file, or - for standard input.
      name, adapter, gate: see `make_replies`.
    """
    from data_pipelines.formats.sample_stream import read_requests
    from dynapurls_jax.serving.answer import answer_all

    with redirect_stdout(sys.stderr):
        replies = make_replies(name, adapter, gate)
    folder = Path(_STATE.value) if _STATE.value else None
    with ExitStack() as stack:
        stream = sys.stdin.buffer
        if source != "-":
            stream = stack.enter_context(Path(source).open("rb"))
        requests = read_requests(stream)
        for answer in stack.enter_context(closing(answer_all(replies, requests, folder))):
            print(json.dumps(answer), flush=True)
    state = replies.stream.state
    counts = f"samples: {int(state.samples)}, {int(state.skipped)} of them skipped"
    log.info(f"{counts}; windows that share frames are one sample")
    if folder:
        command = shlex.join(["dynapurls", "stream", *sys.argv[1:]])
        log.info(f"state, which the same command continues: {folder}\nnext: {command}")
