"""The command ``latprof``: record a demonstration, report, plot and export traces.

Exit status: 0 fine, 2 the input or the call is wrong (one line says what and how to mend it).
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from latprof.cli.commands import COMMANDS
from latprof.errors import LatprofError
from latprof.text import escape

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of the command."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _did_you_mean(value, map(str, action.choices or ()))
            raise

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with the arguments that there are not."""
        options = [option for action in self._actions for option in action.option_strings]
        self.error(
            f"unrecognized arguments: {' '.join(unknown)}{_did_you_mean(unknown[0], options)}"
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {escape(message)}; see {self.prog} --help\n")


def _did_you_mean(given: object, known: Iterable[str]) -> str:
    import difflib  # slow to import, and rarely needed

    alike = difflib.get_close_matches(str(given), known, n=1, cutoff=0.75)
    return f"; did you mean {alike[0]}?" if alike else ""


class _Formatter(argparse.HelpFormatter):
    """Help whose examples stay on one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Example: "):
            return f"{indent}{text}"
        return super()._fill_text(text, width, indent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.command.refuse(unknown)
    try:
        options.run(options)
        sys.stdout.flush()
    except LatprofError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # the reader has seen enough (`latprof report x | head`); nothing more is to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{escape(str(error.filename))}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}: check the path and its permissions")
    except KeyboardInterrupt:
        print("latprof: interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    # names in it are escaped already; what has slipped through does no harm either
    print(f"latprof: {escape(message)}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="latprof",
        description="Tells where the time of a pipeline goes.",
        epilog="Examples: latprof report mic.parquet; latprof report --help",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"Example: latprof {example}",
            formatter_class=_Formatter,
        )
        made.set_defaults(command=made)
        return made

    for module in COMMANDS:
        module.add(command)
    parser.set_defaults(parser=parser)  # `latprof completion` looks at all of it
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # slow to import, and rarely asked for

        print(f"latprof {version('latprof')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
