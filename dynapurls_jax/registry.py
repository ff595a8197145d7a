"""Registries: the names of one kind of part, the module of each, and its settings.

A part (an encoder, a zero-shot method, a test-time method) is one module with an `Entry`, and one
line in the registry of its package. The module is imported when the part is asked for, so that
names are known before JAX is imported. A part of the user's own is named by its import path,
"module:attribute", wherever a name is expected.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from ml_collections import ConfigDict

from data_pipelines.errors import check_at_least as check_at_least
from data_pipelines.errors import check_choice as check_choice
from data_pipelines.errors import check_positive as check_positive
from data_pipelines.errors import check_share as check_share
from data_pipelines.errors import unknown
from data_pipelines.papers import THIS_PROJECT, Paper

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Entry:
    """A part of a registry.

    Attributes:
      make: builds the part; each registry documents its arguments.
      settings: a frozen dataclass: the names, defaults and checks of the part's settings. Its
        `__post_init__` raises ValueError for values that cannot be used.
      description: what the part does, in one line, for the tables of the documents.
      paper: where it was published.
    """

    make: Callable[..., Any]
    settings: type
    description: str = field(default="", kw_only=True)
    paper: Paper = field(default=THIS_PROJECT, kw_only=True)


@dataclass(frozen=True)
class NoSettings:
    """Of a part without settings."""


class Registry:
    """The parts of one kind by name."""

    def __init__(self, kind: str, parts: Mapping[str, str]):
        """Lists the parts.

        Args:
          kind: as errors call it, "encoder".
          parts: name to "module" or "module:attribute"; the attribute is `ENTRY` by default.
        """
        self.kind = kind
        self._parts = dict(parts)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the registry."""
        return tuple(self._parts)

    def entry(self, name: str) -> Any:
        """The entry of this name.

        Args:
          name: of the registry; or "module:attribute", an import path.

        Raises:
          ValueError: there is none, names the nearest; or the import path leads to no such entry.
        """
        if ":" in name:
            return imported(self.kind, name, type(self.entry(self.names[0])))
        if name not in self._parts:
            raise unknown(self.kind, name, self.names)
        _, _, attribute = self._parts[name].partition(":")
        return getattr(import_module(self.module(name)), attribute or "ENTRY")

    def module(self, name: str) -> str:
        """The module of a name in the registry."""
        return self._parts[name].partition(":")[0]

    def section(self, default: str) -> ConfigDict:
        """The section of a configuration: `name`, and the settings of every part under its name."""
        parts = {name: section_of(self.entry(name).settings) for name in self.names}
        return ConfigDict({"name": default} | parts)

    def settings(self, section: ConfigDict) -> Any:
        """The settings of the part that a section names.

        Raises:
          ValueError: unknown name, or values that cannot be used.
        """
        entry, key = self.entry(section.name), settings_key(section.name)
        return settings_of(entry.settings, section.get(key, {}), f"{self.kind}.{key}")

    def complete(self, section: ConfigDict) -> None:
        """Checks the settings of the part that a section names; for an import path, adds them.

        Settings that a section has already are kept, the others get their defaults.

        Raises:
          ValueError: see `settings`.
        """
        settings = self.settings(section)
        if ":" in section.name:
            with section.unlocked():
                section[settings_key(section.name)] = asdict(settings)


def imported(kind: str, path: str, expected: type) -> Any:
    """The entry of a part at an import path.

    Args:
      kind: of the registry, for errors.
      path: "module:attribute"; the module is in the current directory (of `python -m`), on
        PYTHONPATH, or installed.
      expected: class of the entry.

    Raises:
      ValueError: no such module, no such attribute, or another object; names what was expected.
    """
    module, _, attribute = path.partition(":")
    if not all(name.isidentifier() for name in [*module.split("."), attribute]):
        raise ValueError(f"{kind}: expected a name or module:attribute, got {path!r}")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports another one that is not
        raise ValueError(
            f"{kind} {path!r}: no module {error.name}: expected one that is installed or on "
            "PYTHONPATH; python -m looks in the current directory, too"
        ) from None
    if not hasattr(found, attribute):
        entries = [name for name, value in vars(found).items() if isinstance(value, expected)]
        raise unknown(f"{kind} of module {module}", attribute, entries)
    entry = getattr(found, attribute)
    if not isinstance(entry, expected):
        raise ValueError(
            f"{kind} {path!r}: expected a {expected.__name__}, got a {type(entry).__name__}"
        )
    return entry


def settings_key(name: str) -> str:
    """The key of a part's settings in its section: the name; keys cannot have dots."""
    return name.replace(".", "/")


def chosen_settings(section: ConfigDict) -> ConfigDict:
    """The settings of the part that a section names, as they stand there."""
    return section[settings_key(section.name)]


def section_of(settings: type) -> ConfigDict:
    """The defaults of a settings dataclass as a section of a configuration."""
    return ConfigDict(asdict(settings()))


def settings_of(
    cls: type[Settings], section: ConfigDict | Mapping[str, Any], where: str
) -> Settings:
    """A section of a configuration as the dataclass that it was made from, checked.

    Args:
      where: the section's key, for errors.

    Raises:
      ValueError: a value cannot be used; names the key, what was expected and what came.
    """
    values = section.to_dict() if isinstance(section, ConfigDict) else dict(section)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:  # a type error: a key that is not one of its fields
        raise ValueError(f"{where}: {error}") from None


def from_json(value: Any) -> Any:
    """The values of a configuration that was written as JSON: lists are tuples again."""
    if isinstance(value, dict):
        return {key: from_json(part) for key, part in value.items()}
    return tuple(map(from_json, value)) if isinstance(value, list | tuple) else value


def plain(config: ConfigDict, *keys: str) -> dict:
    """The named parts of a configuration as JSON-able values (tuples become lists)."""

    def convert(value: Any) -> Any:
        if isinstance(value, ConfigDict):
            return {key: convert(value[key]) for key in sorted(value)}
        return [convert(item) for item in value] if isinstance(value, tuple | list) else value

    return {key: convert(config[key]) for key in keys}
