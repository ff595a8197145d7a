"""The text settings of a run: defaults and checks of `config.text`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynapurls_jax.registry import check_choice
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.registry import TEXT_ENCODERS

TEMPLATE = "a video of {}"  # section 3.2.2
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class TextSettings:
    """Which descriptions are encoded, and how.

    Attributes:
      encoder: a name of `TEXT_ENCODERS`.
      model: of encoder "clip": a Hugging Face hub id or a local folder.
      dtype: of CLIP's features, one of `DTYPES`.
      descriptions: a JSON file, the name of a dataset with shipped descriptions, "names" for the
        class names alone; empty: the descriptions of the corpus.
      precomputed: the npz file of encoder "precomputed".
      template: granularity to a text with one `{}`, which the description replaces.

    Raises:
      ValueError: an unknown name, encoder "precomputed" without a file, or a template without
        exactly one `{}`.
    """

    encoder: str = "minilm"
    model: str = "openai/clip-vit-base-patch32"
    dtype: str = "float32"
    descriptions: str = ""
    precomputed: str = ""
    template: Mapping[str, str] = field(
        default_factory=lambda: dict.fromkeys(GRANULARITIES, TEMPLATE)
    )

    def __post_init__(self) -> None:
        check_choice("encoder", self.encoder, TEXT_ENCODERS.names)
        check_choice("dtype", self.dtype, DTYPES)
        if self.encoder == "precomputed" and not self.precomputed:
            raise ValueError(
                "precomputed: expected the npz file with the text vectors of all classes, as in "
                "--config.text.precomputed=vectors.npz, got none"
            )
        for granularity in self.template:
            check_choice("template", granularity, GRANULARITIES)
        for granularity in GRANULARITIES:
            template = self.template.get(granularity, "")
            if template.count("{}") != 1:
                raise ValueError(
                    f"template.{granularity}: expected a text with one {{}}, got {template!r}"
                )
