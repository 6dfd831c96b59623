"""Finds the runs, of many, at which a statistic changed.

Change points are found by E-divisive means (Matteson and James 2014): a series is split where the
energy distance between both parts is largest, if a permutation test finds it larger than chance,
and each part is searched again. The permutations are seeded, so that the result repeats.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Floats
from latprof.comparing.runs import (
    MISSES,
    THROUGHPUT,
    Estimate,
    Key,
    OfStatistic,
    Run,
    RunLike,
    added_up_notes,
    estimates_of,
    load_runs,
    parse_statistic,
)
from latprof.comparing.student import t_quantile
from latprof.errors import ProfileError
from latprof.table import Column, Kind, Section, Table, data_frame
from latprof.text import counted, quoted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChangePoint", "Trend", "TrendPoint", "change_points", "fewest_runs", "trend"]

FEWEST_RUNS = 2  # of a part between two change points
PERMUTATIONS = 999
MOST_RUNS = 2_000  # the distances of all pairs of runs are in memory

_SEED = 20_261_128


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One run of a trend, with its `labels` (`Profiler(meta=)`).

    `value` is the statistic, in ns unless it is a rate or a share; `low` and `high` are its 95 %
    interval from inside the run, None without one. `begin_ns` is the first start, UTC.
    """

    run: str
    begin_ns: int | None
    frames: int
    value: float
    low: float | None
    high: float | None
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A run at which a statistic changed.

    Attributes
    ----------
    index, run
        Place and name of the first run after the change.
    before, after
        Geometric means of the runs since the previous change, and until the next one; arithmetic
        means if a value of the trend is 0.
    ratio, low, high
        ``after / before`` and its 95 % interval; `low` and `high` are None if a value of the trend
        is 0. The place of the change was chosen by the same data, so the interval is somewhat too
        narrow.
    p_value
        Of the permutation test.
    """

    index: int
    run: str
    before: float
    after: float
    ratio: float
    low: float | None
    high: float | None
    p_value: float


@dataclass(frozen=True, eq=False, repr=False)
class Trend(OfStatistic):
    """A statistic over runs and its change points; `trend` returns it.

    Attributes
    ----------
    key
        Span and statistic.
    points
        A `TrendPoint` for each run, in order of time.
    changes
        The `ChangePoint` values, in order.
    fewest
        How many runs are needed to find a change in their middle.
    doubts
        Sentences on runs that consist of several recordings.
    """

    key: Key
    points: tuple[TrendPoint, ...]
    changes: tuple[ChangePoint, ...]
    fewest: int = 0
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Trend of {'.'.join(self.key)}: {counted(len(self.points), 'run')}>"

    @property
    def is_time(self) -> bool:
        """Whether the values are times in ns."""
        return self.key[1] not in (THROUGHPUT, MISSES)

    @property
    def levels(self) -> list[float]:
        """The mean of the runs before the first change, and after each change."""
        if self.changes:
            return [*(change.before for change in self.changes), self.changes[-1].after]
        return [_mean([point.value for point in self.points])]

    @property
    def sentence(self) -> str:
        """The last change, in one sentence."""
        name, runs = ".".join(self.key), counted(len(self.points), "run")
        if len(self.points) < self.fewest:
            return f"finding a change of {name} needs {self.fewest} runs, got {len(self.points)}"
        if not self.changes:
            return f"no change of {name} was found over {runs}"
        last = self.changes[-1]
        more = len(self.changes) - 1
        before = f", after {counted(more, 'earlier change')}" if more else ""
        if last.low is not None and last.high is not None and last.low <= 1 <= last.high:
            return f"{name} varies differently from {last.run} on, its mean hardly{before}"
        return f"{name} changed by {last.ratio - 1:+.1%} at {last.run}{before}"

    def table(self) -> "pd.DataFrame":
        """Return a DataFrame indexed by run: begin, frames, value, low, high, change.

        ``change`` is True for the first run after a change.
        """
        changed = {change.index for change in self.changes}
        rows = [
            {
                "run": point.run,
                "begin": None if point.begin_ns is None else np.datetime64(point.begin_ns, "ns"),
                **{name: getattr(point, name) for name in ("frames", "value", "low", "high")},
                "change": i in changed,
            }
            for i, point in enumerate(self.points)
        ]
        types = {"run": None, "begin": "datetime64[ns]", "frames": "int64", "change": "bool"}
        return data_frame(rows, "run", types)

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence, the changes, the runs."""
        kind: Kind = "time" if self.is_time else "quantity"
        shown = [
            (change.run, change.before, change.after, f"{change.ratio - 1:+.1%}", _range(change))
            for change in self.changes
        ]
        changes = Table(
            (
                Column("changed at", "name"),
                Column("before", kind),
                Column("after", kind),
                Column("change"),
                Column("interval"),
            ),
            shown,
        )
        columns = (
            Column("run", "name"),
            Column("begin", "moment"),
            Column("frames", "count"),
            Column(self.key[1], kind),
            Column("low", kind),
            Column("high", kind),
        )
        rows = [(p.run, p.begin_ns, p.frames, p.value, p.low, p.high) for p in self.points]
        parts = [Section(self.sentence, doubts=self.doubts)]
        if shown:
            parts.append(Section("", table=changes))
        return [*parts, Section("Runs", table=Table(columns, rows))]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return self.head() | {
            "runs": [asdict(point) for point in self.points],
            "changes": [asdict(change) for change in self.changes],
        }

    def to_csv(self) -> str:
        """Return the runs as CSV that Apache Otava reads: time in s, name, labels, statistic."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = sorted({name for point in self.points for name in point.labels} - {"time", "name"})
        writer.writerow(["time", "name", *names, "_".join(self.key).replace(".", "_")])
        for i, point in enumerate(self.points):
            seconds = i if point.begin_ns is None else point.begin_ns // 10**9
            labels = [point.labels.get(name, "") for name in names]
            writer.writerow([seconds, point.run, *labels, repr(point.value)])
        return out.getvalue()


def _mean(values: Sequence[float]) -> float:
    """Return the geometric mean, or the mean if a value is not above 0."""
    if min(values) > 0:
        return math.exp(sum(map(math.log, values)) / len(values))
    return sum(values) / len(values)


def _range(change: ChangePoint) -> str:
    if change.low is None or change.high is None:
        return "-"
    return f"{change.low - 1:+.1%} to {change.high - 1:+.1%}"


def trend(
    runs: "RunLike | Iterable[RunLike]",
    *,
    statistic: "str | Key" = "end_to_end.p99",
    significance: float = 0.01,
) -> Trend:
    """Return a statistic over runs, and the runs at which it changed.

    Parameters
    ----------
    runs
        Traces, profiles or paths of either. They are put in order of ``run`` in their labels
        (``Profiler(meta={"run": 17})``) if all have a number there, otherwise of their first frame.
    statistic
        Span and statistic, ``"decode.mean"`` or ``("decode", "mean")``.
    significance
        Level of the permutation test of each change, at least 0.001 and below 1.

    Raises
    ------
    ProfileError
        A run does not have the statistic, there are more than 2,000 runs, or another argument is
        invalid.
    TraceError
        A file is missing or is not a trace.
    """
    number = isinstance(significance, int | float) and not isinstance(significance, bool)
    if not number or not 1 / (PERMUTATIONS + 1) <= significance < 1:
        raise ProfileError(
            f"significance must be a number, at least 0.001 and below 1, got {quoted(significance)}"
        )
    known = load_runs(runs, "run")
    if len(known) > MOST_RUNS:
        raise ProfileError(f"runs must be at most {MOST_RUNS:,}, got {len(known):,}; give fewer")
    key, ordered = parse_statistic(statistic), _in_order(known)
    points = tuple(map(_point, ordered, estimates_of(ordered, key)))
    values = np.array([point.value for point in points])
    scaled = np.log(values) if (values > 0).all() else values
    found = change_points(scaled, significance=significance)
    return Trend(
        key,
        points,
        tuple(_changes(points, scaled, found)),
        fewest_runs(significance),
        tuple(added_up_notes(ordered)),
    )


def fewest_runs(significance: float) -> int:
    """Return the smallest number of runs in which a change in the middle can be significant.

    Of n runs in random order, the first half are all below or all above the others with a
    probability of 2 in ``comb(n, n / 2)``.

    Examples
    --------
    >>> fewest_runs(0.01), fewest_runs(0.05)
    (10, 8)
    """
    n = 2 * FEWEST_RUNS
    while 2 / math.comb(n, n // 2) > significance:
        n += 2
    return n


def _point(run: Run, found: Estimate) -> TrendPoint:
    return TrendPoint(
        run.name,
        run.begin_ns,
        run.profile.frames,
        found.value,
        found.low,
        found.high,
        dict(run.profile.labels),
    )


def _in_order(runs: list[Run]) -> list[Run]:
    """Return runs by their label ``run`` if all have a number, otherwise by their first frame."""
    labels = [run.profile.labels.get("run", "") for run in runs]
    if all(label.isdecimal() for label in labels):
        order = sorted(range(len(runs)), key=lambda i: int(labels[i]))
        return [runs[i] for i in order]
    return sorted(runs, key=lambda run: (run.begin_ns is None, run.begin_ns or 0))


def _changes(
    points: Sequence[TrendPoint], scaled: Floats, found: Sequence[tuple[int, float]]
) -> list[ChangePoint]:
    """Return the change points with their sizes."""
    logarithmic = all(point.value > 0 for point in points)
    edges = [0, *(index for index, _ in found), len(points)]
    changes = []
    for (index, p_value), begin, end in zip(found, edges, edges[2:], strict=False):
        before, after = scaled[begin:index], scaled[index:end]
        difference = float(after.mean() - before.mean())
        low = high = None
        df = len(before) + len(after) - 2
        if df > 0 and logarithmic:
            squares = ((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()
            error = math.sqrt(squares / df * (1 / len(before) + 1 / len(after)))
            reach = t_quantile(0.05, df) * error
            low, high = math.exp(difference - reach), math.exp(difference + reach)
        first, second = float(before.mean()), float(after.mean())
        if logarithmic:
            first, second = math.exp(first), math.exp(second)
        ratio = second / first if first else math.inf
        changes.append(
            ChangePoint(index, points[index].run, first, second, ratio, low, high, p_value)
        )
    return changes


def change_points(values: Floats, *, significance: float = 0.01) -> list[tuple[int, float]]:
    """Return for each change of (n,) values the index of the first value after it, and its p value.

    Examples
    --------
    >>> change_points(np.array([1.0, 1.1, 0.9, 1.0, 1.1, 2.0, 2.1, 1.9, 2.0, 2.1]))
    [(5, 0.006)]
    """
    random = np.random.default_rng(_SEED)
    waiting, found = [(0, len(values))], []
    while waiting:
        begin, end = waiting.pop()
        part = values[begin:end]
        if len(part) < 2 * FEWEST_RUNS:
            continue
        distances = np.abs(part[:, None] - part)
        split, energy = _best_split(distances)
        if energy <= 0:
            continue
        larger = 0
        for _ in range(PERMUTATIONS):
            order = random.permutation(len(part))
            larger += _best_split(distances[np.ix_(order, order)])[1] >= energy * (1 - 1e-12)
        p_value = (larger + 1) / (PERMUTATIONS + 1)
        if p_value <= significance:
            found.append((begin + split, p_value))
            waiting += [(begin, begin + split), (begin + split, end)]
    return sorted(found)


def _best_split(distances: Floats) -> tuple[int, float]:
    """Return the split of (n, n) distances with the largest energy, and that energy.

    With m values before the split and n after, the energy is
    ``mn / (m + n) * (2 * mean distance between - mean within before - mean within after)``; the
    means within are over distinct pairs.
    """
    size = len(distances)
    upto = distances.cumsum(axis=0).cumsum(axis=1)
    m = np.arange(FEWEST_RUNS, size - FEWEST_RUNS + 1)
    n = size - m
    before = upto[m - 1, m - 1]  # each pair counted twice
    across = upto[m - 1, -1] - before
    after = upto[-1, -1] - before - 2 * across
    energy = 2 * across / (m * n) - before / (m * (m - 1)) - after / (n * (n - 1))
    energy *= m * n / size
    best = int(energy.argmax())
    return int(m[best]), float(energy[best])
