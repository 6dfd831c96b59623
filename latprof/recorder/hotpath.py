"""The hot path of one profiler: its own copies of the functions that stamp, and what they count."""

import itertools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from latprof.frames import NO_SIZE
from latprof.recorder import stamping
from latprof.recorder.alerts import Alerts, Tally
from latprof.recorder.backpressure import Room
from latprof.recorder.context import let_follow
from latprof.recorder.frame import Frame
from latprof.recorder.stamping import MARKS_AT, LiveFrame
from latprof.ring.ring import Ring, cpu_word
from latprof.thresholds import END_TO_END

__all__ = ["HotPath"]


class HotPath:
    """The functions that stamp into one ring, and what they count.

    Parameters
    ----------
    ring
        Where frames are committed.
    clock
        Returns ns.
    owned
        The marks that this process stamps.
    alerts
        Thresholds and notes.
    sampled_below
        Runs are taken whose hash is below; 2**64 takes all.
    room
        What must be asked before a row is written; None: older rows are overwritten.

    Attributes
    ----------
    frame, record
        Begin a frame, record a whole one: methods of a class that has one instance, which they do
        not need. `Profiler` says how they are called.
    started, skipped
        Counters; `latprof.ring.count_of` reads them.
    rejected
        Frames that never got a commit number, by reason.
    void
        Frames rejected though they had one, by reason.
    voids
        Their numbers, until the fold has passed them.
    dropped
        Frames by the reason of their drop.
    rss, cpu
        The last sample of memory and CPU, that new rows are given.
    live, index, clock, alerts, owned, room
        The class of the frames, where owned marks are in their rows, what stamps them, and what
        was given.
    """

    frame: Callable[..., Frame]
    record: Callable[..., None]

    def __init__(
        self,
        ring: Ring,
        clock: Callable[[], int],
        owned: tuple[str, ...],
        alerts: Alerts,
        sampled_below: int,
        room: Room | None = None,
    ) -> None:
        marks = ring.pipeline.marks
        position = {mark: MARKS_AT + i for i, mark in enumerate(marks)}
        self.index = {mark: position[mark] for mark in owned}
        self.clock, self.alerts, self.owned, self.room = clock, alerts, set(owned), room
        self.started = itertools.count()
        self.skipped = itertools.count()
        self.rejected, self.void, self.dropped = Tally(), Tally(), Tally()
        self.voids: set[int] = set()

        self._rss_at = rss_at = MARKS_AT + len(marks)
        size_at, labels_at, self._cpu_at, seq_at = range(rss_at + 1, rss_at + 5)
        self._blank: list[Any] = [ring.buffer, 0, 0, 0, *[False] * len(marks), 0, NO_SIZE, 0, 0, 0]
        watched = [
            (span.name, position[span.begin], position[span.end], alerts.lowest[span.name])
            for span in ring.pipeline.all_spans
            if span.name in alerts.lowest and span.begin in self.index and span.end in self.index
        ]
        limits = {name: at_most for name, *_, at_most in watched}

        self._names = _copied(stamping)
        self._names |= {
            "ring": ring,
            "clock": clock,
            "alerts": alerts,
            "room": room,
            "owned": owned,
            "marks": marks,
            "mark_count": len(marks),
            "foreign": tuple(i for i, mark in enumerate(marks) if mark not in self.index) or None,
            "index": self.index,
            "owns_start": "start" in self.index,
            "owns_end": "end" in self.index,
            "start_at": position["start"],
            "end_at": position["end"],
            "size_at": size_at,
            "labels_at": labels_at,
            "seq_at": seq_at,
            "watched": watched,
            "stages_watched": any(name != END_TO_END for name in limits),
            "limit": limits.get(END_TO_END),
            "copy_blank": self._blank.copy,
            "spent": [True] * len(self._blank),
            "count_started": self.started.__next__,
            "count_skipped": self.skipped.__next__,
            "draw": ring.tickets.supply.__next__,
            "pack": ring.pack,
            "buffer": ring.buffer,
            "ring_bytes": ring.capacity * ring.width,
            "source_codes": ring.sources.codes,
            "samples": sampled_below < 2**64,
            "sampled_below": sampled_below,
            "runs": {},
            "latest": {},
            "rejected": self.rejected,
            "voided": self.void,
            "voids": self.voids,
            "dropped": self.dropped,
        }
        self.sample(0, float("nan"))
        self.switch(False)
        self.live: type[LiveFrame] = self._names["LiveFrame"]
        let_follow(self.live)
        self.frame = self._names["sampled_frame" if self._names["samples"] else "frame"]
        self.record = self._names["record"]

    def switch(self, on: bool) -> None:
        """Start or stop recording."""
        names = self._names
        names["is_open"] = on
        short = on and names["owns_end"] and self.room is None and not names["stages_watched"]
        names["detour"] = not short

    def sample(self, rss: int, cpu: float) -> None:
        """Give the rows that are begun from now on another sample of memory and CPU."""
        self.rss, self.cpu = rss, cpu
        word = cpu_word(cpu)
        self._blank[self._rss_at], self._blank[self._cpu_at] = rss, word
        self._names["rss"], self._names["cpu_word"] = rss, word


def _copied(module: ModuleType) -> dict[str, Any]:
    """Return the names of a module, its functions and classes as copies for which these are global.

    Their code is copied, too: CPython specializes it for the types that it meets, and two
    profilers have classes of their own.
    """
    names = dict(vars(module))

    def of_function(given: FunctionType) -> FunctionType:
        """Return a copy whose globals are the names of this copy of the module."""
        new = FunctionType(given.__code__.replace(), names, given.__name__, given.__defaults__)
        new.__kwdefaults__, new.__annotations__ = given.__kwdefaults__, given.__annotations__
        new.__doc__ = given.__doc__
        return new

    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            names[name] = of_function(value)
        elif isinstance(value, type):
            content = {
                key: of_function(inner) if isinstance(inner, FunctionType) else inner
                for key, inner in vars(value).items()
            }
            names[name] = type(name, value.__bases__, content)
    return names
