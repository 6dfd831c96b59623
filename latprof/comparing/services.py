"""Finds what each station adds to a difference: its service times are swapped in a replay of base.

A station that gets slower also makes frames wait, so that the differences of stage means do not
show which station caused them. Here the service times of head are put into a recording of base,
station by station, and the frames are sent through once more. The effect of a station depends on
which others are swapped already: the Shapley value is its average over all orders (Shapley 1953),
and the values of all stations add up to the effect of all swaps together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from latprof.arrays import Floats, Ints
from latprof.comparing.runs import Run
from latprof.errors import ProfileError
from latprof.queueing.line import Line
from latprof.queueing.options import Options
from latprof.queueing.sending import Times
from latprof.queueing.windows import Recordings
from latprof.table import Column, Section, Shown, Table
from latprof.text import counted
from latprof.units import format_ns

__all__ = ["ServiceChanges", "service_changes", "shapley"]

MOST_FRAMES = 20_000  # of each run, from its start
MOST_EXACT = 8  # up to this many stations, all subsets of them are replayed
ORDERS = 60  # of more stations, random orders that are replayed
AT_ONCE = 32  # scenarios in memory
WORTH_LISTING = 0.05  # part of the difference above which an interaction is listed

_SEED = 20_261_128


@dataclass(frozen=True, eq=False, repr=False)
class ServiceChanges(Shown):
    """The part of each station's service times in the difference of the mean of end_to_end, ns.

    Attributes
    ----------
    parts
        By stage (or stages of one station): what its change adds, with the waiting that it causes.
    rest
        The rest of the difference: arrivals, transport, and what no station serves.
    difference
        Of the means of the frames that were replayed: all parts and the rest together.
    interactions
        By two stages, how much more they add together than each alone, if that is more than 5 % of
        the difference. It is contained in their parts, half in each.
    error
        By stage the standard error of its part; 0 unless orders were drawn at random.
    frames
        Number of frames that were replayed.
    """

    parts: dict[str, float]
    rest: float
    difference: float
    interactions: dict[tuple[str, str], float]
    error: dict[str, float]
    frames: int

    def __repr__(self) -> str:
        return f"<ServiceChanges: {self.sentence}>"

    @property
    def sentence(self) -> str:
        """The stage that adds most, in one sentence."""
        named = self.parts | {"what no station serves": self.rest}
        sign = 1 if self.difference >= 0 else -1
        most = max(named, key=lambda name: sign * named[name])
        slower, adds = ("slower", "adds") if sign > 0 else ("faster", "takes away")
        size, part = format_ns(abs(self.difference)), format_ns(sign * named[most])
        return f"end to end is {size} {slower} on average; {most} {adds} {part}"

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence, the parts, the interactions."""
        whole = abs(self.difference) or 1.0
        rows: list[list[Any]] = [
            [name, ns, abs(ns) / whole * (1 if ns >= 0 else -1), self.error.get(name) or None]
            for name, ns in self.parts.items()
        ]
        rows.append(["rest", self.rest, self.rest / whole, None])
        columns: tuple[Column, ...] = (
            Column("stage", "span"),
            Column("adds", "time"),
            Column("part", "share"),
        )
        if any(self.error.values()):
            columns = (*columns, Column("standard error", "time"))
        else:
            rows = [row[:3] for row in rows]
        lines = [
            f"{first} and {second} together add {format_ns(ns)} more than each alone"
            for (first, second), ns in self.interactions.items()
        ]
        lines.append(
            f"service times of head put into {counted(self.frames, 'frame')} of base; the rest is "
            "arrivals, transport, and what no station serves"
        )
        return [Section(self.sentence, tuple(lines)), Section("", table=Table(columns, rows))]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return {
            "parts": self.parts,
            "rest": self.rest,
            "difference": self.difference,
            "interactions": [[*pair, ns] for pair, ns in self.interactions.items()],
            "error": self.error,
            "frames": self.frames,
        }


def service_changes(base: Sequence[Run], head: Sequence[Run]) -> ServiceChanges:
    """Return how much of the difference comes from the service times of each station.

    Run i of `base` is compared with run i of `head`, and the results of all pairs are averaged.
    Runs that the other side has no partner for are left out.

    Raises
    ------
    ProfileError
        A run is only a profile, without frames, or its stations are not in a row.
    TraceError
        Frames are sampled or lost.
    """
    found = [_of_pair(first, second) for first, second in zip(base, head, strict=False)]
    if len({tuple(each.parts) for each in found}) != 1:
        raise ProfileError("runs must have the same stations; compare runs of one pipeline")
    n = len(found)
    pairs = {pair for each in found for pair in each.interactions}
    difference = sum(each.difference for each in found) / n
    mean = {
        pair: sum(each.interactions.get(pair, 0.0) for each in found) / n for pair in sorted(pairs)
    }
    return ServiceChanges(
        {name: sum(each.parts[name] for each in found) / n for name in found[0].parts},
        sum(each.rest for each in found) / n,
        difference,
        {pair: ns for pair, ns in mean.items() if abs(ns) > WORTH_LISTING * abs(difference)},
        {
            name: math.hypot(*(each.error.get(name, 0.0) for each in found)) / n
            for name in found[0].parts
        },
        sum(each.frames for each in found),
    )


