"""Accounts: how many frames were started, finished, dropped, lost, and why."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from latprof.arrays import Count
from latprof.text import counted

__all__ = ["Accounts", "Recovery"]


@dataclass(slots=True)
class Accounts:
    """How many frames were started, finished, dropped, lost, and why.

    started = in flight + finished + dropped + rejected, and
    finished + dropped = folded + not yet folded + lost + torn. Frames that were sampled out are
    counted separately. `notes` counts other events: marks set twice, thresholds exceeded, messages
    that were not logged.
    """

    started: Count = 0
    in_flight: Count = 0
    finished: Count = 0
    dropped: dict[str, Count] = field(default_factory=dict)
    rejected: dict[str, Count] = field(default_factory=dict)
    sampled_out: Count = 0
    folded: Count = 0
    not_folded: Count = 0
    lost: Count = 0
    torn: Count = 0
    notes: dict[str, Count] = field(default_factory=dict)

    def __add__(self, other: "Accounts") -> "Accounts":
        total = Accounts()
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            both = (
                dict(Counter(mine) + Counter(theirs)) if isinstance(mine, dict) else mine + theirs
            )
            setattr(total, name, both)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the accounts as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Contents of the slots of a ring file that was recovered; they add up to its capacity.

    Parameters
    ----------
    whole
        Rows that became frames.
    torn
        Slots with part of a row: being written when the process died, or damaged.
    never_written
        Slots that no frame was written to.
    refused
        Complete rows with invalid values: a name that the file does not have, a mark that its
        process does not own, a stamp that cannot be stored.
    cut_off
        Slots beyond the end of a truncated file.
    being_written
        Slots with a row that a living process was writing when the file was read.
    """

    whole: int
    torn: int
    never_written: int
    refused: int = 0
    cut_off: int = 0
    being_written: int = 0

    def __str__(self) -> str:
        text = (
            f"{counted(self.whole, 'row')} whole, {self.torn:,} torn, "
            f"{self.never_written:,} never written"
        )
        text += f", {self.refused:,} refused" if self.refused else ""
        text += f", {self.cut_off:,} cut off" if self.cut_off else ""
        return text + (f", {self.being_written:,} being written" if self.being_written else "")
