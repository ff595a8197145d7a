"""`dynapurls`: the commands of the project; each is a module, as of `python -m`."""

import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import dynapurls_jax
from data_pipelines.errors import unknown


class Command(NamedTuple):
    """A command: its module, its purpose and an example of its arguments."""

    module: str
    purpose: str
    example: str


COMMANDS = {
    "train": Command("train", "Trains a zero-shot model on a dataset.", "--config=demo"),
    "predict": Command(
        "predict",
        "Recognises actions in clips, from sentences.",
        '--clips=my_clip.bvh --actions="wave,sit down"',
    ),
    "stream": Command(
        "stream_eval",
        "Evaluates a trained model on unseen classes, or runs it on a live stream.",
        "--workdir=runs/demo",
    ),
    "describe": Command(
        "text.describe",
        "Writes descriptions of actions with a language model.",
        '--classes "wave" "kick a ball" --out=mine.json --dry_run',
    ),
    "reproduce": Command("reproduce", "Makes the paper's tables.", "--quick"),
    "export": Command(
        "export",
        "Writes clips and features in other formats, and models in one file.",
        "clips --dataset=demo --format=pyskl --out=demo.pkl",
    ),
}


def overview() -> str:
    """All commands, a line and an example for each."""
    lines = ["Zero-shot skeleton action recognition with test-time refinement.", ""]
    for name, command in COMMANDS.items():
        lines += [
            f"  {name:10} {command.purpose}",
            f"             dynapurls {name} {command.example}",
        ]
    return "\n".join([*lines, "", "`dynapurls COMMAND --help` shows the options of a command."])


def main() -> None:
    """Runs the command that the first argument names, as `python -m` runs its module."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(overview())
    elif name == "--version":
        print(f"dynapurls {dynapurls_jax.__version__}")
    elif name not in COMMANDS:
        sys.exit(_refused(name))
    else:
        sys.argv = [f"dynapurls {name}", *arguments]
        sys.path.insert(0, str(Path.cwd()))  # for parts of the user's own, "my_module:MY_ENTRY"
        module = f"dynapurls_jax.{COMMANDS[name].module}"
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _refused(name: str) -> int:
    print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
