"""Outputs of executed notebooks."""


def shown(cell, kind):
    """Output of an executed cell; `kind` is such as text/markdown, or "stream" for printed text."""
    if kind == "stream":
        return "".join(out.text for out in cell.outputs if out.output_type == "stream")
    return "\n".join(out.data[kind] for out in cell.outputs if kind in out.get("data", {}))
