"""What a report says in words: where the time goes, how quick frames pass, what is behind it."""

import contextlib
from typing import TYPE_CHECKING

from latprof.errors import ProfileError
from latprof.profile.profile import Profile
from latprof.text import counted, escape
from latprof.thresholds import LEVELS, Thresholds
from latprof.units import format_bytes, format_ns, format_quantity, format_utc

if TYPE_CHECKING:
    from latprof.queueing.causes import Causes

__all__ = ["headline", "summary"]


def headline(profile: Profile) -> str:
    """Return one sentence: where the time goes."""
    name = profile.pipeline.name
    outside = profile.accounts.notes.get("outside the time range")
    if profile.frames == 0 and outside:
        return f"{name}: no frame is in the time range, {outside:,} are outside of it"
    if profile.frames == 0:
        return f"{name}: no frame has finished"
    total = profile["end_to_end"]
    if total.mean is None:
        return f"{name}: no frame has both start and end"
    if profile.unclaimed is not None:
        return f"{name}: {profile.unclaimed}"
    stage = profile.bottleneck()
    if stage is None or profile[stage].mean is None:
        return f"{name}: {format_ns(total.mean)} mean end to end; no frame has a whole stage"
    slowest = profile[stage]
    part = "" if slowest.share is None else f", {slowest.share:.0%} of end to end"
    behind = ""
    with contextlib.suppress(ProfileError):  # the summary says why
        cause = _other_cause(profile)
        behind = "" if cause is None else f"; its cause is {cause.cause}"
    return f"{name}: the bottleneck is {stage}, {format_ns(slowest.mean)} mean{part}{behind}"


def summary(
    profile: Profile, *, origin: str = "", overhead: str = "", limits: Thresholds | None = None
) -> list[str]:
    """Return what is said below the headline: pace, percentiles, deadlines, causes."""
    lines = [f"read from {escape(origin)}"] if origin else []
    if profile.time_range_ns is None or profile.sums.first_ns is None:
        return lines
    about = "about " if profile.by_weight else ""
    pace = [f"{about}{counted(profile.frames, 'frame')} in {format_ns(profile.time_range_ns)}"]
    if profile.throughput is not None:
        scaled = " (scaled up from the sampled frames)" if profile.sampled else ""
        over = ""
        if profile.active_ns != profile.time_range_ns:
            over = f" over {format_ns(profile.active_ns)} of recording"
        pace.append(f"{format_quantity(profile.throughput)} frames/s{over}{scaled}")
    if profile.sums.sized:
        pace.append(f"{format_bytes(profile.sums.size_bytes / profile.sums.sized)} a frame")
    if profile.bytes_per_second is not None:
        pace.append(f"{format_bytes(profile.bytes_per_second)}/s")
    total = profile["end_to_end"]
    lines.append(", ".join(pace) + f", since {format_utc(profile.sums.first_ns)}")
    lines.append(
        f"end to end: {format_ns(total.mean)} mean, {format_ns(total.max)} at most"
        + ("" if total.peak_frame is None else f" (frame {total.peak_frame})")
    )
    known = [total.percentile(q) for q in (99, 90, 50)]
    best = next((p for p in known if p.low is not None), None)
    if best is not None:
        lines.append(
            f"p{best.q:g}: {format_ns(best.value)}, with 95 % confidence from "
            f"{format_ns(best.low)} to {format_ns(best.high)}"
            f" ({counted(profile.frames, 'frame')} worth {best.effective:,.0f} independent ones)"
        )
    lines += [] if limits is None else _above_thresholds(limits, profile)
    asides = _response(profile), _deadline(profile), _disagreement(profile), _causes(profile)
    cost = [overhead] if overhead else []
    return [*lines, *(line for part in asides for line in part), *cost]


def _response(profile: Profile) -> list[str]:
    """Say what frames took from when they should have started, where that is another time."""
    total = profile["end_to_end"]
    if "response" not in profile.spans:
        return []
    response = profile["response"]
    if response.mean is None or response.histogram == total.histogram:
        return []
    late = [q for q in (50, 99) if response.histogram.value_at(q) is not None]
    told = ", ".join(
        f"p{q} {format_ns(response.histogram.value_at(q))} instead of "
        f"{format_ns(total.histogram.value_at(q))}"
        for q in late
    )
    early = response.negative
    misfit = (
        f"; {counted(early, 'frame')} ended before they were due: the period does not fit"
        if early > response.count
        else ""
    )
    return [
        f"from when they should have started (response): {format_ns(response.mean)} mean, "
        f"{format_ns(response.max)} at most; {told}{misfit}"
    ]


def _deadline(profile: Profile) -> list[str]:
    missed = profile.deadline
    if missed is None:
        return []
    line = (
        f"deadline {format_ns(missed.deadline_ns)}: {missed.misses:,} of "
        f"{counted(missed.frames, 'frame')} missed it ({missed.late:,} late, "
        f"{missed.dropped:,} dropped)"
    )
    if missed.by_stage:
        blamed = sorted(missed.by_stage.items(), key=lambda item: -item[1])
        named = ", ".join(f"{name} {n:,}" for name, n in blamed)
        line += f"; of the late ones by the stage that took most more than usual: {named}"
    return [line]


def _disagreement(profile: Profile) -> list[str]:
    """Say when the slow frames or the variance tell of another stage than the mean does."""
    mean = profile.bottleneck()
    words = {"p99": "by p99", "tail": "in the slowest 1 %", "variance": "by variance"}
    said: dict[str, list[str]] = {}
    for why, word in words.items() if mean is not None else ():
        name = profile.bottleneck(why)
        if name not in (mean, None):
            said.setdefault(str(name), []).append(word)
    apart = [f"{' and '.join(parts)} it is {name}" for name, parts in said.items()]
    return [f"{mean} is slowest by mean, but {'; '.join(apart)}"] if apart else []


def _causes(profile: Profile) -> list[str]:
    """Say which stage is the cause, where that is another one than the slowest by mean."""
    try:
        found = _other_cause(profile)
    except ProfileError as error:
        return [str(error)]
    return [] if found is None else [found.sentence]


def _other_cause(profile: Profile) -> "Causes | None":
    """Return the causes, where they were looked for and name another stage than the mean does.

    Raises
    ------
    ProfileError
        They are not available.
    """
    if profile.parts is None:
        return None
    found = profile.causes
    return None if found.cause in (profile.bottleneck(), None) else found


def _above_thresholds(thresholds: Thresholds, profile: Profile) -> list[str]:
    """Return a line that gives the number of frames above each threshold, or no line."""
    found = []
    for level in LEVELS:
        limit = getattr(thresholds, f"{level}_ns")
        above = None if limit is None else _above(profile, limit)
        if above is not None:
            found.append(f"above {format_ns(limit)} ({level}): {above}")
    return ["; ".join(found)] if found else []


def _above(profile: Profile, limit_ns: int) -> str | None:
    """Return how many frames took longer: exact at a declared edge, otherwise with bounds."""
    total = profile["end_to_end"]
    if not total.count:
        return None
    edges = profile.sums.edges_ns
    if limit_ns in edges:
        least = most = total.count - profile.sums.at_most[edges.index(limit_ns)]
    else:
        fewest, greatest = total.histogram.rank(limit_ns)
        least, most = (total.count - round(part * total.count) for part in (greatest, fewest))
    frames = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    share = f"{(least + most) / 2 / total.count:.1%}"
    return f"{frames} of {counted(total.count, 'frame')} ({share})"
