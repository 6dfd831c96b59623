"""The sections of a report: sentences about a profile, and tables of its values."""

from collections.abc import Iterable

from latprof.fold.sums import SpanSums
from latprof.profile import tables
from latprof.profile.answers import COARSE_ERROR, stages_of, timeline_rows
from latprof.profile.profile import Profile
from latprof.table import Cell, Column, Section, Table
from latprof.text import clip, counted
from latprof.thresholds import Thresholds
from latprof.units import format_exact, format_ns

__all__ = ["above_thresholds", "range_name", "sections", "summary_lines"]

_TIMES = ("mean", "p50", "p99", "max")
_LONGEST_SPANS = 3  # named for each of the slowest frames


def sections(profile: Profile, thresholds: Thresholds, worst: int) -> list[Section]:
    """Return the sections after the summary, in order, without those that would be empty.

    Parameters
    ----------
    profile
        The profile of the report.
    thresholds
        Values above them are marked.
    worst
        How many of the slowest frames are listed.
    """
    found = []
    if profile.frames:
        found.append(tables.spans(profile, thresholds))
    if profile.frames and profile.bins is None:
        found.append(_ranges(profile, thresholds))
    if profile.order is not None and profile.frames:
        found.append(_order(profile))
    if profile.groups:
        found.append(tables.groups(profile, thresholds))
    if profile.sums.timeline is not None:
        found += [_windows(profile, thresholds, total.name) for total in profile.pipeline.totals]
    if profile.slowest(worst):
        found.append(_worst(profile, thresholds, worst))
    return [*found, _accounts(profile)]


# -- sentences ----------------------------------------------------------------------------------


def summary_lines(profile: Profile, thresholds: Thresholds) -> list[str]:
    """Return the sentences below the headline: frames, end to end, thresholds, deadline, cause."""
    frames = tables.pace(profile)
    if frames is None:
        return list(_deadline(profile)) if profile.sums.dropped else []
    total = profile["end_to_end"]
    if profile.bins is not None:
        return [frames] if total.max is None else [frames, f"{format_ns(total.max)} at most"]
    slowest = "" if total.peak_frame is None else f" (frame {total.peak_frame})"
    return [
        frames,
        f"end to end: {format_ns(total.mean)} mean, {format_ns(total.max)} at most{slowest}",
        *_interval(profile),
        *above_thresholds(profile, thresholds),
        *_response(profile),
        *_deadline(profile),
        *_disagreement(profile),
        *_causes(profile),
    ]


def _interval(profile: Profile) -> Iterable[str]:
    """Yield a line on the highest of p99, p90 and p50 that has an interval."""
    total = profile["end_to_end"]
    known = (total.percentile(q) for q in (99, 90, 50))
    best = next((p for p in known if p.low is not None), None)
    if best is not None:
        yield (
            f"p{best.q:g}: {format_ns(best.value)}, 95 % confidence interval "
            f"{best.interval} (effective sample size "
            f"{best.effective:,.0f} of {counted(profile.frames, 'frame')})"
        )


def above_thresholds(profile: Profile, thresholds: Thresholds) -> Iterable[str]:
    """Yield a line with the number of frames above each threshold of end_to_end."""
    if profile["end_to_end"].count and thresholds.limits:
        yield "; ".join(
            f"above {format_exact(limit)} ({level}): {_above(profile, limit)}"
            for level, limit in thresholds.limits.items()
        )


def _above(profile: Profile, limit_ns: int) -> str:
    """Return how many frames took longer: exact at a declared edge, otherwise with bounds."""
    total, edges = profile["end_to_end"], profile.sums.edges_ns
    if limit_ns in edges:
        least = most = total.count - profile.sums.at_most[edges.index(limit_ns)]
    else:
        fewest, greatest = total.histogram.rank(limit_ns)
        least, most = (total.count - round(part * total.count) for part in (greatest, fewest))
    frames = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    share = f"{(least + most) / 2 / total.count:.1%}"
    return f"{frames} of {counted(total.count, 'frame')} ({share})"


