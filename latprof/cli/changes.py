"""Changes to stages as they are written in a call: ``--faster alsa=10%``."""

import argparse
import re
from collections.abc import Sequence

from latprof.errors import TraceError
from latprof.text import escape
from latprof.units import parse_duration

__all__ = ["add_changes", "changes_of", "pairs"]


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add what is to be changed."""
    for flag, text in (("--faster", "less"), ("--slower", "more")):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="STAGE=10%|2ms",
            help=f"the stage takes so much {text}; may be given several times",
        )


def changes_of(options: argparse.Namespace) -> dict[str, float | str]:
    """Return a factor, or a duration with its sign, by stage.

    Raises
    ------
    TraceError
        No STAGE=10% or STAGE=2ms, a stage that is given twice, more than all taken away.

    Examples
    --------
    >>> changes_of(argparse.Namespace(faster=["alsa=10%"], slower=["cgo=2ms"]))
    {'alsa': 0.9, 'cgo': '+2ms'}
    """
    changes: dict[str, float | str] = {}
    for flag, sign in (("faster", -1), ("slower", 1)):
        for name, value in pairs(getattr(options, flag), flag):
            if name in changes:
                raise TraceError(f"--{flag} {escape(name)}: is changed already: give one change")
            changes[name] = _change(value, sign, f"--{flag} {escape(name)}")
    return changes


def pairs(values: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """Return names and values of NAME=VALUE.

    Raises
    ------
    TraceError
        No such, or a name that is given twice.
    """
    found: list[tuple[str, str]] = []
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name or not rest:
            raise TraceError(f"--{flag} {escape(value)!r}: write NAME=VALUE")
        if name in dict(found):
            raise TraceError(f"--{flag} {escape(name)!r} is given twice: give one value")
        found.append((name, rest))
    return found


def _change(value: str, sign: int, what: str) -> float | str:
    """Return a factor or a fixed change."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", value)
    if match is None:
        try:
            ns = parse_duration(value) if re.match(r"\s*\d", value) else None
        except ValueError:
            ns = None
        if ns is None:
            raise TraceError(f"{what}={escape(value)}: write a part, 10%, or a duration, 2ms")
        return f"{'-' if sign < 0 else '+'}{value.strip()}"
    if not match[2]:
        number = match[1]
        raise TraceError(f"{what}={escape(value)}: write {number}% or {number}ms")
    part = float(match[1]) / 100
    if sign < 0 and part > 1:
        raise TraceError(f"{what}={escape(value)}: no more than 100% can be taken away")
    return 1 + sign * part
