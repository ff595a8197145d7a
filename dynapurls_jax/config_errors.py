"""Errors of `--config` and of its overrides, in words."""

import traceback
from pathlib import Path

from dynapurls_jax.config_names import LISTS, config_file


def parsing_fault(error: Exception, arguments: list[str]) -> str:
    """What is wrong with the arguments of a command.

    Args:
      error: raised while they were parsed.
      arguments: as typed.
    """
    if wrong := wrong_override(arguments):
        return str(wrong)
    for name in (arg.partition("=")[2] for arg in arguments if arg.lstrip("-")[:7] == "config="):
        try:
            return file_fault(error, config_file(name).partition(":")[0]) or str(error)
        except ValueError:  # there is no such file, as the error says
            break
    return str(error)


def wrong_override(arguments: list[str]) -> ValueError | None:
    """The error of the first `--config.key=value` with an unknown key or a value of another type.

    Returns:
      None if all of them fit.
    """
    from dynapurls_jax.config import check_override

    for argument in arguments:
        key, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and key.startswith("config.") and key not in LISTS:
            try:
                check_override(key.removeprefix("config."), value if equals else None)
            except ValueError as error:
                return error
    return None


def file_fault(error: BaseException, file: str) -> str:
    """An error in a configuration's file, with its line; empty if it comes from elsewhere."""
    if "Error whilst parsing config file" in str(error) and error.__context__:
        error = error.__context__  # ml_collections puts a traceback into the message
    if isinstance(error, AttributeError) and "no attribute 'get_config'" in str(error):
        return f"{file}: expected a function get_config(), found none"
    frames = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == Path(file).resolve()
    ]
    if isinstance(error, SyntaxError):
        frames, text = [error.lineno], error.msg
    else:
        text = message_of(error)
    if not frames:
        return ""
    first, *others = text.splitlines() or [""]
    first = first.partition(" Other fields present")[0]
    near = "".join(f" {line}" for line in others if line.startswith("Did you mean"))
    return f"{file}, line {frames[-1]}: {type(error).__name__}: {first}{near}"


def message_of(error: BaseException) -> str:
    """The message of an error, without the quotes that a `KeyError` puts around it."""
    first = error.args[0] if error.args else ""
    return message_of(first) if isinstance(first, BaseException) else str(first)
