"""The command ``latprof``: record a demonstration, report, plot and export traces.

Exit status: 0 fine, 1 a check failed, 2 the input or the call is wrong (one line says what to do),
3 a gate could not decide.
"""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import latprof
from latprof.cli import compare, completion, convert, demo, formats, plot, queueing, report, top
from latprof.errors import LatprofError
from latprof.text import escape, shown_path, without_secrets

__all__ = ["COMMAND_MODULES", "main"]

# in the order of the help; `add` declares a module's commands
COMMAND_MODULES = (demo, report, queueing, compare, plot, convert, formats, top, completion)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class _Parser(argparse.ArgumentParser):
    """A parser with errors of one line, as all errors of the command are."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _did_you_mean(value, map(str, action.choices or ()))
            raise

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with an error about arguments that do not exist."""
        options = [option for action in self._actions for option in action.option_strings]
        shown = " ".join(map(shown_path, unknown))
        self.error(f"unrecognized arguments: {shown}{_did_you_mean(unknown[0], options)}")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            file.write(message)  # argparse would ignore a full disk
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def _did_you_mean(given: object, known: Iterable[str]) -> str:
    import difflib  # slow to import, and rarely needed

    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


class _Formatter(argparse.HelpFormatter):
    """Help with examples that stay on one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Example: "):
            return f"{indent}{text}"
        return super()._fill_text(text, width, indent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the encoding lacks
    try:
        try:
            options, unknown = _parser().parse_known_args(arguments)
            if unknown:
                options.command.refuse(unknown)
            status: int | None = options.run(options)
        finally:
            sys.stdout.flush()  # an error of the output is an error of the command
    except LatprofError as error:
        return _fail(str(error))
    except BrokenPipeError:
        _close_output()  # the reader has seen enough: latprof report x | head
        return 0
    except OSError as error:
        return _fail_of_system(error)
    except MemoryError:
        return _fail("there is not enough memory; give fewer files at once, or stop other programs")
    except KeyboardInterrupt:
        print("latprof: interrupted", file=sys.stderr)
        return 130
    return status or 0


def _fail(message: str) -> int:
    print(f"latprof: {_one_line(message)}", file=sys.stderr)
    return 2


def _fail_of_system(error: OSError) -> int:
    """Report an error of the system that no module has turned into a LatprofError."""
    where = "" if error.filename is None else f"{shown_path(str(error.filename))}: "
    remedy = "check the path and its permissions"
    if error.errno in _NO_SPACE:
        where, remedy = where or "output: ", "free disk space or choose another disk"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "close other files or raise the limit (ulimit -n)"
    if error.filename is None:
        _close_output()
    return _fail(f"{where}{error.strerror or error}; {remedy}")


def _close_output() -> None:
    """Discard the buffered output, so that the interpreter does not fail when it ends."""
    with contextlib.suppress(OSError):  # not a file, in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(message: str) -> str:
    text = escape(without_secrets(message))
    return text if len(text) <= 2_000 else f"{text[:1_000]}...{text[-900:]}"


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="latprof",
        description="Shows where the time of a pipeline goes.",
        epilog="Examples: latprof report mic.parquet; latprof report --help",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_Parser
    )

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        """Add the parser of a command."""
        made = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"Example: latprof {example}",
            formatter_class=_Formatter,
        )
        made.set_defaults(command=made)
        return made

    for module in COMMAND_MODULES:
        module.add(command)
    parser.set_defaults(parser=parser)  # `latprof completion` needs all of it
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # slow to import, and rarely needed

        core = "C" if latprof.__impl__ == "c" else "Python"
        print(f"latprof {version('latprof')} ({core} core)")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