def _line_of(run: Run) -> tuple[Line, list[str]]:
    """Return the first frames of a run as a line, and the stages of each node."""
    if run.source is None:
        raise ProfileError(
            f"{run.name} must be a trace, as its frames are replayed, got a profile; give traces"
        )
    model = Recordings(run.source, "compare", Options()).model()
    if model.line is None:
        raise ProfileError(
            f"{run.name} must have stations in a row, each visited once, to be replayed; name them "
            "with Pipeline.chain(..., stations=) or Span(..., station=)"
        )
    stations = model.stations.pipeline.stages
    names = []
    for name in model.line.names:
        stages = [stage.name for stage in stations if name is not None and stage.station == name]
        names.append(" + ".join(stages))
    return model.line.first(MOST_FRAMES).with_common_room(), names


def _of_pair(base: Run, head: Run) -> ServiceChanges:
    """Return what the services of a run of head add to a run of base."""
    (line, names), (other, others) = _line_of(base), _line_of(head)
    if names != others:
        raise ProfileError("runs must have the same stations; compare runs of one pipeline")
    nodes = [k for k, name in enumerate(names) if name]
    swapped = {k: _as_in(line.work[k].usual, other.work[k].usual) for k in nodes}

    def means(subsets: Sequence[frozenset[int]]) -> Floats:
        """Return the mean of end_to_end (ns) for each set of nodes with service times of head."""
        found = []
        for low in range(0, len(subsets), AT_ONCE):
            some = subsets[low : low + AT_ONCE]
            work = [Times(each.usual) for each in line.work]
            for k in nodes:
                changed = {s: swapped[k] for s, subset in enumerate(some) if k in subset}
                work[k] = Times(line.work[k].usual, changed)
            begins, leave = line.replay(len(some), work, line.travel, line.transport)
            found.append((leave - begins[0]).mean(axis=1))
        return np.concatenate(found)

    before, after = (float((each.leave - each.begin[0]).mean()) for each in (line, other))
    values, error, whole, pairs = shapley(nodes, means)
    difference = after - before
    return ServiceChanges(
        {names[k]: values[k] for k in nodes},
        difference - whole,
        difference,
        {(names[i], names[j]): ns for (i, j), ns in pairs.items()},
        {names[k]: error[k] for k in nodes},
        len(line),
    )


def _as_in(mine: Ints, other: Ints) -> Ints:
    """Return (n,) times that are distributed as `other` (m,) and ordered as `mine`."""
    n, m = len(mine), len(other)
    ranks = np.empty(n)
    ranks[np.argsort(mine, kind="stable")] = (np.arange(n) + 0.5) / n
    return np.rint(np.interp(ranks, (np.arange(m) + 0.5) / m, np.sort(other))).astype(np.int64)


def shapley(
    players: Sequence[int], value: Callable[[Sequence[frozenset[int]]], Floats]
) -> tuple[dict[int, float], dict[int, float], float, dict[tuple[int, int], float]]:
    """Return Shapley values, their standard errors, the value of all players, interactions of two.

    Parameters
    ----------
    players
        The players.
    value
        Returns the values of several sets of players; that of the empty set need not be 0.

    Examples
    --------
    >>> worth = {(): 0, (1,): 6, (2,): 2, (1, 2): 12}
    >>> shapley([1, 2], lambda sets: np.array([worth[tuple(sorted(s))] for s in sets], float))
    ({1: 8.0, 2: 4.0}, {1: 0.0, 2: 0.0}, 12.0, {(1, 2): 4.0})
    """
    couples = [frozenset(pair) for pair in combinations(players, 2)]
    if len(players) <= MOST_EXACT:
        sets = [frozenset(s) for n in range(len(players) + 1) for s in combinations(players, n)]
        known = dict(zip(sets, value(sets).tolist(), strict=True))
        count = len(players)
        parts = dict.fromkeys(players, 0.0)
        for each in sets:
            for player in players:
                if player not in each:
                    weight = 1 / (count * math.comb(count - 1, len(each)))
                    parts[player] += weight * (known[each | {player}] - known[each])
        error = dict.fromkeys(players, 0.0)
    else:
        random = np.random.default_rng(_SEED)
        orders = [random.permutation(players).tolist() for _ in range(ORDERS)]
        wanted = {frozenset(order[:n]) for order in orders for n in range(len(players) + 1)}
        sets = sorted(wanted | {*couples} | {frozenset((p,)) for p in players}, key=sorted)
        known = dict(zip(sets, value(sets).tolist(), strict=True))
        draws = {
            player: [
                known[frozenset(order[: order.index(player) + 1])]
                - known[frozenset(order[: order.index(player)])]
                for order in orders
            ]
            for player in players
        }
        parts = {player: float(np.mean(each)) for player, each in draws.items()}
        error = {
            player: float(np.std(each, ddof=1)) / math.sqrt(ORDERS)
            for player, each in draws.items()
        }
    none, everyone = known[frozenset()], known[frozenset(players)]
    pairs = {}
    for first, second in combinations(players, 2):
        together = known[frozenset((first, second))] + none
        apart = known[frozenset((first,))] + known[frozenset((second,))]
        pairs[first, second] = together - apart
    return parts, error, everyone - none, pairs
