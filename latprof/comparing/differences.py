"""The difference of a statistic between two sets of runs: tests, intervals and verdicts.

A difference is a ratio: its logarithm is averaged over pairs of runs, or over the runs of each
side, and Student's t gives the interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latprof.comparing.planning import pairs_needed
from latprof.comparing.runs import HIGHER_IS_BETTER, MISSES, THROUGHPUT, Key, Run
from latprof.comparing.student import (
    holm,
    sign_flip_p,
    smallest_sign_flip_p,
    t_p_value,
    t_quantile,
)
from latprof.table import Kind

__all__ = [
    "BETTER",
    "ONE",
    "SAME",
    "UNCLEAR",
    "WORSE",
    "Difference",
    "Row",
    "adjusted",
    "interval_of",
    "one_side",
]

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "unclear"

ONE = "one run a side"
CORRECTED = "no longer significant after the correction for the number of rows"


@dataclass(frozen=True, slots=True)
class Row:
    """One statistic of one span on both sides.

    Attributes
    ----------
    span, statistic
        For example ``"decode"``, ``"p99"``.
    base, head
        The geometric mean over the runs of each side, in ns, frames/s, or a share of frames; if a
        value is 0, the arithmetic mean.
    difference, ratio
        ``head - base`` and ``head / base``. The ratio is None if a run has the value 0.
    low, high
        The interval of `ratio`, or of `difference` if `ratio` is None. None without an interval.
    verdict
        ``"worse"``, ``"better"``, ``"same"`` or ``"unclear"``.
    pairs_missing
        How many more pairs (or runs a side) find a change of `detects` with a probability of 90 %,
        if the row is unclear; 0 for other rows, None if it cannot be estimated.
    p_value
        Of the test that the sides are equal, adjusted for the number of rows unless the row has a
        budget or is the headline. None for one run a side, or if all values are equal.
    note
        Why a row is unclear although its interval excludes equal sides, or that there is one run a
        side.
    detects
        The change that `pairs_missing` is about, as a part: twice the margin, or the margin; 0 if
        there is none.
    """

    span: str
    statistic: str
    base: float
    head: float
    difference: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    pairs_missing: int | None
    p_value: float | None
    note: str = ""
    detects: float = 0.0

    @property
    def key(self) -> Key:
        """Span and statistic."""
        return self.span, self.statistic

    @property
    def kind(self) -> Kind:
        """Kind of the values in tables."""
        rates: dict[str, Kind] = {THROUGHPUT: "quantity", MISSES: "share"}
        return rates.get(self.statistic, "time")


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a statistic between the sides, on a scale on which it is additive.

    The scale is the logarithm: `difference` is that of the ratio. If a run has a value of 0, the
    scale is the value itself. `difference`, `error` and `head_error` are on the scale.
    """

    key: Key
    base: float
    head: float
    logarithmic: bool
    difference: float
    error: float  # its standard error
    df: int  # degrees of freedom; 0 if the runs allow no interval
    runs: int  # pairs, or the smaller number of runs a side
    p_value: float | None  # of the t test; None for one run a side, or if all values are equal
    flip: float | None  # p value of the sign-flip test of pairs
    head_error: float  # standard error of the mean of head alone
    head_df: int  # and its degrees of freedom

    @classmethod
    def of(
        cls, key: Key, base: Sequence[Run], head: Sequence[Run], *, paired: bool
    ) -> "Difference | None":
        """Return the difference of a statistic, or None if a run does not have it."""
        sides = [[run.statistic(key) for run in side] for side in (base, head)]
        if any(each is None for side in sides for each in side):
            return None
        values = [np.array([each.value for each in side if each]) for side in sides]
        logarithmic = all((side > 0).all() for side in values)
        errors = [
            np.array([each.log_error or 0.0 for each in side if each]) * (1.0 if logarithmic else 0)
            for side in sides
        ]
        scaled = [np.log(side) if logarithmic else side for side in values]
        before, after = (float(side.mean()) for side in scaled)
        error, df, flip = (_paired if paired else _unpaired)(*scaled, *errors)
        difference = after - before
        p_value: float | None = None
        if df and error > 0:
            p_value = float(t_p_value(difference / error, df))
        elif df and difference:
            p_value = 0.0
        head_error, head_df, _ = one_side(scaled[1], errors[1])
        return cls(
            key,
            math.exp(before) if logarithmic else before,
            math.exp(after) if logarithmic else after,
            logarithmic,
            difference,
            error,
            df,
            min(len(base), len(head)),
            p_value,
            flip,
            head_error,
            head_df,
        )

    def interval(self, level: float) -> tuple[float, float] | None:
        """Return the interval of `difference`, or None if the runs allow none."""
        return interval_of(self.difference, self.error, self.df, level)

    def row(self, level: float, p_value: float | None, margin: float) -> Row:
        """Return the row with its verdict."""
        interval = self.interval(level)
        within = math.log1p(margin) if self.logarithmic else margin * abs(self.base)
        verdict, note = self._verdict(interval, level, p_value, within)
        missing: int | None = 0
        size = 0.0
        if verdict == UNCLEAR:
            missing, size = self._pairs_missing(level, margin)
        low, high = interval or (None, None)
        if self.logarithmic:
            low, high = (None if each is None else math.exp(each) for each in (low, high))
        return Row(
            *self.key,
            self.base,
            self.head,
            self.head - self.base,
            self.head / self.base if self.logarithmic else None,
            low,
            high,
            verdict,
            missing,
            p_value,
            note,
            size,
        )

    def _pairs_missing(self, level: float, margin: float) -> tuple[int | None, float]:
        """Return how many more pairs find a change of twice the margin, and that change.

        If there are enough pairs for that change, it is one of the margin; if for that too, None
        and 0. The observed difference is not used: with few pairs it is mostly noise (Hoenig and
        Heisey 2001).
        """
        if not self.df or self.error <= 0:
            return None, 0.0
        spread = self.error * math.sqrt(self.runs)
        for size in (2 * margin, margin):
            effect = math.log1p(size) if self.logarithmic else size * abs(self.base)
            needed = pairs_needed(effect / spread, level)
            if needed is not None and needed > self.runs:
                return needed - self.runs, size
        return None, 0.0

    def _verdict(
        self,
        interval: tuple[float, float] | None,
        level: float,
        p_value: float | None,
        within: float,
    ) -> tuple[str, str]:
        """Return the verdict, and why it is unclear although the interval excludes 0."""
        if interval is None or not self.df:
            return UNCLEAR, ONE
        low, high = interval
        if low == high == 0 or (-within < low and high < within):
            return SAME, ""
        if low <= 0 <= high:
            return UNCLEAR, ""
        if p_value is None or self.p_value is None or p_value > level:
            return UNCLEAR, CORRECTED
        # the level for this row that the correction for many rows leaves
        corrected = level * self.p_value / p_value if p_value else level
        if self.flip is not None and smallest_sign_flip_p(self.runs) < corrected < self.flip:
            return UNCLEAR, "the signs of the differences vary"
        higher = self.difference > 0
        return (BETTER if higher == (self.key[1] in HIGHER_IS_BETTER) else WORSE), ""


