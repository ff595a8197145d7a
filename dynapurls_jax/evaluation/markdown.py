"""Names that somebody else chose, in Markdown and on terminals: text, and nothing but text."""

import re

from data_pipelines.errors import shown


def escaped(name: object) -> str:
    r"""A name that is no HTML, no link, no code and no second cell of a table: `a|b` is `a\|b`."""
    text = " ".join(shown(str(name)).split())
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
