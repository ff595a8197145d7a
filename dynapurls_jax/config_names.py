"""Configurations by name, and lists of names, as users type them on a command line."""

import re
from pathlib import Path

from data_pipelines.errors import unknown

# In a wheel they are in the package, in a clone beside it.
_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
LISTS = ("config.splits", "config.data.streams")
NO_DATASETS = {"authors_text", "paper", "universal"}  # not the configuration of one dataset


def config_names() -> tuple[str, ...]:
    """Names of the configurations that ship with the project; sorted."""
    return tuple(sorted({file.stem for folder in _FOLDERS for file in folder.glob("*.py")}))


def dataset_names() -> tuple[str, ...]:
    """Names of the configurations of one dataset each; sorted."""
    return tuple(name for name in config_names() if name not in NO_DATASETS)


def config_file(name: str) -> str:
    """The file of a configuration.

    Args:
      name: of `config_names()`, or a file; perhaps with `:argument`, as in "paper:utd_mhad".

    Raises:
      ValueError: there is neither; names the nearest.
    """
    base, colon, argument = name.partition(":")
    if Path(base).is_file():
        return name
    for folder in _FOLDERS:
        file = folder / f"{Path(base).name.removesuffix('.py')}.py"
        if file.is_file() and base in (file.stem, f"configs/{file.name}"):
            return f"{file}{colon}{argument}"
    raise unknown("--config: configuration or file", base, config_names())


def typed(arguments: list[str]) -> list[str]:
    """The arguments of a command, with files for names of configurations and tuples for names.

    `--config=demo` and `--config demo` name a file, `--config.splits=22_5,18_9` two splits.

    Raises:
      ValueError: see `config_file`.
    """
    found: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        name = key.lstrip("-")
        if name == "config" and equals:
            argument = f"{key}={config_file(value)}"
        elif found and found[-1] in ("--config", "-config"):
            argument = config_file(argument)
        elif name in LISTS and equals:
            argument = f"{key}={names_in(value)!r}"
        elif found and found[-1].lstrip("-") in LISTS:
            argument = repr(names_in(argument))
        found.append(argument)
    return found


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list, with or without brackets, quotes and commas."""
    return tuple(re.findall(r"[^\s,()\[\]'\"]+", text))