def _paired(
    base: Any, head: Any, base_errors: Any, head_errors: Any
) -> tuple[float, int, float | None]:
    """Return the standard error of the mean difference, its degrees of freedom, a sign-flip p."""
    differences = head - base
    n = len(differences)
    within = math.sqrt(float((base_errors**2 + head_errors**2).sum())) / n
    if n < 2:
        return within, 0, None
    error = max(float(differences.std(ddof=1)) / math.sqrt(n), within)
    return error, n - 1, sign_flip_p(differences)


def _unpaired(
    base: Any, head: Any, base_errors: Any, head_errors: Any
) -> tuple[float, int, float | None]:
    """Return the same as `_paired` by Welch's method for unpaired runs; the sign-flip p is None."""
    (first, n, _), (second, m, _) = one_side(base, base_errors), one_side(head, head_errors)
    error = math.hypot(first, second)
    if not n or not m:
        return error, 0, None
    if error == 0:
        return 0.0, n + m, None
    df = error**4 / (first**4 / n + second**4 / m)
    return error, max(int(df), 1), None


def one_side(values: Any, errors: Any) -> tuple[float, int, float | None]:
    """Return the standard error of the mean of one side, its degrees of freedom, and None.

    The degrees of freedom are 0 for one run; then the error is the one from inside the run.
    """
    n = len(values)
    within = math.sqrt(float((errors**2).sum())) / n
    if n < 2:
        return within, 0, None
    return max(float(values.std(ddof=1)) / math.sqrt(n), within), n - 1, None


def interval_of(center: float, error: float, df: int, level: float) -> tuple[float, float] | None:
    """Return the interval around an estimate, or None if the runs allow none."""
    if not df and not error:
        return None
    # one run a side: the runs' own error, as of a large sample
    reach = (t_quantile(level, df) if df else t_quantile(level, 10_000)) * error
    return center - reach, center + reach


def adjusted(found: Sequence[Difference], plain: set[Key]) -> list[float | None]:
    """Return the p value of each difference; those without a budget are adjusted together."""
    values = [each.p_value for each in found]
    others = [i for i, each in enumerate(found) if each.key not in plain and values[i] is not None]
    if others:
        for i, p in zip(others, holm(np.array([values[k] for k in others])), strict=True):
            values[i] = float(p)
    return values
