"""Where things are on disk: what this project keeps, and what users bring."""

import os
from pathlib import Path


def data_home() -> Path:
    """Where prepared files go: $DYNAPURLS_CACHE or ~/.cache/dynapurls_jax."""
    return Path(os.environ.get("DYNAPURLS_CACHE", "~/.cache/dynapurls_jax")).expanduser()


def find_manual_dir(name: str, manual_dir: str = "") -> Path:
    """Where the owner's archive is looked for.

    In this order: the configured folder, `$DYNAPURLS_DATA/<name>`, `../shared/data/<name>`, and
    `<cache>/manual/<name>`.
    """
    if manual_dir:
        return Path(manual_dir).expanduser().absolute()
    roots = [os.environ.get("DYNAPURLS_DATA", ""), "../shared/data"]
    for root in filter(None, roots):
        if (Path(root) / name).is_dir():
            return (Path(root) / name).resolve()
    return data_home() / "manual" / name
