"""What an executed notebook shows."""


def shown(cell, kind):
    """The output of an executed cell of a kind such as text/markdown; "stream" is printed text."""
    if kind == "stream":
        return "".join(out.text for out in cell.outputs if out.output_type == "stream")
    return "\n".join(out.data[kind] for out in cell.outputs if kind in out.get("data", {}))
