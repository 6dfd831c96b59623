"""Where every frame went."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Accounts"]


@dataclass(slots=True)
class Accounts:
    """Where every frame went.

    started = in flight + finished + dropped + rejected, and
    finished + dropped = folded + not yet folded + lost + torn. Sampled-out frames stand beside it.
    `notes` counts what is neither: marks set twice, thresholds passed, records not logged.
    """

    started: int = 0
    in_flight: int = 0
    finished: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    sampled_out: int = 0
    folded: int = 0
    not_folded: int = 0
    lost: int = 0
    torn: int = 0
    notes: dict[str, int] = field(default_factory=dict)

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
        """Return the accounts as values that JSON has."""
        return {
            name: dict(value) if isinstance(value := getattr(self, name), dict) else value
            for name in self.__slots__
        }
