"""Why numbers of a profile may be wrong: one list, which every output shows.

A doubt is about the recording, not about a single cell: clocks, units, frames that are left out.
The sentence of a doubt has a number. A recorder counts suspicious events in the notes of its
accounts; `COUNTED` says which of these notes are doubts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latprof.accounts import (
    DISORDERED,
    DISTANT,
    REPEATED,
    TINY_THRESHOLD,
    UNSTARTED,
    WITHOUT_FRAME,
    is_unfinished,
    union,
)
from latprof.profile.answers import pause_of
from latprof.text import clip, counted
from latprof.units import format_exact, format_ns, format_quantity, format_utc

if TYPE_CHECKING:
    from latprof.profile.profile import Profile

__all__ = ["COUNTED", "MANY_LEFT_OUT", "Doubt", "added_up", "doubts_of", "how_negative"]

COUNTED = {
    "rows that cannot be read": "rows that cannot be read: {n:,}; they are left out",
    DISORDERED: (
        "frames with marks out of the pipeline's order: {n:,}; stamp marks in that order, or "
        "declare them in the order in which they happen"
    ),
    DISTANT: (
        "frames with stamps more than a day from the profiler's clock: {n:,}; are stamps in ms or "
        "us given as ns, or of another clock?"
    ),
    TINY_THRESHOLD: "thresholds below 1 us: {n:,}; 50 means 50 ns, write '50ms' for 50 ms",
    UNSTARTED: (
        "calls of a profiler that was never started, which recorded nothing: {n:,}; call start() "
        "in each process, or use the profiler in `with`"
    ),
    WITHOUT_FRAME: (
        "calls of a stage without a current frame, which are not stamped: {n:,}; in an executor, "
        "use contextvars.copy_context().run"
    ),
    "files given more than once": "files given more than once: {n:,}; their frames count again",
    REPEATED: "profiles of the same frames merged: {n:,}; their frames count again",
}
"""Notes of the accounts that are doubts, and the sentence on each; `n` is the count."""

MANY_LEFT_OUT = 0.01  # part of the finished frames
FASTEST_RATE = 10_000_000  # plausible frames a second
SHORTEST_NS = 1_000  # if all frames of a pipeline are quicker, the unit is doubtful
FEWEST_STAMPS = 30  # with fewer stamps, multiples of a step may be a coincidence
STEPS = 50  # a resolution matters if usual times are shorter than this many steps
YEAR_1971_NS = 365 * 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason why numbers may be wrong: `key` for programs, and a sentence with the number."""

    key: str
    sentence: str


def doubts_of(profile: "Profile") -> list[Doubt]:
    """Return the doubts about a profile, the most severe first."""
    found: list[Doubt] = []
    if profile.frames:
        found += [*_negative(profile), *_unit(profile), *_added_up(profile)]
        found += [*_paused(profile), *_left_out(profile)]
        found += [*_resolution(profile), *_clocks(profile)]
    accounts = profile.accounts
    if is_unfinished(accounts):
        frames = counted(accounts.started, "frame")
        sentence = f"{accounts.in_flight:,} of {frames} are in flight: is finish() called?"
        found.append(Doubt("in flight", sentence))
    notes = accounts.notes
    known = (name for name in COUNTED if notes.get(name))
    return [*found, *(Doubt(name, COUNTED[name].format(n=notes[name])) for name in known)]


def how_negative(profile: "Profile", name: str = "end_to_end") -> str:
    """Return by how much the span that is most negative ends before it begins, ``"5 us"``."""
    ns = -profile[name].most_negative
    return format_exact(ns if ns < 10**9 else round(ns, -8))


def _negative(profile: "Profile") -> Iterator[Doubt]:
    total = profile["end_to_end"]
    if total.negative:
        every = total.negative == profile.frames
        which = "all frames" if every else f"{total.negative:,} of {profile.frames:,} frames"
        yield Doubt(
            "negative",
            f"{which} end before they begin, by up to {how_negative(profile)}: "
            "clocks or time zones?",
        )


