"""The summary of results: closed form, static, refined, and the paper's model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dynapurls_jax.evaluation.settings import STREAMS
from dynapurls_jax.reproduction.jobs import Job, group_of, job_of, runs_of
from dynapurls_jax.reproduction.layout import Overrides
from dynapurls_jax.reproduction.tables import PAPER_MODEL

MODELS: dict[str, Overrides] = {  # name to overrides of a dataset's configuration
    "closed_form": {"encoder.name": "kinematics", "method.name": "ridge"},
    "default": {},
    "dynapurls_paper": PAPER_MODEL | {"adapter.name": "dynapurls"},
}
TRAINED = ("dynapurls_paper",)  # models that depend on the seed
EVEN, *UNEVEN = STREAMS
HURT = 0.01  # least loss of accuracy by adaptation of a stream that counts as hurt


def summary_jobs(config: ConfigDict, seeds: int) -> list[Job]:
    """The jobs of one dataset.

    Args:
      seeds: number of seeds of the paper's model, which is trained.
    """
    return [
        _job(model, stream, run)
        for model in MODELS
        for stream in STREAMS
        for run in runs_of(config, seeds if model in TRAINED else 1)
    ]


def _job(model: str, stream: str, run: tuple[str, int]) -> Job:
    return job_of("refined", *run, MODELS[model] | {"eval.stream": stream})


def summarise(config: ConfigDict, seeds: int, records: Mapping[Job, dict]) -> dict[str, Any]:
    """Accuracies of a dataset and of each of its splits, in %.

    The accuracy of a dataset is the mean over its splits; random splits of one size are one split.

    Args:
      records: records of all `summary_jobs`.
    """

    def rates(model: str, stream: str, name: str) -> dict[str, list[list[float]]]:
        """Split to the accuracies of each run and each stream order."""
        found: dict[str, list[list[float]]] = {}
        for run in runs_of(config, seeds if model in TRAINED else 1):
            results = records[_job(model, stream, run)]["results"]
            found.setdefault(group_of(run[0]), []).append(results[name])
        return found

    def figures(stream: str) -> dict[str, dict[str, list[list[float]]]]:
        return {
            "closed_form": rates("closed_form", stream, "static"),
            "static": rates("default", stream, "static"),
            "refined": rates("default", stream, "refined"),
            "dynapurls_paper": rates("dynapurls_paper", stream, "refined"),
        }

    even = figures(EVEN)
    splits = {
        split: {name: _percent(found[split]) for name, found in even.items()}
        for split in even["static"]
    }
    return (
        _of_dataset(even)
        | {"uneven": {stream: _of_dataset(figures(stream)) for stream in UNEVEN}}
        | {"splits": splits}
    )


def _of_dataset(found: Mapping[str, dict[str, list[list[float]]]]) -> dict[str, float]:
    means = {
        name: round(float(np.mean([_percent(rates) for rates in of_split.values()])), 2)
        for name, of_split in found.items()
    }
    static, refined = (
        np.array([rate for rates in found[name].values() for run in rates for rate in run])
        for name in ("static", "refined")
    )
    return means | {"hurt_share": round(100 * float(np.mean(refined < static - HURT)), 1)}


def _percent(rates: list[list[float]]) -> float:
    return round(100 * float(np.mean([np.mean(run) for run in rates])), 2)


def mean_of(datasets: Mapping[str, dict]) -> dict[str, Any]:
    """The mean over datasets."""

    def mean(parts: list[dict]) -> dict[str, float]:
        return {name: round(float(np.mean([part[name] for part in parts])), 2) for name in HEADS}

    parts = list(datasets.values())
    uneven = {stream: mean([part["uneven"][stream] for part in parts]) for stream in UNEVEN}
    return mean(parts) | {"uneven": uneven}


HEADS = {
    "closed_form": "closed form",
    "static": "static",
    "refined": "refined",
    "hurt_share": "streams hurt, %",
    "dynapurls_paper": "paper's model, refined",
}


def summary_table(summary: Mapping[str, Any]) -> str:
    """The results of the README in Markdown: a row for each dataset, and their mean."""
    heads = [*HEADS.values(), *(f"{stream}: static, refined" for stream in UNEVEN)]
    lines = [f"| dataset | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, part in {**summary["datasets"], "mean": summary["mean"]}.items():
        cells = [f"{part[figure]:.1f}" for figure in HEADS]
        for stream in UNEVEN:
            rates = part["uneven"][stream]
            cells.append(f"{rates['static']:.1f}, {rates['refined']:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def split_table(summary: Mapping[str, Any]) -> str:
    """The results of each split, in Markdown."""
    names = [name for name in HEADS if name != "hurt_share"]
    heads = [HEADS[name] for name in names]
    lines = [f"| dataset | split (seen_unseen) | {' | '.join(heads)} |", "|---" * 6 + "|"]
    for dataset, part in summary["datasets"].items():
        for split, rates in part["splits"].items():
            cells = " | ".join(f"{rates[name]:.1f}" for name in names)
            lines.append(f"| {dataset} | {split} | {cells} |")
    return "\n".join(lines) + "\n"
