"""Accounts: how many frames were started, finished, dropped, lost, in flight, and why.

Also which programs recorded them and when, and what a ring file contained.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from typing import Any

from latprof.arrays import Count
from latprof.text import counted

__all__ = [
    "DISORDERED",
    "DISTANT",
    "MOST_RECORDERS",
    "NOT_READ",
    "REPEATED",
    "TINY_THRESHOLD",
    "UNFINISHED",
    "UNSTARTED",
    "WITHOUT_FRAME",
    "Accounts",
    "InFlight",
    "Recorder",
    "Recorders",
    "Recovery",
    "Written",
    "is_unfinished",
    "union",
]

NOT_READ = "rows not read of"
"""Begin of the note on a part of files that could not be read; the name of the part follows."""

REPEATED = "profiles given more than once"

# notes of a recorder on probable mistakes of the program
DISORDERED = "frames with marks out of order"
DISTANT = "frames more than a day from the clock"
TINY_THRESHOLD = "thresholds below 1 us"
UNFINISHED = "frames that do not finish"
UNSTARTED = "calls of a profiler that was never started"
WITHOUT_FRAME = "calls of a stage without a current frame"

FEWEST_IN_FLIGHT = 5  # frames in flight from which on finish() may be forgotten

MOST_RECORDERS = 100
"""Most recorders that are counted one by one, the first in alphabetical order."""

_LONGEST = 80  # characters of a host's name or a version


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


def is_unfinished(accounts: Accounts) -> bool:
    """Return whether half of the frames, and at least five, are in flight: they may never finish.

    Examples
    --------
    >>> is_unfinished(Accounts(started=5, in_flight=5)), is_unfinished(Accounts(started=100))
    (True, False)
    """
    return accounts.in_flight >= max(FEWEST_IN_FLIGHT, accounts.started / 2)


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
    rejected
        Rows of frames that were rejected.
    """

    whole: int
    torn: int
    never_written: int
    refused: int = 0
    cut_off: int = 0
    being_written: int = 0
    rejected: int = 0

    def __str__(self) -> str:
        text = (
            f"{counted(self.whole, 'row')} whole, {self.torn:,} torn, "
            f"{self.never_written:,} never written"
        )
        text += f", {self.rejected:,} rejected" if self.rejected else ""
        text += f", {self.refused:,} refused" if self.refused else ""
        text += f", {self.cut_off:,} cut off" if self.cut_off else ""
        return text + (f", {self.being_written:,} being written" if self.being_written else "")


@dataclass(frozen=True, slots=True)
class InFlight:
    """A frame that had begun and was not finished when the ring file was read.

    Parameters
    ----------
    frame_id, source, size
        As in a trace; None if not known.
    tags
        The tags that were set, by name.
    marks
        The stamps so far, UTC ns by mark.
    stage
        The stage in which the frame was: the last one that had begun and not ended. None if the
        last mark that was set is inside no stage.
    thread
        The id that the operating system gave the thread that began the frame, or 0 if unknown.
    until_ns
        The time up to which the frame is known to have been in flight, UTC ns: now if the process
        is alive, otherwise its last sign of life.

    Examples
    --------
    >>> from latprof import InFlight
    >>> marks = {"start": 1_000, "decode": 3_000}
    >>> frame = InFlight(7, "input", None, {}, marks, "decode", 4711, 9_000)
    >>> frame.age_ns, frame.stage_ns, frame.where
    (8000, 6000, 'decode')
    """

    frame_id: int
    source: str | None
    size: int | None
    tags: dict[str, str]
    marks: dict[str, int]
    stage: str | None
    thread: int
    until_ns: int

    @property
    def age_ns(self) -> int | None:
        """The time since the first stamp in ns, or None if there is none."""
        return self.until_ns - min(self.marks.values()) if self.marks else None

    @property
    def stage_ns(self) -> int | None:
        """The time since the last stamp in ns, or None if there is none."""
        return self.until_ns - max(self.marks.values()) if self.marks else None

    @property
    def where(self) -> str:
        """The stage, or "after" and the last mark, or "begun" if no mark is set."""
        if self.stage is not None:
            return self.stage
        return f"after {max(self.marks, key=self.marks.__getitem__)}" if self.marks else "begun"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def is_valid(cls, value: object) -> bool:
        """Return whether a JSON value has the fields and types that `to_dict` returns."""
        if not isinstance(value, Mapping) or value.keys() != {f.name for f in fields(cls)}:
            return False
        numbers, texts = ("frame_id", "thread", "until_ns"), ("source", "stage")
        return (
            all(type(value[name]) is int and abs(value[name]) < 2**64 for name in numbers)
            and (value["size"] is None or type(value["size"]) is int)
            and all(value[name] is None or isinstance(value[name], str) for name in texts)
            and _is_table(value["tags"], str)
            and _is_table(value["marks"], int)
        )


