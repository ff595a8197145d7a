"""Options of the benchmarks against PyTorch, and whether its references can be imported."""

from importlib.util import find_spec

from dynapurls_jax.commands import Parser


def timing_options(parser: Parser, repeats: int) -> None:
    """Adds how often and by which clock both are timed.

    Args:
      repeats: default.
    """
    parser.add_argument("--repeats", type=int, default=repeats, help="timed; the fastest counts")
    parser.add_argument(
        "--processor_time",
        action="store_true",
        help="count processor time, not elapsed time: for one core of a machine with other work",
    )


def need_reference(parser: Parser) -> None:
    """Ends the script with the command that installs what is missing."""
    if not (find_spec("torch") and find_spec("tests")):
        parser.error('needs PyTorch and tests/: pip install -e ".[dev]"')
