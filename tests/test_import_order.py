"""Imports go one way: `data_pipelines`, then `dynapurls_jax` in the order of `ORDER`."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

ENTRY_POINTS = {"train", "stream_eval", "predict", "reproduce", "export", "command_line"}
ORDER = [
    {"registry", "rng", "host_memory", "compile_cache", "commands", "config_names"},
    *({"encoders"}, {"text"}, {"zero_shot"}, {"adaptation"}),
    *({"evaluation"}, {"training"}, {"serving"}, {"reproduction"}),
    *({"config"}, {"config_errors"}, {"flags", "stream_answers", "workdirs"}),
    ENTRY_POINTS | {"__init__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each module of `dynapurls_jax` that a file imports, below the package."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for module in (prefix + alias.name for alias in node.names):
            package, _, name = module.partition(".")
            if package == "dynapurls_jax" and name:
                yield node.lineno, name.partition(".")[0]


def test_imports_go_one_way():
    found = []
    for file in sorted((ROOT / "data_pipelines").rglob("*.py")):
        found += [f"{file}:{line}: {name}" for line, name in imports(file)]
    for file in sorted((ROOT / "dynapurls_jax").rglob("*.py")):
        importer = file.relative_to(ROOT / "dynapurls_jax").parts[0].removesuffix(".py")
        for line, name in imports(file):
            if RANK[name] > RANK[importer] or name in ENTRY_POINTS:
                found.append(f"{file}:{line}: {importer} imports {name}")
    assert not found, "\n".join(found)
