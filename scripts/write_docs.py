"""Writes the generated parts of the documents.

  python scripts/write_docs.py

README.md and pages of docs get tables of the registries, of the files in docs/results and of the
pretrained models, each between the lines `<!-- name -->` and `<!-- /name -->`. A test compares
them with what this script would write.
"""

from dynapurls_jax.commands import parser_of

PARSER = parser_of(__doc__)
if __name__ == "__main__":
    PARSER.parse_args()  # before JAX is imported, which takes seconds

import hashlib
import json
from pathlib import Path

from data_pipelines.errors import DataError
from dynapurls_jax.config import load_config
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.reproduction.catalogue import (
    dataset_table,
    table,
    tables_of_parts,
    text_encoder_table,
)
from dynapurls_jax.reproduction.methods import COMPARISON
from dynapurls_jax.reproduction.pages import Page, file_stem, markdown, read_page
from dynapurls_jax.reproduction.summary import split_table, summary_table
from dynapurls_jax.reproduction.tables import TABLES
from dynapurls_jax.serving.model_file import SUFFIX, read_card
from dynapurls_jax.serving.pretrained import pretrained_names

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "results"
PRETRAINED = Path("dynapurls_jax/pretrained")
DATASETS = ("utd_mhad", "nw_ucla", "kinder_gator", "demo")
TRAINED_BY = {  # name of a pretrained model to the commands that make it
    "demo": (
        "dynapurls train --config=demo",
        "dynapurls export model --workdir=runs/demo --out=demo.safetensors",
    ),
    "universal": (
        "python scripts/train_universal.py --archives=FOLDER --manual_dir=FOLDER \\",
        "  --out=universal.safetensors",
    ),
}


def published_pages() -> dict[str, list[Page]]:
    """The recorded pages of each table."""
    files = {
        name: [PUBLISHED / f"{file_stem(name, dataset)}.json" for dataset in DATASETS]
        for name in TABLES
    }
    return {name: [read_page(file) for file in files[name] if file.exists()] for name in TABLES}


def results() -> str:
    """The project's result by dataset and by split, in Markdown."""
    summary = json.loads((PUBLISHED / "summary.json").read_text("utf-8"))
    return "\n".join([summary_table(summary), split_table(summary)])


def comparison() -> str:
    """The recorded tables of all zero-shot methods, in Markdown."""
    pages = published_pages()
    return "\n".join(markdown(page, "##") for name in COMPARISON for page in pages[name])


def paper_tables() -> str:
    """The recorded tables of the paper's parts, in Markdown."""
    pages = {name: pages for name, pages in published_pages().items() if name not in COMPARISON}
    blocks = [markdown(page, "##") for of_table in pages.values() for page in of_table]
    for page in pages["fig7"]:
        name = f"{file_stem(page.name, page.dataset)}.png"
        blocks.append(f"![Figure 7, {page.dataset}](../results/{name})\n")
    return "\n".join(blocks)


def model_table() -> str:
    """Name, size and checksum of the models that ship with the package."""
    rows = []
    for name in pretrained_names():
        content = (ROOT / PRETRAINED / f"{name}{SUFFIX}").read_bytes()
        size, checksum = f"{len(content) / 2**20:.1f} MiB", hashlib.sha256(content).hexdigest()
        rows.append(
            [f"[`{name}`](#{name}-model)", f"`{PRETRAINED / name}{SUFFIX}`", size, f"`{checksum}`"]
        )
    return table(["model", "file", "size", "sha256"], rows)


def model_cards() -> str:
    """The card of each model, with the commands that use and train it."""
    blocks = []
    for name in pretrained_names():
        title, _, card = read_card(ROOT / PRETRAINED / f"{name}{SUFFIX}").partition("\n")
        use = f'dynapurls predict --model={name} --clips=my_clips --actions="wave,sit down"'
        made_by = "\n".join(TRAINED_BY[name])
        blocks.append(
            f"#{title}\n\n```bash\n{use}\n```\n\n{card.strip()}\n\n"
            f"Trained by:\n\n```bash\n{made_by}\n```\n"
        )
    return "\n".join(blocks)


def documents() -> dict[Path, str]:
    """The text of each document, with its generated parts as they should be."""
    summary = json.loads((PUBLISHED / "summary.json").read_text("utf-8"))
    configs = {name: load_config(ROOT / "configs" / f"{name}.py") for name in summary["datasets"]}
    pages = published_pages()
    encoders, methods, adapters = tables_of_parts(summary, pages["3"], pages["10"], configs)
    left_out = (PUBLISHED / "left_out.md").read_text("utf-8")
    parts = {
        "README.md": {
            "datasets": dataset_table(summary),
            "encoders": encoders,
            "methods": methods,
            "adapters": adapters,
            "results": summary_table(summary),
        },
        "docs/results.md": {"results": results()},
        "docs/studies/zero_shot_methods.md": {"tables": comparison()},
        "docs/studies/paper_tables.md": {"tables": paper_tables()},
        "docs/models.md": {
            "models": model_table(),
            "cards": model_cards(),
            "text_encoders": text_encoder_table(),
            "left_out": left_out,
        },
        "docs/studies/universal.md": {"left_out": left_out},
    }
    return {ROOT / name: filled(ROOT / name, texts) for name, texts in parts.items()}


def filled(file: Path, parts: dict[str, str]) -> str:
    """The text of a document with each part between its two marker comments.

    Raises:
      DataError: the markers are missing.
    """
    text = file.read_text("utf-8")
    for marker, part in parts.items():
        start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
        before, found_start, rest = text.partition(start)
        _, found_end, after = rest.partition(end)
        if not (found_start and found_end):
            raise DataError(f"expected {start} and {end} around the generated part", file)
        text = f"{before}{start}\n{part}{end}{after}"
    return text


def main() -> None:
    """Writes all generated parts and the pictures of Figure 7."""
    for page in published_pages()["fig7"]:
        picture = PUBLISHED / f"{file_stem(page.name, page.dataset)}.png"
        plot_sensitivity(page.cells, page.picture_title, picture)
    for file, text in documents().items():
        file.write_text(text, "utf-8")
        print(f"written: {file}")


if __name__ == "__main__":
    main()