def _response(profile: Profile) -> Iterable[str]:
    """Yield a line that compares response with end_to_end, unless all frames started when due."""
    if "response" not in profile.spans:
        return
    total, response = profile["end_to_end"], profile["response"]
    if response.mean is None or response.histogram == total.histogram:
        return
    percentiles = ", ".join(
        f"p{q} {format_ns(response.histogram.value_at(q))} instead of "
        f"{format_ns(total.histogram.value_at(q))}"
        for q in (50, 99)
        if response.histogram.value_at(q) is not None
    )
    early = response.negative
    misfit = ""
    if early > response.count:
        misfit = f"; {counted(early, 'frame')} ended before they were due: the period is wrong"
    yield (
        f"response (from when a frame was due): {format_ns(response.mean)} mean, "
        f"{format_ns(response.max)} at most; {percentiles}{misfit}"
    )


def _deadline(profile: Profile) -> Iterable[str]:
    """Give how many frames missed the deadline, and by which stage."""
    missed = profile.deadline
    if missed is None:
        return
    line = (
        f"deadline {format_exact(missed.deadline_ns)}: {missed.misses:,} of "
        f"{counted(missed.frames, 'frame')} missed it ({missed.late:,} late, "
        f"{missed.dropped:,} dropped)"
    )
    if missed.unknown:
        line += f"; {missed.unknown:,} more have no known {_name(profile.sums.deadline_span)}"
    if missed.by_stage:
        late = sorted(missed.by_stage.items(), key=lambda item: -item[1])
        named = ", ".join(f"{name} {n:,}" for name, n in late)
        line += f"; late frames by the stage that exceeded its usual time most: {named}"
    yield line


def _disagreement(profile: Profile) -> Iterable[str]:
    """Yield a line if p99, the slowest frames or the variance name another stage than the mean."""
    mean = profile.bottleneck()
    if mean is None:
        return
    words = {"p99": "by p99", "tail": "in the slowest 1 %", "variance": "by variance"}
    found: dict[str, list[str]] = {}
    for why, word in words.items():
        name = profile.bottleneck(why)
        if name not in (mean, None):
            found.setdefault(str(name), []).append(word)
    if found:
        others = "; ".join(f"{' and '.join(by)} it is {name}" for name, by in found.items())
        yield f"{mean} is slowest by mean, but {others}"


def _causes(profile: Profile) -> Iterable[str]:
    """Yield a line on the cause if it is another stage than the one with the highest mean."""
    _, unavailable = tables.known_causes(profile)
    other = tables.other_cause(profile)
    if unavailable:
        yield unavailable
    elif other is not None:
        yield other.sentence


# -- tables -------------------------------------------------------------------------------------


def _ranges(profile: Profile, thresholds: Thresholds) -> Section:
    """Return the number of frames in each range of end to end."""
    count = max(profile["end_to_end"].count, 1)
    filled = [i for i, (_, _, n) in enumerate(profile.ranges) if n]
    rows = []
    for low, high, n in profile.ranges[filled[0] : filled[-1] + 1] if filled else []:
        level = thresholds.level(low + 1)  # every time in the range is above its lower edge
        share = n / count
        rows.append((Cell(range_name(low, high), level), n, Cell(share, level, bar=share)))
    columns = Column("range"), Column("frames", "count"), Column("share", "share", bar=30)
    return Section("End to end, by range", (), Table(columns, rows), "ranges")


def range_name(low: int, high: int | None) -> str:
    """Return the name of the times above `low` ns, up to and including `high` ns (None: no limit).

    Examples
    --------
    >>> range_name(0, 1_000_000), range_name(1_000_000, 5_000_000), range_name(2 * 10**9, None)
    ('up to 1 ms', '1 to 5 ms', 'more than 2 s')
    """
    if high is None:
        return f"more than {_edge(low)}"
    if low == 0:
        return f"up to {_edge(high)}"
    left, right = _edge(low), _edge(high)
    number, unit = left.split()
    return f"{number if right.endswith(f' {unit}') else left} to {right}"


def _edge(ns: int) -> str:
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns % scale == 0:
            return f"{ns // scale:,} {unit}"
    return f"{ns:,} ns"


def _order(profile: Profile) -> Section:
    lines, results = [], profile.order_results()
    for source, found in list(results.items())[: tables.MOST_ROWS]:
        lines.append(f"{clip(source or 'no source')}: {found.sentence()}")
    return Section("Order of frames", tuple(lines), key="order")


