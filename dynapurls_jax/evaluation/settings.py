"""The settings of an evaluation."""

from dataclasses import dataclass

from dynapurls_jax.registry import check_at_least, check_choice

STREAMS = ("shuffled", "blocked", "skewed")


@dataclass(frozen=True)
class EvalSettings:
    """How a trained run meets the unseen clips.

    Attributes:
      stream: one of `STREAMS`; "blocked": classes in blocks, "skewed": class ratios of 1:10.
      chunk: samples that are predicted, and then learned from, together; 1 is online.
      update_before_predict: adapt to a chunk before it is predicted, as the published code does.
    """

    orders: int = 5
    stream: str = "shuffled"
    chunk: int = 1
    update_before_predict: bool = False

    def __post_init__(self):
        check_choice("stream", self.stream, STREAMS)
        check_at_least(1, orders=self.orders, chunk=self.chunk)
