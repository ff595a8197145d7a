"""Folders of prepared files and of datasets' archives."""

import os
from pathlib import Path


def data_home() -> Path:
    """Folder of prepared files: $DYNAPURLS_CACHE or ~/.cache/dynapurls_jax."""
    return Path(os.environ.get("DYNAPURLS_CACHE", "~/.cache/dynapurls_jax")).expanduser()


def find_manual_dir(name: str, manual_dir: str = "") -> Path:
    """Folder of the owner's archive.

    In order: the configured folder; `$DYNAPURLS_DATA/<name>` or `../shared/data/<name>` if it
    exists; else `<cache>/manual/<name>`.
    """
    if manual_dir:
        return Path(manual_dir).expanduser().absolute()
    roots = [os.environ.get("DYNAPURLS_DATA", ""), "../shared/data"]
    for root in filter(None, roots):
        if (Path(root) / name).is_dir():
            return (Path(root) / name).resolve()
    return data_home() / "manual" / name
