"""How long frames waited in each hand-off, and for which stages."""

from dataclasses import dataclass

import numpy as np

from latprof.arrays import Ints
from latprof.queueing.blocking import Path
from latprof.queueing.busy import Amounts
from latprof.queueing.model import Picture

__all__ = ["Wait", "waits_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """The time of n frames in one hand-off, and who they waited for.

    `rows` (n,) are the frames' rows, `total` (n,) ns the whole time, `by_path` (n,) ns by chain:
    the stage that the frame in front was in, then what that one waited for; the last is to blame.
    """

    handoff: str
    rows: Ints
    total: Amounts
    by_path: dict[Path, Amounts]

    def by_stage(self) -> dict[str, Amounts]:
        """Return (n,) ns by stage to blame."""
        found: dict[str, Amounts] = {}
        for path, amounts in self.by_path.items():
            known = found.get(path[-1])
            found[path[-1]] = amounts if known is None else known + amounts
        return found

    def own(self) -> Amounts:
        """Return (n,) ns: what is nobody else's fault."""
        rest = self.total
        for amounts in self.by_path.values():
            rest = rest - amounts
        return rest


def waits_of(whole: Picture, *, queued: bool) -> list[Wait]:
    """Return the waits in each hand-off, in order of the pipeline.

    Parameters
    ----------
    whole
        The frames.
    queued
        Count only what a frame waited after its transport: see `latprof.queueing.delays`.
    """
    where = whole.places
    served = {block.handoff: i for i, block in enumerate(where.blocks) if block.handoff}
    found = []
    for stage in where.pipeline.stages:
        if stage.station is not None:
            continue
        rows, total = whole.lengths(stage)
        i = served.get(stage.name)
        if i is None:
            found.append(Wait(stage.name, rows, total, {}))
            continue
        visit, low, high = whole.waits(i, queued=queued)
        parts = whole.blamed(where.blocks[i], visit, low)
        waiting = whole.visits[where.blocks[i].station].frame[visit]
        if len(waiting) == len(rows):
            # the same frames, maybe in another order
            marks = whole.columns.marks
            total = high - marks[stage.begin][waiting]
            found.append(Wait(stage.name, waiting, total, parts))
            continue
        # some entered the station at no known time: their time in the hand-off is known
        place = np.full(len(whole.columns), -1, np.int64)
        place[rows] = np.arange(len(rows))
        at = place[waiting]
        spread: dict[Path, Amounts] = {}
        for path, amounts in parts.items():
            filled: Amounts = np.zeros(len(rows), amounts.dtype)  # type: ignore[assignment]
            filled[at[at >= 0]] = amounts[at >= 0]
            spread[path] = filled
        found.append(Wait(stage.name, rows, total, spread))
    return found
