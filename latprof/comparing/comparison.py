"""The result of a comparison: its rows, its sentence, contributions of stages, tables."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Floats
from latprof.comparing.budgets import ONE_RUN, JudgedBudget
from latprof.comparing.changes import Mix, largest_part, mix_of, stage_contributions
from latprof.comparing.differences import BETTER, ONE, SAME, UNCLEAR, WORSE, Difference, Row
from latprof.comparing.runs import Key, Run, added_up_notes, few_frames_notes, repeated_notes
from latprof.comparing.services import ServiceChanges, service_changes
from latprof.errors import ProfileError
from latprof.profile.span import check_integer
from latprof.table import Cell, Column, Section, Shown, Table, written
from latprof.text import counted, quoted
from latprof.units import format_change, format_ns, format_quantity

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "RatioCurve"]

_SIGNS = {WORSE: "critical", UNCLEAR: "warning"}  # levels of cells


@dataclass(frozen=True, slots=True, eq=False)
class RatioCurve:
    """Ratios (k,) of head to base at ascending percentiles `q` (k,), with their intervals.

    `low` and `high` (k,) are NaN if a ratio has no interval.
    """

    q: Floats
    ratio: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
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
        As given to `compare`.
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

    @property
    def _counts(self) -> str:
        if len(self.base) == len(self.head) == 1:
            return "1 run a side"
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
        known = ", ".join(quoted(row.key) for row in self.rows[:8])
        more = ", ..." if len(self.rows) > 8 else ""
        raise ProfileError(
            f"(span, statistic) must be a row of the comparison ({known}{more}), got "
            f"{quoted(key)}; give percentiles= or budgets= to compare others"
        )

    @property
    def verdict(self) -> str:
        """The verdict of the headline: of the first budget's statistic, or p99 of end_to_end."""
        return self[self.headline].verdict

    @property
    def sentence(self) -> str:
        """The result for the headline, in one sentence."""
        row = self[self.headline]
        share = largest_part(self.base, self.head, row) if row.verdict in (WORSE, BETTER) else ""
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

    def curve(self, span: str = "end_to_end", *, per_decade: int = 6) -> RatioCurve:
        """Return the ratio of head to base by percentile, with its interval.

        Parameters
        ----------
        span
            Name of a span that all runs have.
        per_decade
            Number of percentiles from 90 to 99, and as many from 99 to 99.9, and so on.

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
            found = Difference.of(key, self.base, self.head, paired=self.paired)
            if found is None or not found.logarithmic:
                continue
            low, high = found.interval(1 - self.confidence) or (math.nan, math.nan)
            rows.append((q, *(math.exp(each) for each in (found.difference, low, high))))
        columns = np.array(rows, np.float64).reshape(len(rows), 4).T
        return RatioCurve(*columns)

    def contributions(self, statistic: str = "mean") -> dict[str, float]:
        """Return the part of each stage and of ``other`` in the difference of end_to_end, ns.

        Parameters
        ----------
        statistic
            ``"mean"``, or a percentile such as ``"p99"``: the frames around it are compared.

        Raises
        ------
        ProfileError
            The pipelines of the runs differ, or the statistic is unknown.
        """
        return stage_contributions(self.base, self.head, statistic)

    def service_changes(self) -> ServiceChanges:
        """Return what the service times of each station add to the difference, waiting included.

        The service times of head are put into a replay of base. Traces of all frames are needed,
        and a pipeline with stations in a row; up to 20,000 frames of each run are replayed.

        Raises
        ------
        ProfileError
            A run is only a profile, or its stations are not in a row.
        TraceError
            Frames are sampled or lost.
        """
        return service_changes(self.base, self.head)

    def mix(self) -> Mix | None:
        """Return the part that the mix of groups has in the difference of the mean.

        The runs must be profiles by group (``analyze(..., by="source")``); otherwise None.
        """
        return mix_of(self.base, self.head)

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence, conditions that differ, budgets, the rows."""
        every = (*self.base, *self.head)
        shown = [self.headline, *(row.key for row in self.rows if row.key != self.headline)]
        doubts = (*added_up_notes(every), *repeated_notes(every), *few_frames_notes(every, shown))
        conditions = [f"Conditions differ: {note}" for note in self.conditions]
        mix = self.mix()
        lines = [*conditions[:1], self.sentence, *conditions[1:], *map(str, self.budgets)]
        lines += [] if mix is None else [mix.sentence]
        level = f"{_percent(self.confidence)} intervals"
        if self.budget_confidence != self.confidence:
            level += f" ({_percent(self.budget_confidence)} for budgets)"
        where = f"the variation between {'pairs' if self.paired else 'runs'}"
        if len(self.base) == len(self.head) == 1:
            where = "the variation within each run"
        lines += [f"{self._counts}; {level} from {where}"]
        lines += [f"base: {_names(self.base)}; head: {_names(self.head)}"]
        columns = (
            Column("span", "span"),
            Column("statistic"),
            Column("base"),
            Column("head"),
            Column("change"),
            Column("interval"),
            Column("verdict"),
        )
        table = Table(columns, [_shown_row(row, self.paired) for row in self.rows])
        return [
            Section(lines[0], tuple(lines[1:]), doubts=doubts),
            Section("", table=table, key="comparison"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
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
            "rows": [asdict(row) for row in self.rows],
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


def _sentence(row: Row, comparison: Comparison) -> str:
    """Return what a row says, with its evidence, in one sentence."""
    name = row.statistic if row.span == "end_to_end" else f"{row.span} {row.statistic}"
    evidence = comparison._counts
    change = [] if row.ratio is None else [format_change(row.ratio)]
    if row.low is not None and row.high is not None and row.ratio is not None:
        low, high = (f"{(each - 1) * 100:.3g}" for each in (row.low, row.high))
        change.append(f"{_percent(comparison.budget_confidence)} interval {low} to {high} %")
    facts = f"({', '.join([*change, evidence])})"
    size = _amount(row, abs(row.difference))
    if row.verdict in (WORSE, BETTER):
        return f"{name} is {size} {row.verdict} {facts}"
    if row.verdict == SAME:
        return f"{name} is the same within {comparison.margin * 100:g} % {facts}"
    direction = "higher" if row.difference >= 0 else "lower"
    sentence = f"it is unclear whether {name} changed: {size} {direction} {facts}"
    if row.note == ONE:
        return f"{sentence}; {ONE_RUN}"
    if row.pairs_missing:
        unit = "pair" if comparison.paired else "run"
        side = "" if comparison.paired else " a side"
        more = counted(row.pairs_missing, f"more {unit}") + side
        sentence += f"; {more} would find a change of {_percent(row.detects)}"
    return sentence


def _names(runs: Sequence[Run]) -> str:
    first, others = runs[0].name, len(runs) - 1
    return f"{first} and {counted(others, 'more run')}" if others else first


def _percent(part: float) -> str:
    return f"{part * 100:.3g} %"


def _amount(row: Row, value: float) -> str:
    if row.kind == "time":
        return format_ns(value)
    if row.kind == "share":
        return f"{value * 100:.3g} points"
    return f"{format_quantity(value)} frames/s"


def _shown_row(row: Row, paired: bool) -> list[Any]:
    """Return a row as cells: times as text, as statistics have different units."""
    base, head, low, high = (
        None if each is None else written(Cell(each), row.kind)
        for each in (row.base, row.head, row.low, row.high)
    )
    interval = "-"
    if row.low is not None and row.high is not None:
        if row.ratio is not None:
            interval = f"{row.low - 1:+.1%} to {row.high - 1:+.1%}"
        else:
            interval = f"{low} to {high}"
    verdict = row.verdict
    if row.pairs_missing:
        verdict += f", {counted(row.pairs_missing, 'more pair' if paired else 'more run')}"
    return [
        row.span,
        row.statistic,
        base,
        head,
        "-" if row.ratio is None else f"{row.ratio - 1:+.1%}",
        interval,
        Cell(verdict, level=_SIGNS.get(row.verdict, ""), note=row.note),
    ]
