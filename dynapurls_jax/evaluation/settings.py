"""The settings of an evaluation."""

from dataclasses import dataclass

from dynapurls_jax.registry import check_at_least, check_choice

STREAMS = ("shuffled", "blocked", "skewed")


@dataclass(frozen=True)
class EvalSettings:
    """The settings of the streams on which a trained run is evaluated.

    Attributes:
      orders: number of stream orders.
      stream: one of `STREAMS`; "blocked": class after class, "skewed": class ratios of 1:10.
      chunk: number of samples that are predicted together, before the update; 1 is online.
      update_before_predict: update on a chunk before its prediction, as the published code does.
    """

    orders: int = 5
    stream: str = "shuffled"
    chunk: int = 1
    update_before_predict: bool = False

    def __post_init__(self):
        check_choice("stream", self.stream, STREAMS)
        check_at_least(1, orders=self.orders, chunk=self.chunk)
