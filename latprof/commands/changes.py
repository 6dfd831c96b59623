"""Changes to stages as they are written in a call: ``--faster alsa=10%``."""

import argparse
import re

from latprof.errors import LatprofError
from latprof.units import escape

__all__ = ["add_changes", "changes_of"]


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add what is to be changed."""
    for flag, text in (("--faster", "less"), ("--slower", "more")):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="STAGE=10%|2ms",
            help=f"what-if: the stage takes so much {text}; may be given several times",
        )


def changes_of(options: argparse.Namespace) -> dict[str, float | str]:
    """Return a factor, or a duration with its sign, by stage.

    Raises
    ------
    LatprofError
        No STAGE=10% or STAGE=2ms, a stage that is given twice, more than all taken away.

    Examples
    --------
    >>> changes_of(argparse.Namespace(faster=["alsa=10%"], slower=["cgo=2ms"]))
    {'alsa': 0.9, 'cgo': '+2ms'}
    """
    found: dict[str, float | str] = {}
    for flag, sign in (("faster", -1), ("slower", 1)):
        for value in getattr(options, flag):
            stage, _, change = value.partition("=")
            what = f"--{flag} {escape(value)}"
            part = re.fullmatch(r"(\d+(?:\.\d+)?)%", change)
            if stage in found:
                raise LatprofError(f"{what}: the stage is changed already: give one change")
            if part is not None and stage:
                factor = (100 + sign * float(part[1])) / 100
                if factor < 0:
                    raise LatprofError(f"{what}: no more than 100% can be taken away")
                found[stage] = factor
            elif stage and re.match(r"\d", change):
                found[stage] = f"{'-' if sign < 0 else '+'}{change}"
            else:
                raise LatprofError(f"{what}: write STAGE=10% or STAGE=2ms")
    return found
