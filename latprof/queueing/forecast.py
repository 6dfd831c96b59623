"""The result of `latprof.what_if`: end_to_end as measured, as replayed, and by subtraction."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.arrays import Ints
from latprof.histogram import rank_of
from latprof.queueing.rooms import Queue, Source
from latprof.table import Cell, Column, Section, Shown, Table
from latprof.text import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PERCENTILES", "WhatIf"]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_FEWEST_ABOVE = 10  # frames above a percentile; with fewer it is shown as doubtful


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Shown):
    """End_to_end as measured, as replayed with the changes, and by plain subtraction.

    `what_if` returns it. ``print(result)`` shows all of it.

    Attributes
    ----------
    table
        A DataFrame by percentile (100 is the maximum), in ns: ``measured``, ``replayed``,
        ``subtraction``, and ``low`` and ``high``, between which all readings of the recording are.
    mean
        Mean of ``measured``, ``replayed`` and ``subtraction`` in ns, ``low`` and ``high``.
    measured_ns, replayed_ns, subtraction_ns
        Sorted arrays, of the finished frames; in the second without those that the changes drop.
    readings_ns
        The replay in other readings of the recording, each sorted: of gaps between a departure and
        the next entry, of rooms that are not known, of frames that were due at unknown times, and
        with factors that are 0.02 smaller and larger. `assumptions` say which.
    low_ns, high_ns, other_ns
        Sorted: the lowest and the highest of all replays, and the one that differs most.
    waits
        By hand-off, the mean time in it in ns: as recorded, and as replayed.
    filling
        By hand-off in front of a station that serves batches, the part of this time in which a
        batch was not full, in the same form.
    changes
        What was changed, as text.
    counts
        ``frames``; ``dropped`` by the changes; ``breaks`` of first in, first out; ``left_out`` of
        the replay, because a mark is missing or out of order.
    hand_over_ns
        By station: frames that enter this soon after a departure were queued.
    queues, source
        The queues by hand-off, as far as they are known, and the kind of source of the frames.
    assumptions
        What the replay assumes, with its evidence.
    warning
        Why the replay is not a forecast but the most that can be gained; empty if it is one.
    """

    measured_ns: Ints
    replayed_ns: Ints
    subtraction_ns: Ints
    readings_ns: tuple[Ints, ...]
    waits: dict[str, tuple[float, float]]
    changes: dict[str, str]
    counts: dict[str, int]
    hand_over_ns: dict[str, int]
    queues: dict[str, Queue]
    source: Source
    assumptions: tuple[str, ...]
    warning: str = ""
    filling: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<WhatIf of {counted(self.counts['frames'], 'frame')}: {self._changes}>"

    @property
    def _changes(self) -> str:
        changes = (f"{name} {change}" for name, change in self.changes.items())
        return ", ".join(changes) or "nothing changes"

    @property
    def table(self) -> "pd.DataFrame":
        """By percentile (50 to 99.9, 100), in ns: measured, replayed, subtraction, low and high.

        ``measured`` is the recording; ``replayed`` the recording with the changes, queues included;
        ``subtraction`` the recording with the change subtracted from each frame, as if there were
        no queues. ``low`` and ``high`` are the lowest and the highest of all readings of the
        recording (see `readings_ns`). If `warning` is not empty, the range also includes
        ``measured``.
        """
        import pandas as pd

        rows = self.rows()
        for row in rows:
            row.pop("doubtful")
        index = pd.Index([row.pop("percentile") for row in rows], name="percentile", dtype=float)
        frame = pd.DataFrame(rows, index=index)
        return frame.astype(dict.fromkeys(frame.columns[frame.isna().any()], "float64"))

    @property
    def low_ns(self) -> Ints:
        """The lowest of all replays, sorted."""
        low: Ints = np.min(self._replays, axis=0)
        return low

    @property
    def high_ns(self) -> Ints:
        """The highest of all replays, sorted."""
        high: Ints = np.max(self._replays, axis=0)
        return high

    @property
    def other_ns(self) -> Ints:
        """The replay that differs most from `replayed_ns`, sorted."""
        mean = self.replayed_ns.mean() if len(self.replayed_ns) else 0.0
        return max(self._replays, key=lambda x: abs(x.mean() - mean) if len(x) else 0.0)

    @property
    def _replays(self) -> list[Ints]:
        same = len(self.replayed_ns)
        found = [self.replayed_ns, *(x for x in self.readings_ns if len(x) == same)]
        with_measured = self.warning and len(self.measured_ns) == same
        return [*found, self.measured_ns] if with_measured else found

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of measured, replayed and subtraction, low and high in ns, None without frames."""
        parts = {
            "measured": self.measured_ns,
            "replayed": self.replayed_ns,
            "subtraction": self.subtraction_ns,
        }
        means = {name: float(x.mean()) if len(x) else None for name, x in parts.items()}
        replays = [float(x.mean()) for x in self._replays if len(x)]
        return means | {"low": min(replays, default=None), "high": max(replays, default=None)}

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict for each percentile, None without frames.

        A percentile is ``doubtful`` if fewer than 10 frames are above it. Percentile 100 is the
        maximum.
        """
        table = []
        replays = self._replays
        for q in (*PERCENTILES, 100.0):
            known = [x for x in (_percentile(each, q) for each in replays) if x is not None]
            above = len(self.measured_ns) * (100 - q) / 100
            table.append(
                {
                    "percentile": q,
                    "measured": _percentile(self.measured_ns, q),
                    "replayed": _percentile(self.replayed_ns, q),
                    "subtraction": _percentile(self.subtraction_ns, q),
                    "low": min(known, default=None),
                    "high": max(known, default=None),
                    "doubtful": q < 100 and above < _FEWEST_ABOVE,
                }
            )
        return table

    def sections(self) -> list[Section]:
        """Return what is shown: the changes, a table of end_to_end, the assumptions."""
        counts = self.counts
        if not counts["frames"]:
            return [Section(f"What if {self._changes}: no frame can be replayed")]
        lines = [
            f"{counted(counts['frames'], 'frame')}, {counts['dropped']:,} dropped by the change; "
            f"{counts['breaks']:,} contradict first in, first out"
        ]
        if counts["left_out"]:
            lines.append(f"{counts['left_out']:,} left out: a mark is missing or out of order")
        known: list[dict[str, Any]] = [{"name": "mean", **self.mean, "doubtful": False}]
        names_of = {row["percentile"]: f"p{row['percentile']:g}" for row in self.rows()} | {
            100: "max"
        }
        known += [{"name": names_of[row["percentile"]], **row} for row in self.rows()]
        rows = [
            [
                row["name"],
                Cell(row["measured"], doubtful=row["doubtful"]),
                *(
                    _changed(row[name], row["measured"], doubtful=row["doubtful"])
                    for name in ("replayed", "subtraction")
                ),
                row["low"],
                row["high"],
            ]
            for row in known
        ]
        if any(row["doubtful"] for row in known):
            lines.append(f"? fewer than {_FEWEST_ABOVE} frames are above this percentile")
        names = ("measured", "replayed", "by subtraction", "low", "high")
        columns = Column("end to end", "name"), *(Column(name, "time") for name in names)
        times = self.waits | {
            f"{name}, until a batch is full": both for name, both in self.filling.items()
        }
        waits = [(name, before, _changed(after, before)) for name, (before, after) in times.items()]
        waiting = (
            Column("mean time in", "span"),
            Column("measured", "time"),
            Column("replayed", "time"),
        )
        return [
            Section(f"What if {self._changes}", tuple(filter(None, (*lines, self.warning)))),
            Section("", (), Table(columns, rows), "what_if"),
            *([Section("", (), Table(waiting, waits), "waits")] if waits else []),
            Section("Assumptions", self.assumptions),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the arrays as values that JSON can hold."""
        return {
            "format": 1,
            "changes": self.changes,
            "counts": self.counts,
            "hand_over_ns": self.hand_over_ns,
            "mean": self.mean,
            "percentiles": self.rows(),
            "waits": {name: list(both) for name, both in self.waits.items()},
            "filling": {name: list(both) for name, both in self.filling.items()},
            "queues": {name: asdict(queue) for name, queue in self.queues.items()},
            "source": asdict(self.source),
            "assumptions": list(self.assumptions),
            "warning": self.warning or None,
        }


def _changed(ns: float | None, measured: float | None, *, doubtful: bool = False) -> Cell:
    """Return a time with its part of the measured one as a bar, and the change in percent."""
    if ns is None or not measured:
        return Cell(ns)
    return Cell(ns, doubtful=doubtful, bar=ns / measured, note=f"{ns / measured - 1:+.0%}")


def _percentile(ordered: Ints, q: float) -> int | None:
    return int(ordered[rank_of(q, len(ordered)) - 1]) if len(ordered) else None
