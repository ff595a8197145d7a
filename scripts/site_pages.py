"""Hooks of mkdocs.yml: pages from notebooks and from files outside docs/, and their links."""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
# File of the repository: address of its page.
TEXTS = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{
        f"data_pipelines/cards/{card.name}": f"cards/{card.name}"
        for card in sorted((ROOT / "data_pipelines/cards").glob("*.md"))
    },
}
NOTEBOOKS = {
    f"docs/tutorials/{f.name}": f"tutorials/{f.stem}.md"
    for f in sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
}
PAGES = TEXTS | NOTEBOOKS | {"README.md": "index.md"}
SOURCES = {page: file for file, page in (TEXTS | NOTEBOOKS).items()}
LINK = re.compile(
    r"(?s)(?P<fence>^```.*?^```)|(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\((?P<target>[^()\s]+)\)|`[^`]+`",
    re.MULTILINE,
)


def on_config(config: MkDocsConfig) -> None:
    """Replaces the patterns of the navigation by the pages that match and are not named."""
    docs = Path(config.docs_dir)
    named = set(_leaves(config.nav))

    def expanded(item: str | dict) -> list:
        if isinstance(item, dict):
            return [{title: listed(part) for title, part in item.items()}]
        if "*" not in item:
            return [item]
        return sorted({str(file.relative_to(docs)) for file in docs.glob(item)} - named)

    def listed(part: str | list) -> str | list:
        return part if isinstance(part, str) else [page for item in part for page in expanded(item)]

    config.nav = listed(config.nav)


def _leaves(nav: str | list | dict) -> Iterator[str]:
    """All addresses and patterns of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(part)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages of other files; notebooks are shown with the outputs that they store."""
    for name, uri in TEXTS.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, uri, content=text))
    for name, uri in NOTEBOOKS.items():
        folder = {"output_files_dir": f"{Path(name).stem}_files"}
        text, resources = MarkdownExporter().from_filename(str(ROOT / name), resources=folder)
        files.append(File.generated(config, uri, content=text))
        for output, data in resources["outputs"].items():
            files.append(File.generated(config, f"tutorials/{output}", content=data))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links at pages of the site; a link to another file of the project becomes text."""
    source = SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def replaced(match: re.Match) -> str:
        target, _, anchor = (match["target"] or "").partition("#")
        if not target or ":" in target:
            return match[0]
        path = normpath(f"{Path(source).parent}/{target}")
        uri = PAGES.get(path, path.removeprefix("docs/"))
        if uri in files.src_uris and (path in PAGES or path.startswith("docs/")):
            address = relpath(uri, Path(page.file.src_uri).parent)
            anchor = anchor and f"#{anchor}"
            return f"{match['image']}[{match['text']}]({address}{anchor})"
        return match["text"] if (ROOT / path).exists() else match[0]

    return LINK.sub(replaced, markdown)
