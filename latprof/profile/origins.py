"""Which machines and versions recorded what a profile is made of; merged in any order."""

from dataclasses import dataclass, field
from typing import Any

from latprof.errors import ProfileError

__all__ = ["MOST_RECORDERS", "Recorder", "Recorders", "Written"]

MOST_RECORDERS = 100
"""So many are kept apart, the first by the alphabet; of others it is known how many files."""

_LONGEST = 80


@dataclass(frozen=True, slots=True, order=True)
class Recorder:
    """A machine and what ran on it; "" where a file does not say."""

    host: str
    python: str
    latprof: str


@dataclass(frozen=True, slots=True)
class Written:
    """How many files a recorder wrote, and when the first and the last one; "" is not known."""

    files: int
    first: str = ""
    last: str = ""

    def __add__(self, other: "Written") -> "Written":
        known = sorted(filter(None, (self.first, self.last, other.first, other.last)))
        first, last = (known[0], known[-1]) if known else ("", "")
        return Written(self.files + other.files, first, last)


@dataclass(slots=True)
class Recorders:
    """Who wrote the files; `others` counts those of recorders past the first hundred.

    Examples
    --------
    >>> found = Recorders()
    >>> found.add({"host": "kvm-1", "python": "3.11.7", "created": "2026-11-24T10:00:00Z"})
    >>> [(who.host, written.files) for who, written in found.written.items()]
    [('kvm-1', 1)]
    """

    written: dict[Recorder, Written] = field(default_factory=dict)
    others: int = 0

    def add(self, meta: dict[str, Any]) -> None:
        """Take in what a trace file says about itself."""
        keys = ("host", "python", "latprof", "created")
        *who, created = (str(meta.get(key) or "")[:_LONGEST] for key in keys)
        self._count(Recorder(*who), Written(1, created, created))
        self._limit()

    def merge(self, other: "Recorders") -> None:
        """Take in those of another profile."""
        for recorder, written in other.written.items():
            self._count(recorder, written)
        self.others += other.others
        self._limit()

    def _count(self, recorder: Recorder, written: Written) -> None:
        self.written[recorder] = self.written.get(recorder, Written(0)) + written

    def _limit(self) -> None:
        # who is among the first of all is among the first of any part: nothing is counted in part
        for recorder in sorted(self.written)[MOST_RECORDERS:]:
            self.others += self.written.pop(recorder).files

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON has: host, versions, number of files, the first, the last."""
        rows = [
            [who.host, who.python, who.latprof, written.files, written.first, written.last]
            for who, written in sorted(self.written.items(), key=lambda item: item[0])
        ]
        return {"files": rows, "others": self.others}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Recorders":
        """Return what `to_dict` has written.

        Raises
        ------
        ProfileError
            What stands there cannot be.
        """
        written, others = {}, content["others"]
        for host, python, version, files, first, last in content["files"]:
            texts = host, python, version, first, last
            if type(files) is not int or files < 0 or not all(isinstance(t, str) for t in texts):
                raise ProfileError("recorders that cannot be: the file is damaged")
            written[Recorder(host, python, version)] = Written(files, first, last)
        if type(others) is not int or others < 0 or len(written) > MOST_RECORDERS:
            raise ProfileError("recorders that cannot be: the file is damaged")
        return cls(written, others)
