"""Tables of all datasets, encoders and methods, from the registries and the recorded results.

Accuracies are top-1 in % on unseen classes, the mean over the splits of a dataset; random splits of
one size count as one.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_pipelines.builders.registry import DATASETS, about, module_of
from data_pipelines.papers import Paper
from dynapurls_jax.adaptation.registry import ADAPTERS
from dynapurls_jax.encoders.registry import ENCODERS
from dynapurls_jax.registry import Registry
from dynapurls_jax.reproduction.jobs import group_of
from dynapurls_jax.reproduction.methods import ENCODER
from dynapurls_jax.reproduction.pages import Page
from dynapurls_jax.reproduction.summary import MODELS
from dynapurls_jax.reproduction.tables import PAPER_MODEL
from dynapurls_jax.text.registry import TEXT_ENCODERS
from dynapurls_jax.zero_shot.registry import METHODS

NOT_MEASURED = "—"
Figures = Mapping[str, str]  # dataset to the cell


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; columns of accuracies are aligned to the right."""
    heads = list(heads)
    rule = "".join("|--:" if head.endswith("%") else "|---" for head in heads)
    lines = [f"| {' | '.join(heads)} |", f"{rule}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def linked(name: str, module: str) -> str:
    """A name that links to its file."""
    return f"[`{name}`]({module.replace('.', '/')}.py)"


def cited(paper: Paper) -> str:
    """A paper that links to its address."""
    return f"[{paper.title}]({paper.link})" if paper.link else paper.title


def dataset_table(summary: Mapping[str, Any]) -> str:
    """The datasets, with the accuracies of their default models."""

    def row(name: str) -> list[str]:
        description, paper = about(name)
        rates = summary["datasets"].get(name, {})
        cells = [
            f"{rates[key]:.1f}" if rates else NOT_MEASURED
            for key in ("closed_form", "static", "refined")
        ]
        return [linked(name, module_of(name)), description, cited(paper), *cells]

    heads = ["name", "dataset", "paper"]
    return table([*heads, "baseline, %", "static, %", "refined, %"], map(row, DATASETS))


def part_table(registry: Registry, figures: Callable[[str], Figures], datasets: list[str]) -> str:
    """The parts of a registry with an accuracy on each dataset, and the names of the others."""

    def row(name: str, found: Figures) -> list[str]:
        entry = registry.entry(name)
        cells = [found.get(dataset, NOT_MEASURED) for dataset in datasets]
        link = linked(name, registry.module(name))
        return [link, entry.description, cited(entry.paper), *cells]

    def short(name: str) -> str:
        paper = registry.entry(name).paper
        return f"{linked(name, registry.module(name))} ({cited(paper)})"

    heads = ["name", registry.kind, "paper", *(f"{dataset}, %" for dataset in datasets)]
    measured = {name: found for name in registry.names if (found := figures(name))}
    others = ", ".join(short(name) for name in registry.names if name not in measured)
    rows = table(heads, (row(name, found) for name, found in measured.items()))
    return rows + (f"\nNot measured on all splits: {others}.\n" if others else "")


def text_encoder_table() -> str:
    """The text encoders, for a page of docs, where no file of the code can be linked."""

    def row(name: str) -> list[str]:
        entry = TEXT_ENCODERS.entry(name)
        file = f"`{TEXT_ENCODERS.module(name).replace('.', '/')}.py`"
        return [f"`{name}`", entry.description, cited(entry.paper), file]

    return table(["name", TEXT_ENCODERS.kind, "paper", "file"], map(row, TEXT_ENCODERS.names))


def tables_of_parts(
    summary: Mapping[str, Any],
    compared: Iterable[Page],
    test_time: Iterable[Page],
    configs: Mapping[str, ConfigDict],
) -> tuple[str, str, str]:
    """The tables of encoders, zero-shot methods and test-time methods.

    Args:
      summary: of `reproduction.summary`.
      compared: the pages of Table 3, one for each dataset.
      test_time: the pages of Table 10, one for each dataset.
      configs: configuration of each dataset.
    """
    datasets = list(summary["datasets"])
    adapted = {page.dataset: rates_of(page) for page in test_time if page.dataset in datasets}
    models = []  # encoder, method, dataset, static accuracy; the defaults first
    for dataset in datasets:
        for model, figure in (("default", "static"), ("closed_form", "closed_form")):
            config = configs[dataset].copy_and_resolve_references()
            config.update_from_flattened_dict(MODELS[model])
            rate = summary["datasets"][dataset][figure]
            models.append((config.encoder.name, config.method.name, dataset, rate))
        encoder, method = PAPER_MODEL["encoder.name"], PAPER_MODEL["method.name"]
        models.append((encoder, method, dataset, adapted[dataset]["static"]))
    for page in compared:
        if page.dataset in datasets:
            encoder, splits = ENCODER["encoder.name"], configs[page.dataset].splits
            rates = rates_of(page, set(map(group_of, splits)))
            models += [(encoder, row, page.dataset, rate) for row, rate in rates.items()]

    def of_encoder(name: str) -> Figures:
        rows = [model for model in models if model[0] == name]
        return {d: f"{rate:.1f} (`{method}`)" for _, method, d, rate in reversed(rows)}

    def of_method(name: str) -> Figures:
        rows = [model for model in models if model[1] == name]
        return {d: f"{rate:.1f} (`{encoder}`)" for encoder, _, d, rate in reversed(rows)}

    def of_adapter(name: str) -> Figures:
        return {d: f"{rates[name]:.1f}" for d, rates in adapted.items() if name in rates}

    return (
        part_table(ENCODERS, of_encoder, datasets),
        part_table(METHODS, of_method, datasets),
        part_table(ADAPTERS, of_adapter, datasets),
    )


def rates_of(page: Page, splits: Set[str] = frozenset()) -> dict[str, float]:
    """Each row's accuracy on a page of Table 3 or 10: the mean over splits.

    Args:
      splits: rows without one of these are left out.
    """
    rates: dict[str, dict[str, float]] = {}
    for cell in page.cells:
        if cell.column == "ZSL":
            rates.setdefault(cell.row, {})[cell.split] = cell.mean
    return {
        row: float(np.mean(list(found.values())))
        for row, found in rates.items()
        if splits <= found.keys()
    }
