"""A profile in sentences and tables, for reports, `str(profile)` and notebooks."""

from typing import TYPE_CHECKING

from latprof.accounts import DISORDERED, NOT_READ
from latprof.errors import ProfileError
from latprof.hosts import clock_lines
from latprof.profile.doubts import COUNTED, MANY_LEFT_OUT, added_up, how_negative
from latprof.profile.span import TABLE_PERCENTILES, SpanProfile, percentile_key
from latprof.table import Cell, Column, Section, Table
from latprof.text import clip, counted
from latprof.thresholds import Thresholds
from latprof.units import format_bytes, format_exact, format_ns, format_quantity, format_utc

if TYPE_CHECKING:
    from latprof.profile.profile import Profile
    from latprof.queueing.causes import Causes

__all__ = [
    "MOST_ROWS",
    "groups",
    "headline",
    "known_causes",
    "other_cause",
    "pace",
    "percentiles_in_bins",
    "sections_of",
    "spans",
]

MOST_ROWS = 20  # of groups and windows in a table

# the order in which a narrow terminal leaves columns out; bars are third, other columns stay
_SPARE = {"min": 1, "std": 2, "p90": 4, "p99.9": 5, "p50": 7}


def sections_of(profile: "Profile") -> list[Section]:
    """Return what `print(profile)` and notebooks show: the bottleneck, all spans, the groups."""
    lines, first = pace(profile), headline(profile)
    every = (doubt.sentence for doubt in profile.doubts)
    summary = Section(
        first,
        () if lines is None else (lines,),
        key="summary",
        doubts=tuple(sentence for sentence in every if sentence not in first),
    )
    by_group = [groups(profile)] if profile.groups else []
    return [summary, spans(profile), *by_group]


# -- sentences ----------------------------------------------------------------------------------


def headline(profile: "Profile") -> str:
    """Return one sentence: where the time goes, which rows are missing, and repeated recordings."""
    missing = {
        name.removeprefix(f"{NOT_READ} "): rows
        for name, rows in profile.accounts.notes.items()
        if name.startswith(NOT_READ)
    }
    rows = f"{counted(sum(missing.values()), 'row')} missing"
    lacking = f"{rows}, which could not be read: {'; '.join(map(clip, missing))}"
    parts = [_where(profile), lacking if missing else "", added_up(profile)]
    return "; ".join(part for part in parts if part)


def _where(profile: "Profile") -> str:
    """Return where the time goes, or why that is not known."""
    name = profile.pipeline.name
    outside = profile.accounts.notes.get("outside the time range")
    dropped = profile.accounts.dropped
    if profile.frames == 0 and dropped:
        most = sorted(dropped, key=lambda reason: -dropped[reason])
        reasons = ", ".join(clip(reason, 20) for reason in most[:3])
        further = f" and {len(most) - 3:,} more reasons" if len(most) > 3 else ""
        count = counted(sum(dropped.values()), "frame")
        return f"{name}: no frame has finished: {count} dropped ({reasons}{further})"
    if profile.frames == 0 and outside:
        return f"{name}: no frame is in the time range, {outside:,} are outside of it"
    if profile.frames == 0:
        return f"{name}: no frame has finished"
    total = profile["end_to_end"]
    if profile.bins is not None:
        mean = "" if total.mean is None else f"{format_ns(total.mean)} mean, "
        return f"{name}: {mean}{percentiles_in_bins(profile)}"
    if total.mean is None and total.negative:
        every = "all frames end" if total.negative == profile.frames else "all frames with both end"
        by = f"by up to {how_negative(profile)}"
        return f"{name}: {every} before they begin, {by}: clocks or time zones?"
    if total.mean is None:
        return f"{name}: no frame has both start and end"
    disordered = profile.accounts.notes.get(DISORDERED, 0)
    if 2 * disordered > profile.frames:
        return f"{name}: {COUNTED[DISORDERED].format(n=disordered)}"
    if profile.unclaimed is not None:
        return f"{name}: {profile.unclaimed}"
    stage = profile.bottleneck()
    if stage is None or profile[stage].mean is None:
        return f"{name}: {format_ns(total.mean)} mean end to end; no frame has a whole stage"
    slowest = profile[stage]
    frames, attributed = profile.frames, profile.sums.attributed
    some = (
        f" in {slowest.count:,} of {frames:,} frames" if _lacks_many(slowest.count, frames) else ""
    )
    part = "" if slowest.share is None else f", {slowest.share:.0%} of end to end"
    if part and _lacks_many(attributed, frames):
        part += f" in {attributed:,} of {frames:,} frames"
    cause = other_cause(profile)
    behind = "" if cause is None else f"; its cause is {' or '.join(cause.named)}"
    return f"{name}: the bottleneck is {stage}, {format_ns(slowest.mean)} mean{some}{part}{behind}"


