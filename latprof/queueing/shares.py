"""What hand-offs waited for, summed over windows, as a table."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latprof.errors import TraceError
from latprof.histogram import rank_of
from latprof.pipeline import Pipeline
from latprof.queueing.busy import Amounts
from latprof.queueing.stations import Places
from latprof.queueing.waits import Wait

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OWN", "Highest", "Shares", "check_columns"]

OWN = "own"
"""The column of what a hand-off takes by itself."""


def check_columns(pipeline: Pipeline) -> None:
    """Refuse a pipeline with a stage whose column would be that of the hand-off itself.

    Raises
    ------
    TraceError
        It has one.
    """
    if any(stage.name == OWN for stage in pipeline.stages):
        raise TraceError(
            f"stage {OWN!r} of pipeline {pipeline.name!r} has the name of the column of what "
            "hand-offs take by themselves: rename the stage"
        )


class Highest:
    """The highest of many values, so many that their 99th percentile is among them.

    Parameters
    ----------
    most
        How many values there are at most. One in a hundred of them is kept.

    Examples
    --------
    >>> highest = Highest(most=200)
    >>> highest.add(np.arange(150))
    >>> highest.p99(150), len(highest.kept)
    (148.0, 3)
    """

    def __init__(self, most: int) -> None:
        self._room = most - rank_of(99, most) + 1 if most else 0
        self.kept: Amounts = np.zeros(0, np.int64)

    def add(self, values: Amounts) -> None:
        """Add values (n,)."""
        if len(self.kept) == self._room and self._room:
            values = values[values > self.kept.min()]
        both = np.concatenate([self.kept, values])
        spare = len(both) - self._room
        self.kept = np.partition(both, spare)[spare:] if spare > 0 else both

    def p99(self, count: int) -> float:
        """Return the 99th percentile of `count` values; those not added are 0."""
        from_above = count - rank_of(99, count) + 1
        if from_above > len(self.kept):
            return 0.0
        place = len(self.kept) - from_above
        return float(np.partition(self.kept, place)[place])


@dataclass(slots=True)
class _Row:
    frames: int = 0
    total: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    highest: dict[str, Highest] = field(default_factory=dict)


class Shares:
    """Waits by hand-off and by the stage that is to blame.

    Parameters
    ----------
    places
        The pipeline.
    most
        How many frames there are at most; None: nobody asks for ``"p99"``.
    """

    def __init__(self, places: Places, most: int | None = None) -> None:
        self.places, self._most = places, most
        self.rows = {name: _Row() for name in places.handoffs}

    def add(self, waits: list[Wait]) -> None:
        """Add the waits of a window."""
        for wait in waits:
            row = self.rows[wait.handoff]
            row.frames += len(wait.rows)
            row.total += int(wait.total.sum())
            for name, amounts in wait.by_stage().items():
                row.sums[name] = row.sums.get(name, 0) + amounts.sum().item()
                self._keep(row, name, amounts)
            if self._most is not None:
                self._keep(row, OWN, wait.own())

    def table(self, value: str) -> "pd.DataFrame":
        """Return ``"share"``, ``"mean"``, ``"total"`` or ``"p99"`` by hand-off and stage."""
        import pandas as pd

        used = {name for row in self.rows.values() for name, ns in row.sums.items() if ns}
        names = [*self.places.served, *self.places.handoffs]
        used |= set(self.places.served)
        columns = [name for name in names if name in used] + [OWN]
        index = pd.Index(list(self.rows), name="handoff", dtype=object)
        cells = [[_value(row, name, value) for name in columns] for row in self.rows.values()]
        return pd.DataFrame(cells, index=index, columns=columns, dtype="float64")

    def _keep(self, row: _Row, name: str, amounts: Amounts) -> None:
        if self._most is not None:
            row.highest.setdefault(name, Highest(self._most)).add(amounts)


def _value(row: _Row, name: str, value: str) -> float:
    if not row.frames:
        return float("nan")
    if value == "p99":
        found = row.highest.get(name)
        return 0.0 if found is None else found.p99(row.frames)
    ns = row.total - sum(row.sums.values()) if name == OWN else row.sums.get(name, 0)
    if value == "total":
        return float(ns)
    if value == "mean":
        return ns / row.frames
    return ns / row.total if row.total else float(name == OWN)
