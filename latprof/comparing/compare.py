"""Compare two sets of runs: what is worse, better, the same, or unclear.

The unit of evidence is the run, not the frame: frames of one run share the state of the machine,
so that an interval from inside a run says nothing of the difference between two runs of the same
code. Runs that were taken in turn are compared in pairs, which removes what both runs of a pair
share. A difference is a ratio: its logarithm is averaged over pairs, and Student's t gives the
interval.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Floats
from latprof.comparing.budgets import OPEN, Budget, parse_budgets
from latprof.comparing.changes import Mix, largest_part, mix_of, stage_contributions
from latprof.comparing.planning import pairs_needed
from latprof.comparing.runs import (
    HIGHER_IS_BETTER,
    MISSES,
    THROUGHPUT,
    Key,
    Run,
    RunLike,
    condition_notes,
    load_runs,
)
from latprof.comparing.services import ServiceChanges, service_changes
from latprof.comparing.student import (
    holm,
    sign_flip_p,
    smallest_sign_flip_p,
    t_p_value,
    t_quantile,
)
from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.profile.span import check_integer, check_percentile
from latprof.table import Cell, Column, Kind, Section, Table, html, markdown, text, written
from latprof.text import counted, quoted
from latprof.units import format_ns, format_quantity

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BETTER",
    "SAME",
    "UNCLEAR",
    "WORSE",
    "Comparison",
    "JudgedBudget",
    "RatioCurve",
    "Row",
    "compare",
    "compare_runs",
    "judge_profiles",
    "judge_runs",
]

WORSE, BETTER, SAME, UNCLEAR = "worse", "better", "same", "unclear"

ONE_RUN = (
    "one run a side cannot tell the code from the machine: record several runs of each, in turn"
)
ONE = "one run a side"
LACKING = "a run does not have this statistic"
CORRECTED = "not after the correction for many rows"

_SIGNS = {WORSE: "critical", UNCLEAR: "warning"}  # levels of cells


@dataclass(frozen=True, slots=True)
class Row:
    """One statistic of one span on both sides.

    Attributes
    ----------
    span, statistic
        For example ``"decode"``, ``"p99"``.
    base, head
        The value of each side: the geometric mean over its runs, in ns, frames/s, or a share of
        frames; the mean if a value is 0.
    difference, ratio
        ``head - base`` and ``head / base``; None if `base` is 0.
    low, high
        The interval of `ratio`, or of `difference` without a ratio. None without an interval.
    verdict
        ``"worse"``, ``"better"``, ``"same"`` or ``"unclear"``.
    pairs_missing
        How many more pairs (or runs a side) find a change of `detects` with a probability of 90 %,
        if the row is unclear; 0 for other rows, None if it cannot be estimated.
    p_value
        Of the test that the sides are equal, adjusted for the number of rows unless the row has a
        budget.
    note
        Why a row is unclear although its interval excludes 0.
    detects
        The change that `pairs_missing` is about, as a part: twice the margin, or the margin.
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
class JudgedBudget:
    """A budget and whether it is met: ``"met"``, ``"exceeded"`` or ``"open"``."""

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


