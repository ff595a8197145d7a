"""Escapes untrusted names for Markdown and terminals."""

import re

from data_pipelines.errors import shown


def escaped(name: object) -> str:
    r"""A name as one line of plain Markdown text, without HTML, links or cells: `a|b` is `a\|b`."""
    text = " ".join(shown(str(name)).split())
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
