"""Links and commands of the documents name what exists."""

import re
from pathlib import Path

import pytest

from dynapurls_jax.command_line import COMMANDS
from dynapurls_jax.config import default_config
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ROOT / "docs" / "results"
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def pages():
    """The documents, each under its path."""
    written = [page for page in PAGES if GENERATED not in page.parents]
    return pytest.mark.parametrize("page", written, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def module_exists(name: str) -> bool:
    """Whether a dotted name is a module or a package of the project."""
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pages()
def test_links_and_anchors_exist(page):
    text = CODE.sub("", page.read_text("utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@pages()
def test_commands_exist(page):
    code = "\n".join(CODE.findall(page.read_text("utf-8")))
    for name in re.findall(r"(?:^|\| )dynapurls (\w+)", code, re.MULTILINE):
        assert name in COMMANDS, name
    for name in re.findall(r"python -m ((?:dynapurls_jax|data_pipelines)[\w.]*)", code):
        assert module_exists(name), name
    for name in re.findall(r"(?:python |^)(scripts/[\w./]+)", code, re.MULTILINE):
        assert (ROOT / name).exists(), name


@pages()
def test_options_of_commands_exist(page):
    """Each option that follows a command is named in its module, or in the one of its flags."""
    code = "\n".join(CODE.findall(page.read_text("utf-8"))).replace("\\\n", " ")
    for name, rest in re.findall(r"dynapurls (\w+)([^\n|#]*)", code):
        folder = ROOT / "dynapurls_jax"
        sources = [folder / f"{COMMANDS[name].module.replace('.', '/')}.py", folder / "flags.py"]
        if name == "stream":
            sources.append(folder / "stream_answers.py")
        text = "".join(source.read_text("utf-8") for source in sources)
        for option in re.findall(r"--(\w+)", rest):
            assert f'"{option.removeprefix("no")}"' in text or f'"--{option}"' in text, option


@pages()
def test_keys_of_the_configuration_exist(page):
    config = default_config()
    for key in re.findall(r"--config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)=", page.read_text("utf-8")):
        value = config
        for part in key.split("."):
            assert part in value, key
            value = value[part]


def test_the_guide_shows_lines_of_its_example():
    """Each line of Python in the guide is one of the files that it explains."""
    folder = ROOT / "dynapurls_jax" / "zero_shot"
    sources = [(folder / name).read_text("utf-8") for name in ("devise.py", "registry.py")]
    page = (ROOT / "docs" / "add_a_method.md").read_text("utf-8")
    shown = [block for block in CODE.findall(page) if block.startswith("```python")]
    lines = {line for block in shown for line in block.splitlines()[1:-1]}
    assert shown
    assert lines <= set("".join(sources).splitlines())
