"""Whether the PyTorch references in `tests/helpers` can be imported."""

from importlib.util import find_spec

from dynapurls_jax.commands import Parser


def need_reference(parser: Parser) -> None:
    """Ends the script with the command that installs what is missing."""
    if not (find_spec("torch") and find_spec("tests")):
        parser.error('needs PyTorch and tests/: pip install -e ".[dev]"')
