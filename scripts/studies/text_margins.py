"""How far texts keep classes apart, without any training: nearest-neighbour margins.

  python scripts/studies/text_margins.py --data ../shared/data/text

For each class, the cosine distance to its nearest other class, under the global text and under all
eight together (mean of their cosines). Means over classes, and as a share of the mean distance of
all pairs, which makes encoders comparable. Sets: vectors of CLIP ViT-B/32 that others have made of
NTU class texts (labels, action descriptions, motion descriptions; their files lb, ad, md); class
names, published GPT-3 texts and this project's, through --encoder.
"""

from pathlib import Path

import numpy as np

from data_pipelines.builders.registry import public_dataset
from dynapurls_jax.commands import parser_of
from dynapurls_jax.text.descriptions import (
    check_descriptions,
    load_descriptions,
    shipped_descriptions,
)
from dynapurls_jax.text.encoders import (
    encode_descriptions,
    in_templates,
    make_text_encoder,
    unit_vectors,
)
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.registry import TEXT_ENCODERS
from dynapurls_jax.text.settings import TextSettings
from dynapurls_jax.text.spreadsheet import read_sheet

CLIP_SETS = {"lb": "labels", "ad": "action descriptions", "md": "motion descriptions"}


def main() -> None:
    """Prints a table and the nearest pairs of our own texts."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of text vectors")
    parser.add_argument("--dataset", default="ntu120", choices=["ntu60", "ntu120"])
    parser.add_argument("--encoder", default="minilm", choices=TEXT_ENCODERS.names)
    parser.add_argument("--template", default="a video of {}")
    options = parser.parse_args()
    names = public_dataset(options.dataset).CLASSES
    print("| encoder | texts | granularities | margin | of mean distance | smallest |")
    print("|---|---|---|---|---|---|")
    for prefix, title in CLIP_SETS.items():
        file = options.data / "clip_vit_b32" / f"{prefix}_{len(names)}.npy"
        vectors = unit_vectors(np.load(file))
        show("CLIP ViT-B/32", title, "one", vectors @ vectors.T, names)
    template = dict.fromkeys(GRANULARITIES, options.template)
    settings = TextSettings(encoder=options.encoder, template=template)
    encoder = make_text_encoder(settings)
    for title, classes in text_sets(options, names).items():
        texts = in_templates(check_descriptions(classes, names, title), settings.template)
        vectors = encode_descriptions(texts, encoder)
        similar = np.einsum("agd,bgd->gab", vectors, vectors)
        show(options.encoder, title, "global", similar[0], names)
        if title != "class names":
            show(options.encoder, title, "eight", similar.mean(axis=0), names)


def text_sets(options, names: tuple[str, ...]) -> dict[str, dict]:
    """Titles to descriptions of all classes."""
    _, published = read_sheet(options.data / "gpt3_desc.xlsx", "NTU-RGB+D", names)
    return {
        "class names": {name: dict.fromkeys(GRANULARITIES, name) for name in names},
        "GPT-3": published,
        "ours": load_descriptions(shipped_descriptions(options.dataset)),
    }


def show(encoder: str, title: str, used: str, similar: np.ndarray, names: tuple[str, ...]) -> None:
    """Prints a line of the table."""
    distance = 1 - similar
    pairs = distance[np.triu_indices(len(names), 1)]
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(axis=1)
    worst = int(nearest.argmin())
    print(
        f"| {encoder} | {title} | {used} | {nearest.mean():.3f} | "
        f"{nearest.mean() / pairs.mean():.0%} | {nearest.min():.3f} "
        f"({names[worst]}, {names[int(distance[worst].argmin())]}) |",
        flush=True,
    )


if __name__ == "__main__":
    main()
