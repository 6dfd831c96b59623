"""Changes to stages as options of a command: ``--faster alsa=10%``."""

import argparse
import re
from collections.abc import Sequence

from latprof.errors import TraceError
from latprof.text import escape, quoted
from latprof.units import parse_duration

__all__ = ["add_changes", "changes_of", "pairs"]


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is changed."""
    for flag, text in (("--faster", "less"), ("--slower", "more")):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="STAGE=10%|2ms",
            help=f"how much {text} time a stage takes; may be given several times",
        )


def changes_of(options: argparse.Namespace) -> dict[str, float | str]:
    """Return a factor, or a duration with its sign, by stage.

    Raises
    ------
    TraceError
        Not STAGE=10% or STAGE=2ms, a stage that is given twice, or more than 100 % less.

    Examples
    --------
    >>> changes_of(argparse.Namespace(faster=["alsa=10%"], slower=["cgo=2ms"]))
    {'alsa': 0.9, 'cgo': '+2ms'}
    """
    changes: dict[str, float | str] = {}
    for flag, sign in (("faster", -1), ("slower", 1)):
        for name, value in pairs(getattr(options, flag), flag):
            if name in changes:
                raise TraceError(f"--{flag} must not change {quoted(name)} again; give one change")
            changes[name] = _change(value, sign, f"--{flag} {escape(name)}")
    return changes


def pairs(values: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """Return the names and values of NAME=VALUE.

    Raises
    ------
    TraceError
        Another form, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if not name or not rest:
            raise TraceError(f"--{flag} must be NAME=VALUE, got {quoted(value)}")
        if name in found:
            raise TraceError(f"--{flag} must not name {quoted(name)} twice; give one value")
        found[name] = rest
    return list(found.items())


def _change(value: str, sign: int, what: str) -> float | str:
    """Return a factor or a fixed change."""
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
    if percent is not None:
        part = float(percent[1]) / 100
        if sign < 0 and part > 1:
            raise TraceError(f"{what} must be at most 100%, got {quoted(value)}")
        return 1 + sign * part
    try:
        # a number without a unit could be either
        known = re.match(r"\s*\d", value) and not re.fullmatch(r"\s*[\d.]+\s*", value)
        if known and parse_duration(value) is not None:
            return f"{'-' if sign < 0 else '+'}{value.strip()}"
    except ValueError:
        pass
    raise TraceError(f"{what} must be a part (10%) or a duration (2ms), got {quoted(value)}")