def _lacks_many(some: int, frames: int) -> bool:
    """Return whether 1 % of the frames or more are left out of a number."""
    return frames - some >= MANY_LEFT_OUT * frames


def other_cause(profile: "Profile") -> "Causes | None":
    """Return the causes if they name another stage than the bottleneck by mean, or None."""
    found, _ = known_causes(profile)
    return None if found is None or found.cause in (profile.bottleneck(), None) else found


def known_causes(profile: "Profile") -> tuple["Causes | None", str]:
    """Return the causes and "", or None and the reason, which is "" if they were not folded."""
    if profile.cause_sums is None:
        return None, ""
    try:
        return profile.causes, ""
    except ProfileError as error:
        return None, str(error)


def percentiles_in_bins(profile: "Profile") -> str:
    """Return p50, p90 and p99 of a histogram of another tool, with the edges of their bins."""
    found = []
    for known in (profile["end_to_end"].percentile(q) for q in (50, 90, 99)):
        low, high = known.low, known.high
        if low is not None and high is not None and high - low > high / 100:
            found.append(f"p{known.q:g} in ({format_ns(known.low)}, {format_ns(known.high)}]")
        elif known.is_lower_bound:
            found.append(f"p{known.q:g} {known.note}")
        else:
            found.append(f"p{known.q:g} {format_ns(known.value)}")
    return ", ".join(found)


def pace(profile: "Profile") -> str | None:
    """Return a sentence on the number, rate and size of frames, or None without finished frames."""
    if profile.bins is not None:
        return (
            f"{counted(profile.frames, 'value')} in bins, without their times: rate, order, "
            "windows, intervals and causes are not available"
        )
    if profile.untimed and profile.frames:
        return (
            f"{counted(profile.frames, 'frame')}, of which durations are known, but no times: "
            "rate, order, windows, intervals and causes are not available"
        )
    if profile.time_range_ns is None or profile.sums.first_ns is None:
        return None
    about = "about " if profile.by_weight else ""
    parts = [f"{about}{counted(profile.frames, 'frame')}"]
    if profile.time_range_ns >= 0:
        parts[0] += f" in {format_ns(profile.time_range_ns)}"
    if profile.throughput is not None:
        scaled = " (scaled up from the sampled frames)" if profile.sampled else ""
        over = ""
        if profile.active_ns != profile.time_range_ns:
            over = f" over {format_ns(profile.active_ns)} of recording"
        parts.append(f"{format_quantity(profile.throughput)} frames/s{over}{scaled}")
    if profile.sums.sized:
        parts.append(f"{format_bytes(profile.sums.size_bytes / profile.sums.sized)} a frame")
    if profile.bytes_per_second is not None:
        parts.append(f"{format_bytes(profile.bytes_per_second)}/s")
    return ", ".join(parts) + f", since {format_utc(profile.sums.first_ns)}"


# -- tables -------------------------------------------------------------------------------------