def _is_table(value: object, kind: type) -> bool:
    """Return whether a JSON value is an object with values of one type."""
    return isinstance(value, dict) and all(type(each) is kind for each in value.values())


# -- which programs recorded the frames ---------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Recorder:
    """A host, the versions of Python and latprof, and the stamping core; "" if unknown."""

    host: str
    python: str
    latprof: str
    core: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """How many files a recorder wrote, and when it wrote the first and the last; "" if unknown."""

    files: Count
    first: str = ""
    last: str = ""

    def __add__(self, other: "Written") -> "Written":
        first = min(filter(None, (self.first, other.first)), default="")
        return Written(self.files + other.files, first, max(self.last, other.last))


@dataclass(slots=True)
class Recorders:
    """The recorders of files; `others` counts the files of recorders beyond `MOST_RECORDERS`.

    Examples
    --------
    >>> found = Recorders()
    >>> found.add({"host": "kvm-1", "python": "3.11.7", "created": "2026-11-24T10:00:00Z"})
    >>> [(recorder.host, written.files) for recorder, written in found.written.items()]
    [('kvm-1', 1)]
    """

    written: dict[Recorder, Written] = field(default_factory=dict)
    others: Count = 0

    def __post_init__(self) -> None:
        """Check the number of recorders.

        Raises
        ------
        ValueError
            There are more than `MOST_RECORDERS`.
        """
        if len(self.written) > MOST_RECORDERS:
            raise ValueError(
                f"there must be at most {MOST_RECORDERS} recorders, got {len(self.written)}"
            )

    def add(self, meta: dict[str, Any]) -> None:
        """Count a trace file by its metadata."""
        keys = ("host", "python", "latprof", "core", "created")
        *names, created = (str(meta.get(key) or "")[:_LONGEST] for key in keys)
        self.merge(Recorders({Recorder(*names): Written(1, created, created)}))

    def merge(self, other: "Recorders") -> None:
        """Add the recorders of another profile."""
        for recorder, written in other.written.items():
            self.written[recorder] = self.written.get(recorder, Written(0)) + written
        self.others += other.others
        # a recorder among the first of the whole is among the first of each part, so that no kept
        # count lacks files
        for recorder in sorted(self.written)[MOST_RECORDERS:]:
            self.others += self.written.pop(recorder).files

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: host, versions, core, number of files, first and last time."""
        known = sorted(self.written)
        rows = [[*astuple(recorder), *astuple(self.written[recorder])] for recorder in known]
        return {"files": rows, "others": self.others}


def union(segments: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches of time that segments cover together, in order.

    Examples
    --------
    >>> union([(5, 9), (0, 2), (8, 12)])
    [(0, 2), (5, 12)]
    """
    covered: list[tuple[int, int]] = []
    for begin, end in sorted(segments):
        if covered and begin <= covered[-1][1]:
            covered[-1] = (covered[-1][0], max(covered[-1][1], end))
        else:
            covered.append((begin, end))
    return covered
