"""Budgets: limits of one statistic, such as ``end_to_end.p99<+5%`` or ``decode.p50<20ms``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latprof.comparing.runs import MISSES, THROUGHPUT, Key
from latprof.errors import ProfileError
from latprof.text import quoted
from latprof.units import format_ns, format_quantity, parse_duration

__all__ = ["EXCEEDED", "MET", "OPEN", "Budget", "parse_budget", "parse_budgets"]

MET, EXCEEDED, OPEN = "met", "exceeded", "open"

_STATISTIC = rf"mean|{THROUGHPUT}|{MISSES}|p\d+(?:\.\d+)?"
_FORM = re.compile(
    rf"\s*(?:(?P<span>.+)\.)?(?P<name>{_STATISTIC})\s*(?P<sign>[<>])\s*(?P<limit>.+?)\s*"
)
_PERCENT = re.compile(r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*%")
_RULE = (
    'SPAN.STATISTIC<LIMIT, such as "end_to_end.p99<+5%" or "decode.p50<20ms"; statistics are mean, '
    f"percentiles such as p99, {THROUGHPUT} and {MISSES}"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of a statistic.

    Attributes
    ----------
    text
        As it was given.
    key
        Span and statistic.
    limit
        A ratio of head to base if `relative`; otherwise ns, frames/s, or a share of frames.
    relative
        Whether the limit is a change against base (``+5%``).
    above
        Whether the statistic must be above the limit, not below.
    """

    text: str
    key: Key
    limit: float
    relative: bool
    above: bool

    def judge(self, low: float, high: float) -> str:
        """Return whether an interval of the statistic (or of its ratio) meets the budget."""
        if self.above:
            low, high, limit = -high, -low, -self.limit
        else:
            limit = self.limit
        if high < limit:
            return MET
        return EXCEEDED if low > limit else OPEN

    def shown(self, value: float) -> str:
        """Return a value as it is compared with the limit."""
        if self.relative:
            return f"{value - 1:+.1%}"
        if self.key[1] == MISSES:
            return f"{value:.2%}"
        return f"{format_quantity(value)}/s" if self.key[1] == THROUGHPUT else format_ns(value)


def parse_budgets(texts: Sequence[str]) -> list[Budget]:
    """Return budgets of several texts.

    Raises
    ------
    ProfileError
        One is not a budget, or a text is given where a list is needed.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ProfileError(f"budgets must be a list of texts {_RULE}, got {quoted(texts)}")
    return [parse_budget(text) for text in texts]


def parse_budget(text: str) -> Budget:
    """Return the budget that a text means; without a span it is about end_to_end.

    Raises
    ------
    ProfileError
        The text is not a budget.

    Examples
    --------
    >>> parse_budget("p99<50ms").key, parse_budget("p99<50ms").limit
    (('end_to_end', 'p99'), 50000000.0)
    >>> parse_budget("decode.mean < +5%").limit, parse_budget("throughput>-10%").limit
    (1.05, 0.9)
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ProfileError(f"a budget must be {_RULE}, got {quoted(text)}")
    name = found["name"]
    key = (found["span"] or "end_to_end", name)
    if name.startswith("p") and float(name[1:]) > 100:
        raise ProfileError(f"a percentile must be at most 100, got {quoted(text)}")
    above = found["sign"] == ">"
    if above != (name == THROUGHPUT):
        rule = ">" if name == THROUGHPUT else "<"
        raise ProfileError(f"a budget of {name} must be written with {rule}, got {quoted(text)}")
    percent = _PERCENT.fullmatch(found["limit"])
    if percent is not None and percent["sign"]:
        change = float(percent["sign"] + percent["number"]) / 100
        if change <= -1:
            raise ProfileError(f"a budget must be above -100%, got {quoted(text)}")
        return Budget(text, key, 1 + change, True, above)
    if percent is not None and name == MISSES:
        return Budget(text, key, float(percent["number"]) / 100, False, above)
    if percent is not None:
        raise ProfileError(
            f"a relative budget must have a sign, such as +{percent['number']}%, got {quoted(text)}"
        )
    if name in (THROUGHPUT, MISSES):
        return Budget(text, key, _number(found["limit"], text), False, above)
    try:
        limit = float(parse_duration(found["limit"], name="the limit of a budget"))
    except ValueError as error:
        raise ProfileError(str(error)) from None
    return Budget(text, key, limit, False, above)


def _number(limit: str, text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", limit):
        raise ProfileError(f"the limit must be a number or a percentage, got {quoted(text)}")
    return float(limit)
