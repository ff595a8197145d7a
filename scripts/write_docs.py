"""Writes the generated parts of the documents: python scripts/write_docs.py

README.md and docs/results.md get the tables of the JSON files in docs/results, between the lines
`<!-- results -->` and `<!-- /results -->`.
"""

import json
from pathlib import Path

from data_pipelines.errors import DataError
from dynapurls_jax.evaluation.figures import plot_sensitivity
from dynapurls_jax.reproduction.pages import Page, file_stem, markdown, read_page
from dynapurls_jax.reproduction.summary import split_table, summary_table
from dynapurls_jax.reproduction.tables import TABLES

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "results"
DATASETS = ("utd_mhad", "nw_ucla", "kinder_gator", "demo")


def published_pages() -> dict[str, list[Page]]:
    """The recorded pages of each table."""
    files = {
        name: [PUBLISHED / f"{file_stem(name, dataset)}.json" for dataset in DATASETS]
        for name in TABLES
    }
    return {name: [read_page(file) for file in files[name] if file.exists()] for name in TABLES}


def results() -> str:
    """All recorded tables, in Markdown."""
    pages = published_pages()
    summary = json.loads((PUBLISHED / "summary.json").read_text("utf-8"))
    blocks = [summary_table(summary), split_table(summary)]
    blocks += [markdown(page, "##") for of_table in pages.values() for page in of_table]
    for page in pages["fig7"]:
        name = f"{file_stem(page.name, page.dataset)}.png"
        blocks.append(f"![Figure 7, {page.dataset}](results/{name})\n")
    return "\n".join(blocks)


def write_between(file: Path, marker: str, text: str) -> None:
    """Replaces the part of a document between two marker comments.

    Raises:
      DataError: the markers are missing.
    """
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found_start, rest = file.read_text("utf-8").partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise DataError(f"expected {start} and {end} around the generated part", file)
    file.write_text(f"{before}{start}\n{text}{end}{after}", "utf-8")
    print(f"written: {file}")


def main() -> None:
    """Writes all generated parts and the pictures of Figure 7."""
    for page in published_pages()["fig7"]:
        picture = PUBLISHED / f"{file_stem(page.name, page.dataset)}.png"
        plot_sensitivity(page.cells, page.picture_title, picture)
    summary = json.loads((PUBLISHED / "summary.json").read_text("utf-8"))
    write_between(ROOT / "README.md", "results", summary_table(summary))
    write_between(ROOT / "docs" / "results.md", "results", results())


if __name__ == "__main__":
    main()