def _unit(profile: "Profile") -> Iterator[Doubt]:
    """Doubt the unit of stamps, unless a profiler of latprof has recorded them: it uses ns."""
    first, most, rate = profile.sums.first_ns, profile["end_to_end"].max, profile.throughput
    if profile.stamp_ns or profile.untimed or profile.reading:  # the unit is known
        return
    signs = []
    if first is not None and 0 <= first < YEAR_1971_NS:
        signs.append(f"frames start in 1970 ({format_utc(first)})")
    if rate is not None and rate > FASTEST_RATE:
        signs.append(f"{format_quantity(rate)} frames/s")
    if most is not None and most < SHORTEST_NS:
        signs.append(f"no frame takes longer than {format_ns(most)}")
    if signs:
        yield Doubt("unit", f"{', '.join(signs)}: are stamps in ms or us given as ns?")


def added_up(profile: "Profile") -> str:
    """Return a sentence on recordings that were made one after the other, or an empty text."""
    several = len(profile.recordings)
    if several < 2 or len(union(profile.segments)) < several:
        return ""
    return f"adds up {several:,} recordings, which latprof compare sets against each other"


def _added_up(profile: "Profile") -> Iterator[Doubt]:
    sentence = added_up(profile)
    if sentence:
        yield Doubt("added up", sentence)


def _paused(profile: "Profile") -> Iterator[Doubt]:
    """Report several runs in one recording, and recordings of the same time."""
    pause = pause_of(profile.sums)
    if pause is not None:
        before, after = max(pause.pauses, key=lambda pause: pause[1] - pause[0])
        yield Doubt(
            "paused",
            f"frames come in {len(pause.pauses) + 1} runs of {format_ns(pause.active_ns)} in all, "
            f"with {format_ns(pause.paused_ns)} between them, and rates are over the whole time: "
            f"split them with --to {format_utc(before + 1_000)} and --from {format_utc(after)}; "
            "latprof compare sets runs against each other",
        )
    known = union(profile.segments)
    twice = sum(end - begin for begin, end in profile.segments)
    twice -= sum(end - begin for begin, end in known)
    if twice > 0:
        yield Doubt(
            "overlap",
            f"recordings overlap for {format_ns(twice)}: rates are of all of them together",
        )


_MOST_MARKS = 6  # named in a doubt


def _resolution(profile: "Profile") -> Iterator[Doubt]:
    """Report marks that are so coarse that distances of frames, or their times, are rounded."""
    usual = profile["end_to_end"].histogram.value_at(50)
    if profile.frames < FEWEST_STAMPS or usual is None or profile.bins is not None:
        return
    spacing = (profile.time_range_ns or 0) / profile.frames
    by_step: dict[int, list[str]] = {}
    for mark, grid in profile.sums.grids.items():
        step = grid.resolution
        if step is not None and step * STEPS > min(spacing, usual):
            by_step.setdefault(step, []).append(mark)
    for step, marks in by_step.items():
        have = "have" if len(marks) > 1 else "has"
        if len(marks) > _MOST_MARKS:
            marks[_MOST_MARKS - 1 :] = [f"{len(marks) - _MOST_MARKS + 1} other marks"]
        yield Doubt(
            "resolution",
            f"{', '.join(marks)} {have} a resolution of {format_exact(step)}: shorter times and "
            "the order of frames within it are not known",
        )


def _clocks(profile: "Profile") -> Iterator[Doubt]:
    for host, clock in sorted(profile.clocks.items()):
        if clock.doubt and clock.spans:
            spans = ", ".join(clock.spans)
            yield Doubt("clocks", f"{spans}: the clock of {clip(host)} {clock.doubt}")


def _left_out(profile: "Profile") -> Iterator[Doubt]:
    excluded, frames = profile.sums.excluded, profile.frames
    n = sum(excluded.values())
    if n >= MANY_LEFT_OUT * frames:
        named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(excluded.items()))
        left = counted(profile.sums.attributed, "frame")
        yield Doubt(
            "left out",
            f"shares are over {left} of {frames:,}, means over all that have the span; "
            f"left out of shares: {named}",
        )
