"""``latprof completion``: a script with which a shell completes commands, options and files.

shtab makes the script from the parsers. Nothing of latprof runs when Tab is pressed, so that the
shell answers at once.
"""

import argparse
from collections.abc import Iterator

from latprof.cli.common import NewCommand

__all__ = ["SHELLS", "add", "run"]

SHELLS = ("bash", "zsh", "fish")

_FOLDERS = ("out",)
_FILES = ("html", "output", "part", "pipeline", "ring", "source", "trace")


def add(command: NewCommand) -> None:
    """Declare the command."""
    completion = command(
        "completion",
        "print a script with which a shell completes commands, options and files",
        "completion bash > ~/.local/share/bash-completion/completions/latprof",
    )
    completion.description = (
        f"{completion.description} For zsh, write it to a file _latprof in a folder of $fpath; "
        "for fish, to ~/.config/fish/completions/latprof.fish."
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the script."""
    import shtab

    for action in _actions(options.parser):
        if action.dest in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(options.parser, options.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser, and those of the parsers of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