def spans(profile: "Profile", thresholds: Thresholds | None = None) -> Section:
    """Return share, mean, percentiles and extremes of every span.

    A percentile without a confidence interval is doubtful: there are too few frames for it.
    """
    level = (thresholds or Thresholds()).level
    rows, doubtful, rounded = [], False, []
    for row in profile.rows():
        if profile.bins is not None and row["span"] == "other":
            continue  # the same as end_to_end, of which no part is known
        span = profile[row["span"]]
        least, mean, most = (Cell(row[key], level(row[key])) for key in ("min", "mean", "max"))
        cells = [row["span"], Cell(row["share"], bar=row["share"]), mean, row["std"], least]
        for q in TABLE_PERCENTILES:
            value = row[percentile_key(q)]
            weak = value is not None and q > (row["resolves"] or 0)
            coarse = span.too_coarse(value)
            doubtful |= weak
            rounded += [span] if coarse and span not in rounded else []
            cells.append(Cell(value, level(value), doubtful=weak or coarse))
        rows.append([*cells, most])
    times = ["mean", "std", "min", *(f"p{q:g}" for q in TABLE_PERCENTILES), "max"]
    columns = (
        Column("span", "span"),
        Column("share", "share", bar=8),
        *(Column(name, "time", spare=_SPARE.get(name, 0)) for name in times),
    )
    lines = [_missing(profile)]
    measuring = profile.mostly_measuring
    if measuring:
        lines.append(
            f"mostly the cost of measuring, as a clock read takes {profile.stamp_ns} ns: "
            + ", ".join(measuring)
        )
    lines += clock_lines(profile.clocks)
    if rounded:
        lines.append(f"? multiples of {_multiples(rounded)}: percentiles are as coarse")
    if profile.bins is not None:
        known = "percentiles" if profile.bins.max_ns is not None else "percentiles and max"
        lowest = "" if profile.bins.min_ns is not None else ", min is the lower edge of its bin"
        lines.append(f"{known} are the upper edges of their bins{lowest}")
        if doubtful:
            lines.append("? in the open bucket, which has no upper edge")
    elif doubtful and profile.untimed:
        lines.append("? without times, a percentile has no confidence interval")
    elif doubtful:
        lines.append(f"? not enough frames for a reliable estimate: {_doubt(profile)}")
    return Section("Spans", tuple(lines), Table(columns, rows), "spans")


def _multiples(spans: list[SpanProfile]) -> str:
    """Name what the values of spans are multiples of: ``"1 ms in decode and play"``."""
    by_step: dict[int, list[str]] = {}
    for span in spans:
        by_step.setdefault(span.step, []).append(span.name)
    return ", ".join(f"{format_exact(step)} in {', '.join(n)}" for step, n in by_step.items())


def _missing(profile: "Profile") -> str:
    """Return how many frames lack each span, and how many are left out of shares."""
    parts = []
    for what in ("missing", "negative"):
        found = {name: getattr(profile[name], what) for name in profile.spans}
        amounts = dict.fromkeys(found, "")
        if what == "negative":
            amounts = {name: f" (by up to {how_negative(profile, name)})" for name in found}
        named = ", ".join(f"{name} {n:,}{amounts[name]}" for name, n in found.items() if n)
        parts.append(f"{what}: {named or 'none'}")
    excluded = profile.sums.excluded
    if excluded:
        named = ", ".join(f"{reason} {n:,}" for reason, n in excluded.items())
        parts.append(f"left out of share and other: {named}")
    return "; ".join(parts)


def _doubt(profile: "Profile") -> str:
    """Say why the first percentile of end_to_end, or of any span, has no interval."""
    for name in sorted(profile.spans, key=lambda name: name != "end_to_end"):
        for q in TABLE_PERCENTILES:
            known = profile[name].percentile(q)
            if known.value is not None and known.low is None:
                return f"{name}: {known.note}"
    return ""


def groups(profile: "Profile", thresholds: Thresholds | None = None) -> Section:
    """Return the numbers of end_to_end and the bottleneck of each group, the largest first."""
    level = (thresholds or Thresholds()).level
    by = clip(profile.by or "group")
    found = sorted(profile.groups.items(), key=lambda item: -item[1].frames)
    most = max((group.frames for _, group in found), default=0) or 1
    rows: list[list[Cell | str | None]] = []
    for name, group in found[:MOST_ROWS]:
        total = group["end_to_end"]
        frames = Cell(group.frames, bar=group.frames / most)
        p50, p99 = (total.percentile(q) for q in (50, 99))
        mean, median, top = (Cell(x, level(x)) for x in (total.mean, p50.value, total.max))
        tail = Cell(p99.value, level(p99.value), doubtful=p99.value is not None and p99.low is None)
        missed = group.deadline
        rows.append(
            [
                *(name, frames, mean, median, tail, p99.interval or "-", top),
                *([] if missed is None else [Cell(missed.misses)]),
                group.bottleneck(),
            ]
        )
    columns = (
        Column(by, "name"),
        Column("frames", "count"),
        *(Column(name, "time") for name in ("mean", "p50", "p99")),
        Column("its interval", spare=1),
        Column("max", "time"),
        *([] if profile.sums.deadline_ns is None else [Column("missed", "count")]),
        Column("bottleneck"),
    )
    more = len(found) - len(rows)
    lines = (f"and {more:,} more",) if more > 0 else ()
    return Section(f"By {by}", lines, Table(columns, rows), "groups")