def _windows(profile: Profile, thresholds: Thresholds, name: str) -> Section:
    """Return the numbers of a total by window of time."""
    found = [row for row in timeline_rows(profile.sums) if row["span"] == name]
    rows = [
        (row["window_ns"], row["count"], *(Cell(row[k], thresholds.level(row[k])) for k in _TIMES))
        for row in found[: tables.MOST_ROWS]
    ]
    lines = [f"p50 and p99 of windows are within {COARSE_ERROR:.1%}"]
    if len(found) > len(rows):
        lines.append(f"and {len(found) - len(rows):,} more windows; --format json has all of them")
    windows = profile.sums.timeline
    if windows is not None and windows.width_ns != windows.base_ns:
        lines.append(
            f"wider than the requested {format_exact(windows.base_ns)}, as there are at most "
            f"{windows.most} windows"
        )
    columns = Column("begin", "moment"), Column("frames", "count"), *_time_columns(_TIMES)
    width = "" if windows is None else f", by windows of {format_exact(windows.width_ns)}"
    key = "windows" if name == "end_to_end" else f"windows_{name}"
    title = f"{_name(name).capitalize()}{width}"
    return Section(title, tuple(lines), Table(columns, rows), key)


def _name(total: str) -> str:
    """Return the name of a total as words for a sentence."""
    return total.replace("_", " ")


def _time_columns(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name, "time") for name in names)


def _worst(profile: Profile, thresholds: Thresholds, n: int) -> Section:
    """Return the slowest frames with their longest spans."""
    rows, response = [], "response" in profile.spans
    for frame in profile.slowest(n):
        parts = sorted(stages_of(profile.sums, frame).items(), key=lambda item: -item[1])
        longest = [f"{name} {format_ns(ns)}" for name, ns in parts if ns > 0][:_LONGEST_SPANS]
        total = frame.end_to_end_ns
        rows.append(
            (
                str(frame.frame_id),
                frame.source or None,
                None if profile.untimed else frame.marks["start"],
                Cell(total, thresholds.level(total)),
                *([frame.response_ns] if response else []),
                ", ".join(longest),
            )
        )
    columns = (
        Column("frame"),
        Column("source", "name", spare=6),
        Column("start", "moment"),
        Column("end to end", "time"),
        *([Column("response", "time")] if response else []),
        Column("longest spans"),
    )
    return Section("Slowest frames", (), Table(columns, rows), "worst")


def _dropped_times(profile: Profile) -> list[tuple[str, SpanSums]]:
    """Return the times of dropped frames by reason, without reasons that have none."""
    known = sorted(profile.sums.dropped_times.items())
    return [(reason, times) for reason, times in known if times.count]


def _dropped_time(reason: str, times: SpanSums) -> str:
    low, p50, p99 = (times.histogram.value_at(q) for q in (0, 50, 99))
    return (
        f"time until dropped: {clip(reason)}: {format_ns(times.total / times.count)} mean, "
        f"{format_ns(low)} to {format_ns(times.peak)}, p50 {format_ns(p50)}, p99 {format_ns(p99)}"
    )


def _accounts(profile: Profile) -> Section:
    """Return where each frame went."""
    a = profile.accounts
    by_mark = profile.sums.dropped
    dropped, rejected = sum(a.dropped.values()), sum(a.rejected.values())
    lines = [
        f"started {a.started:,} = in flight {a.in_flight:,} + finished {a.finished:,} "
        f"+ dropped {dropped:,} + rejected {rejected:,}",
        f"finished + dropped = folded {a.folded:,} + not yet folded {a.not_folded:,} "
        f"+ lost {a.lost:,} + torn {a.torn:,}",
    ]
    if profile.by_weight:
        # the accounts of a recorder that keeps some frames are exact
        other = "other " if a.folded != profile.frames + dropped else ""
        lines.append(
            f"{other}numbers of frames are estimates: {counted(profile.by_weight, 'row')} of the "
            "recording have a weight above 1"
        )
    if a.sampled_out:
        lines.append(f"sampled out: {a.sampled_out:,}")
    lines += [_dropped_time(reason, times) for reason, times in _dropped_times(profile)]
    dropped_by = {f"{clip(why)}, last mark {at}": n for (why, at), n in by_mark.items()}
    kinds = {"dropped": dropped_by, "rejected": a.rejected, "counted": a.notes}
    for what, counts in kinds.items():
        reasons = sorted(counts.items())
        lines += [f"{what}: {clip(why, 160)}: {n:,}" for why, n in reasons[: tables.MOST_ROWS]]
        if len(reasons) > tables.MOST_ROWS:
            lines.append(f"{what}: {len(reasons) - tables.MOST_ROWS:,} more reasons")
    return Section("Accounts", tuple(lines), key="accounts")
