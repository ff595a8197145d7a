"""The parser of commands and scripts that have no configuration."""

import argparse


def parser_of(docstring: str | None) -> argparse.ArgumentParser:
    """A parser whose help begins with a module's docstring, as it stands."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