@dataclass(frozen=True, slots=True, eq=False)
class RatioCurve:
    """Ratios of head to base by percentile `q` (k,), ascending, with their intervals.

    `low` and `high` (k,) are NaN without an interval.
    """

    q: Floats
    ratio: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two sets of runs against each other; `compare` returns it.

    Attributes
    ----------
    base, head
        The runs.
    rows
        A `Row` for each span and statistic, in order of the pipeline.
    budgets
        The budgets and whether they are met.
    conditions
        Sentences on conditions that differ between the sides, such as the load.
    paired
        Whether the runs were compared in pairs.
    confidence, margin
        As given.
    headline
        Span and statistic that the sentence and the verdict are about.
    budget_confidence
        Confidence of the intervals of statistics with a budget; above `confidence` if the budgets
        are judged several times while runs are added.
    """

    base: tuple[Run, ...]
    head: tuple[Run, ...]
    rows: tuple[Row, ...]
    budgets: tuple[JudgedBudget, ...]
    conditions: tuple[str, ...]
    paired: bool
    confidence: float
    margin: float
    headline: Key
    budget_confidence: float

    def __repr__(self) -> str:
        return f"<Comparison of {self._counts}: {self.verdict}>"

    def __str__(self) -> str:
        return text(self.sections())

    def _repr_html_(self) -> str:
        return html(self.sections())

    @property
    def _counts(self) -> str:
        if self.paired:
            return counted(len(self.base), "pair")
        return f"{len(self.base)} and {counted(len(self.head), 'run')}"

    def __getitem__(self, key: Key) -> Row:
        """Return the row of a span and a statistic, ``comparison["decode", "p99"]``.

        Raises
        ------
        ProfileError
            The runs do not have that span or statistic.
        """
        for row in self.rows:
            if row.key == key:
                return row
        raise ProfileError(
            f"a comparison has rows by (span, statistic), such as ('end_to_end', 'p99'), got "
            f"{quoted(key)}; see table()"
        )

    @property
    def verdict(self) -> str:
        """The verdict of the headline: of the first budget's statistic, or p99 of end_to_end."""
        return self[self.headline].verdict

    @property
    def sentence(self) -> str:
        """What the headline says, in one sentence."""
        row = self[self.headline]
        share = largest_part(self, row) if row.verdict in (WORSE, BETTER) else ""
        return _sentence(row, self) + share

    def table(self) -> "pd.DataFrame":
        """Return a DataFrame indexed by span and statistic; times in ns.

        Its columns are base, head, difference, ratio, low, high, verdict, pairs_missing.
        """
        import pandas as pd

        index = pd.MultiIndex.from_tuples(
            [row.key for row in self.rows], names=["span", "statistic"]
        )
        numbers = ("base", "head", "difference", "ratio", "low", "high")
        columns: dict[str, Any] = {
            name: pd.array([getattr(row, name) for row in self.rows], dtype="float64")
            for name in numbers
        }
        columns["verdict"] = [row.verdict for row in self.rows]
        missing = [row.pairs_missing for row in self.rows]
        columns["pairs_missing"] = pd.array(missing, dtype="Int64")
        return pd.DataFrame(columns, index=index)

    def curve(self, span: str = "end_to_end", *, per_decade: int = 6) -> "RatioCurve":
        """Return the ratio of head to base by percentile, with its interval.

        Parameters
        ----------
        span
            Name of a span that all runs have.
        per_decade
            Number of percentiles in each tenth of the rest: from 90 to 99, from 99 to 99.9.

        Raises
        ------
        ProfileError
            A run has no such span, or `per_decade` is not an integer from 1 to 100.
        """
        per_decade = check_integer("per_decade", per_decade, 1, 100)
        runs = (*self.base, *self.head)
        fewest = min(run.profile[span].count for run in runs)
        steps = int(math.log10(max(fewest / 10, 1)) * per_decade)
        rows = []
        for k in range(1, steps + 1):  # the fastest frame alone says little
            q = round(100 - 100 * 10 ** (-k / per_decade), 6)
            key = (span, f"p{q:.8g}")
            found = _Difference.of(key, self.base, self.head, paired=self.paired)
            if found is None or not found.logarithmic:
                continue
            low, high = found.interval(1 - self.confidence) or (math.nan, math.nan)
            rows.append((q, *(math.exp(each) for each in (found.difference, low, high))))
        columns = np.array(rows, np.float64).reshape(len(rows), 4).T
        return RatioCurve(*columns)

    def contributions(self, statistic: str = "mean") -> dict[str, float]:
        """Return how much of the difference of end_to_end each stage and ``other`` makes, ns.

        Parameters
        ----------
        statistic
            ``"mean"``, or a percentile such as ``"p99"``: the frames around it are compared.

        Raises
        ------
        ProfileError
            The pipelines of the runs differ, or the statistic is unknown.
        """
        return stage_contributions(self, statistic)

    def service_changes(self) -> ServiceChanges:
        """Return what each station's services add to the difference, waiting included.

        The services of head are put into a replay of base. Traces of all frames are needed, and a
        pipeline with stations in a row; up to 20,000 frames of each run are replayed.

        Raises
        ------
        ProfileError
            A run is only a profile, or its stations are not in a row.
        TraceError
            Frames are sampled or lost.
        """
        return service_changes(self.base, self.head)

    def mix(self) -> Mix | None:
        """Return what the change of the mix of groups makes of the difference of the mean.

        The runs must be profiles by group (``analyze(..., by="source")``); otherwise None.
        """
        return mix_of(self.base, self.head)

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence, conditions that differ, budgets, the rows."""
        lines = [*(f"Conditions differ: {note}" for note in self.conditions)]
        lines += [str(budget) for budget in self.budgets]
        mix = self.mix()
        lines += [] if mix is None else [mix.sentence]
        level = f"{_percent(self.confidence)} intervals"
        if self.budget_confidence != self.confidence:
            level += f" ({_percent(self.budget_confidence)} for budgets)"
        unit = "pairs" if self.paired else "runs"
        lines += [f"{self._counts}; {level} from the variation between {unit}"]
        columns = (
            Column("span", "span"),
            Column("statistic"),
            Column("base"),
            Column("head"),
            Column("change"),
            Column("interval"),
            Column("verdict"),
        )
        table = Table(columns, [_shown_row(row) for row in self.rows])
        first = [f"Conditions differ: {note}" for note in self.conditions]
        title = first[0] if first else self.sentence
        rest = ([self.sentence] if first else []) + first[1:]
        return [
            Section(title, tuple([*rest, *lines[len(self.conditions) :]])),
            Section("", table=table, key="comparison"),
        ]

    def markdown(self) -> str:
        """Return the comparison as Markdown, for a pull request."""
        return markdown(self.sections())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        names = [each for each in Row.__slots__]
        return {
            "format": 1,
            "sentence": self.sentence,
            "verdict": self.verdict,
            "headline": list(self.headline),
            "conditions": list(self.conditions),
            "paired": self.paired,
            "confidence": self.confidence,
            "margin": self.margin,
            "base": [run.name for run in self.base],
            "head": [run.name for run in self.head],
            "rows": [{name: getattr(row, name) for name in names} for row in self.rows],
            "budgets": [
                {
                    "budget": each.budget.text,
                    "state": each.state,
                    "value": each.value,
                    "low": each.low,
                    "high": each.high,
                    "note": each.note or None,
                }
                for each in self.budgets
            ],
        }


def compare(
    base: "RunLike | Iterable[RunLike]",
    head: "RunLike | Iterable[RunLike]",
    *,
    paired: bool = True,
    budgets: Sequence[str] = ("end_to_end.p99<+5%",),
    percentiles: Sequence[float] = (50, 90, 99),
    margin: float = 0.05,
    confidence: float = 0.95,
    by: str | None = None,
) -> Comparison:
    """Compare runs before a change with runs after it.

    Parameters
    ----------
    base, head
        The runs of each side: a trace, a profile, a path of either, or a list of these.
    paired
        Whether run i of `base` and run i of `head` were taken one after the other. Pairs are the
        best evidence: what the machine does to both runs of a pair cancels out.
    budgets
        Limits such as ``"end_to_end.p99<+5%"`` or ``"decode.p50<20ms"``. Their statistics are
        tested as they are; the first one is the headline. All other rows are tested together
        (Holm's correction).
    percentiles
        The percentiles to compare, 0 to 100.
    margin
        Both sides are the same if the whole interval is within this part.
    confidence
        Of the intervals, above 0 and below 1.
    by
        ``"source"``, ``"outcome"`` or a tag: also say what the change of its mix makes.

    Returns
    -------
    Comparison
        Its sentence, its verdict, its table.

    Raises
    ------
    ProfileError
        No run, a run without frames, a different number of runs a side with `paired`, or another
        argument is invalid.
    TraceError
        A file is missing or is not a trace.

    Notes
    -----
    Paired runs: Student's t interval of the mean logarithm of the ratio. Its standard error is at
    least that of the runs' own intervals. A verdict also needs a sign-flip test (Fisher 1935) to
    agree, once there are enough pairs for it. Unpaired runs: Welch's interval, with the run as the
    unit. One run a side gives differences with the runs' own intervals, and no verdict.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace, compare
    >>> def run(seed, slower):
    ...     start = np.arange(500) * 1_000_000
    ...     took = np.random.default_rng(seed).integers(90_000, 110_000, 500) * slower
    ...     marks = {"start": start, "work": start, "end": start + took.astype(np.int64)}
    ...     return Trace(Pipeline.chain("p", "work"), frame_id=np.arange(500), marks=marks)
    >>> result = compare([run(i, 1.0) for i in range(6)], [run(i + 6, 1.2) for i in range(6)])
    >>> result.verdict, round(result["end_to_end", "mean"].ratio, 2)
    ('worse', 1.2)
    """
    return compare_runs(
        load_runs(base, "base", by=by),
        load_runs(head, "head", by=by),
        paired=paired,
        budgets=parse_budgets(budgets),
        percentiles=percentiles,
        margin=margin,
        confidence=confidence,
    )


def compare_runs(
    base: Sequence[Run],
    head: Sequence[Run],
    *,
    paired: bool = True,
    budgets: Sequence[Budget] = (),
    percentiles: Sequence[float] = (50, 90, 99),
    margin: float = 0.05,
    confidence: float = 0.95,
    budget_level: float | None = None,
) -> Comparison:
    """Compare loaded runs: see `compare`.

    `budget_level` is the level of the tests of budgets, instead of ``1 - confidence``; a rule that
    looks several times needs a smaller one.
    """
    for name, value in (("margin", margin), ("confidence", confidence)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ProfileError(f"{name} must be a number between 0 and 1, got {quoted(value)}")
    if isinstance(percentiles, str) or not isinstance(percentiles, Sequence | np.ndarray):
        raise ProfileError(f"percentiles must be a list of numbers, got {quoted(percentiles)}")
    if paired and len(base) != len(head):
        raise ProfileError(
            f"pairs need as many runs of base as of head, got {len(base)} and {len(head)}; give "
            "both of each pair, or compare with paired=False"
        )
    qs = [check_percentile(q) for q in percentiles]
    wanted = {float(each.key[1][1:]) for each in budgets if each.key[1].startswith("p")}
    qs = sorted({*map(float, qs), *wanted})
    known = set.intersection(*({*run.keys(qs)} for run in (*base, *head)))
    keys = [key for key in base[0].keys(qs) if key in known]
    for budget in budgets:
        if budget.key not in known:
            raise ProfileError(
                f"budget {quoted(budget.text)} must name a span and a statistic of all runs; use "
                f"{', '.join(dict.fromkeys(span for span, _ in keys))}"
                + ("" if budget.key[1] != MISSES else ", with a deadline for misses")
            )
    given = {each.key for each in budgets}
    headline = budgets[0].key if budgets else ("end_to_end", "p99")
    if headline not in known:
        headline = ("end_to_end", "mean")
    level = 1 - confidence
    found = [_Difference.of(key, base, head, paired=paired) for key in keys]
    tested = [each for each in found if each is not None]
    plain = given or {headline}
    levels = [(budget_level or level) if each.key in plain else level for each in tested]
    adjusted = _adjusted(tested, plain)
    rows = tuple(
        each.row(at, p, margin) for each, at, p in zip(tested, levels, adjusted, strict=True)
    )
    by_key = {each.key: each for each in tested}
    return Comparison(
        tuple(base),
        tuple(head),
        rows,
        tuple(_judged(each, by_key.get(each.key), budget_level or level) for each in budgets),
        tuple(condition_notes(base, head)),
        paired,
        confidence,
        margin,
        headline,
        1 - (budget_level or level),
    )


def _adjusted(found: "Sequence[_Difference]", plain: set[Key]) -> list[float | None]:
    """Return the p value of each difference; those without a budget are adjusted together."""
    values = [each.p_value for each in found]
    others = [i for i, each in enumerate(found) if each.key not in plain and values[i] is not None]
    if others:
        for i, p in zip(others, holm(np.array([values[k] for k in others])), strict=True):
            values[i] = float(p)
    return values


@dataclass(frozen=True, slots=True)
class _Difference:
    """The difference of a statistic between the sides, on a scale on which it is additive.

    The scale is the logarithm, and `difference` that of the ratio; with values of 0 and less it is
    the value itself.
    """

    key: Key
    base: float
    head: float
    logarithmic: bool
    difference: float
    error: float  # its standard error
    df: int  # degrees of freedom; 0 if the runs allow no interval
    runs: int  # pairs, or the smaller number of runs a side
    p_value: float | None  # of the t test; None without an interval, or if nothing was measured
    flip: float | None  # p value of the sign-flip test of pairs
    head_error: float  # of head alone, on the scale
    head_df: int

    @classmethod
    def of(
        cls, key: Key, base: Sequence[Run], head: Sequence[Run], *, paired: bool
    ) -> "_Difference | None":
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
        head_error, head_df, _ = _one_side(scaled[1], errors[1])
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
        """Return the interval on the scale, or None if the runs allow none."""
        return _interval(self.difference, self.error, self.df, level)

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

        If there are enough of them already, it is a change of the margin. The observed difference
        is not used: with few pairs it is mostly noise (Hoenig and Heisey 2001).
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
        if interval is None or not self.df:
            return UNCLEAR, ONE
        low, high = interval
        if low == high == 0 or (-within < low and high < within):
            return SAME, ""
        if low <= 0 <= high:
            return UNCLEAR, ""
        if p_value is None or self.p_value is None or p_value > level:
            return UNCLEAR, CORRECTED
        # what the correction leaves of the level for this row
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
    """Return the same of two sets of runs: Welch's standard error and degrees of freedom."""
    (first, n, _), (second, m, _) = _one_side(base, base_errors), _one_side(head, head_errors)
    error = math.hypot(first, second)
    if not n or not m:
        return error, 0, None
    if error == 0:
        return 0.0, n + m, None
    df = error**4 / (first**4 / n + second**4 / m)
    return error, max(int(df), 1), None


def _one_side(values: Any, errors: Any) -> tuple[float, int, float | None]:
    """Return the standard error of the mean of one side, and its degrees of freedom."""
    n = len(values)
    within = math.sqrt(float((errors**2).sum())) / n
    if n < 2:
        return within, 0, None
    return max(float(values.std(ddof=1)) / math.sqrt(n), within), n - 1, None


def _interval(center: float, error: float, df: int, level: float) -> tuple[float, float] | None:
    if not df and not error:
        return None
    # one run a side: the runs' own error, as of a large sample
    reach = (t_quantile(level, df) if df else t_quantile(level, 10_000)) * error
    return center - reach, center + reach


def _judged(budget: Budget, found: _Difference | None, level: float) -> JudgedBudget:
    """Return a budget and whether it is met."""
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
    """Judge a budget that is not relative on runs of one side.

    Raises
    ------
    ProfileError
        The budget is relative.
    """
    if budget.relative:
        raise ProfileError(
            f"budget {quoted(budget.text)} must have a fixed limit, as there are no base runs; use "
            "one such as 'p99<50ms'"
        )
    estimates = [run.statistic(budget.key) for run in runs]
    known = [each for each in estimates if each is not None]
    if len(known) < len(runs):
        return JudgedBudget(budget, OPEN, None, None, None, LACKING)
    values = np.array([each.value for each in known])
    errors = np.array([each.log_error or 0.0 for each in known])
    logarithmic = bool((values > 0).all())
    scaled = np.log(values) if logarithmic else values
    error, df, _ = _one_side(scaled, errors if logarithmic else np.zeros(len(values)))
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
    interval = _interval(center, error, df, level)
    return _decided(budget, value, interval, df, logarithmic=logarithmic)


def _decided(
    budget: Budget,
    value: float,
    interval: tuple[float, float] | None,
    df: int,
    *,
    logarithmic: bool,
) -> JudgedBudget:
    """Return a budget with the state that an interval on the scale gives it."""
    if interval is None:
        return JudgedBudget(budget, OPEN, value, None, None, ONE_RUN)
    low, high = (math.exp(each) if logarithmic else each for each in interval)
    state = budget.judge(low, high) if df else OPEN
    return JudgedBudget(budget, state, value, low, high, "" if df else ONE_RUN)


# -- words ----------------------------------------------------------------------------------------


def _sentence(row: Row, comparison: Comparison) -> str:
    name = row.statistic if row.span == "end_to_end" else f"{row.span} {row.statistic}"
    if comparison.paired:
        evidence = counted(len(comparison.base), "pair")
    else:
        evidence = f"{len(comparison.base)} and {counted(len(comparison.head), 'run')}"
    change = [] if row.ratio is None else [f"{row.ratio - 1:+.0%}".replace("%", " %")]
    if row.low is not None and row.high is not None and row.ratio is not None:
        low, high = (f"{(each - 1) * 100:.3g}" for each in (row.low, row.high))
        change.append(f"{_percent(comparison.budget_confidence)} interval {low} to {high} %")
    if row.note == ONE:
        evidence = "1 run a side"
    facts = f"({', '.join([*change, evidence])})"
    size = _amount(row, abs(row.difference))
    if row.verdict in (WORSE, BETTER):
        return f"{name} is {size} {row.verdict} {facts}"
    if row.verdict == SAME:
        return f"{name} is the same within {comparison.margin * 100:g} % {facts}"
    direction = "higher" if row.difference >= 0 else "lower"
    sentence = f"{name} is {size} {direction}, which is unclear {facts}"
    if row.note == ONE:
        return f"{sentence}: {ONE_RUN}"
    if row.pairs_missing:
        unit = "pair" if comparison.paired else "run"
        side = "" if comparison.paired else " a side"
        more = counted(row.pairs_missing, f"more {unit}") + side
        sentence += f"; {more} would find a change of {_percent(row.detects)}"
    return sentence


def _percent(part: float) -> str:
    return f"{part * 100:.3g} %"


def _amount(row: Row, value: float) -> str:
    if row.kind == "time":
        return format_ns(value)
    if row.kind == "share":
        return f"{value * 100:.3g} points"
    return f"{format_quantity(value)} frames/s"


def _shown_row(row: Row) -> list[Any]:
    def show(value: float) -> str:
        return written(Cell(value), row.kind)

    interval = "-"
    if row.low is not None and row.high is not None:
        if row.ratio is not None:
            interval = f"{row.low - 1:+.1%} to {row.high - 1:+.1%}"
        else:
            interval = f"{show(row.low)} to {show(row.high)}"
    verdict = row.verdict
    if row.pairs_missing:
        verdict += f", {row.pairs_missing:,} more"
    return [
        row.span,
        row.statistic,
        show(row.base),
        show(row.head),
        "-" if row.ratio is None else f"{row.ratio - 1:+.1%}",
        interval,
        Cell(verdict, level=_SIGNS.get(row.verdict, ""), note=row.note),
    ]
