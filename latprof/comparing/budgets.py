"""Budgets: limits of one statistic, such as ``end_to_end.p99<+5%`` or ``decode.p50<20ms``.

A budget is met if the whole interval of its statistic is within the limit, exceeded if the whole
interval is beyond it, and open otherwise.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latprof.comparing.differences import Difference, interval_of, one_side
from latprof.comparing.runs import MISSES, STATISTIC, THROUGHPUT, Key, Run, load_runs
from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.text import quoted
from latprof.units import format_ns, format_quantity, parse_duration

__all__ = [
    "EXCEEDED",
    "MET",
    "ONE_RUN",
    "OPEN",
    "Budget",
    "JudgedBudget",
    "judge_profiles",
    "judge_runs",
    "judged",
    "parse_budget",
    "parse_budgets",
]

MET, EXCEEDED, OPEN = "met", "exceeded", "open"

ONE_RUN = (
    "one run a side cannot tell the code from the machine: record several runs of each, in turn"
)
LACKING = "a run does not have this statistic"

_FORM = re.compile(
    rf"\s*(?:(?P<span>.+)\.)?(?P<name>{STATISTIC})\s*(?P<sign>[<>])\s*(?P<limit>.+?)\s*"
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


@dataclass(frozen=True, slots=True)
class JudgedBudget:
    """A budget and whether it is met: ``"met"``, ``"exceeded"`` or ``"open"``.

    `value`, `low` and `high` are the statistic (or its ratio, if the budget is relative) and its
    interval, None if they are unknown; `note` says why a budget is open for want of them.
    """

    budget: Budget
    state: str
    value: float | None
    low: float | None
    high: float | None
    note: str = ""

    def __str__(self) -> str:
        shown = "no value" if self.value is None else self.budget.shown(self.value)
        if self.low is not None and self.high is not None:
            shown += f" ({self.budget.shown(self.low)} to {self.budget.shown(self.high)})"
        note = f": {self.note}" if self.note else ""
        return f"{self.budget.text} is {self.state}, {shown}{note}"


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
    """Return the budget that a text describes; its span is end_to_end if the text names none.

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


def judged(budget: Budget, found: Difference | None, level: float) -> JudgedBudget:
    """Return a budget and whether it is met, at a `level` such as 0.05.

    `found` is None if a run lacks the statistic; then the budget is open.
    """
    if found is None:
        return JudgedBudget(budget, OPEN, None, None, None, LACKING)
    if not budget.relative:
        side = (found.head, found.logarithmic, found.head_error, found.head_df)
        return _on_head(budget, *side, level)
    if not found.logarithmic:
        note = "a relative budget needs values above 0"
        return JudgedBudget(budget, OPEN, None, None, None, note)
    return _decided(
        budget, math.exp(found.difference), found.interval(level), found.df, logarithmic=True
    )


def judge_runs(runs: Sequence[Run], budget: Budget, confidence: float = 0.95) -> JudgedBudget:
    """Judge a budget with a fixed limit on runs of one side.

    Raises
    ------
    ProfileError
        The budget is relative, or a run lacks its span.
    """
    if budget.relative:
        raise ProfileError(
            f"budget {quoted(budget.text)} must have a fixed limit, as there are no base runs; use "
            "one such as 'p99<50ms'"
        )
    spans = set.intersection(*(set(run.profile.spans) for run in runs))
    if budget.key[0] not in spans:
        names = ", ".join(name for name in runs[0].profile.spans if name in spans)
        raise ProfileError(
            f"budget {quoted(budget.text)} must name a span of all runs; use {names}"
        )
    estimates = [run.statistic(budget.key) for run in runs]
    known = [each for each in estimates if each is not None]
    if len(known) < len(runs):
        return JudgedBudget(budget, OPEN, None, None, None, LACKING)
    values = np.array([each.value for each in known])
    errors = np.array([each.log_error or 0.0 for each in known])
    logarithmic = bool((values > 0).all())
    scaled = np.log(values) if logarithmic else values
    error, df, _ = one_side(scaled, errors if logarithmic else np.zeros(len(values)))
    center = float(scaled.mean())
    value = math.exp(center) if logarithmic else center
    return _on_head(budget, value, logarithmic, error, df, 1 - confidence)


def judge_profiles(profiles: Sequence[Profile], texts: Sequence[str]) -> list[JudgedBudget]:
    """Judge budgets with fixed limits on the profiles of runs.

    Raises
    ------
    ProfileError
        No profile, one without frames, or a text that is not a budget with a fixed limit.
    """
    budgets, runs = parse_budgets(texts), load_runs(profiles, "the runs")
    return [judge_runs(runs, budget) for budget in budgets]


def _on_head(
    budget: Budget, value: float, logarithmic: bool, error: float, df: int, level: float
) -> JudgedBudget:
    center = math.log(value) if logarithmic else value
    interval = interval_of(center, error, df, level)
    return _decided(budget, value, interval, df, logarithmic=logarithmic)


def _decided(
    budget: Budget,
    value: float,
    interval: tuple[float, float] | None,
    df: int,
    *,
    logarithmic: bool,
) -> JudgedBudget:
    """Return a budget with its state, from the interval of its statistic, or of the logarithm."""
    if interval is None:
        return JudgedBudget(budget, OPEN, value, None, None, ONE_RUN)
    low, high = (math.exp(each) if logarithmic else each for each in interval)
    state = budget.judge(low, high) if df else OPEN
    return JudgedBudget(budget, state, value, low, high, "" if df else ONE_RUN)
