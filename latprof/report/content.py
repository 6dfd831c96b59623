"""What stands in a page: the sections of the report, and more where there is room for it."""

import datetime as dt
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from latprof.errors import ProfileError
from latprof.plot.style import looks
from latprof.profile.answers import middle_of
from latprof.profile.origins import Recorders
from latprof.profile.profile import Profile
from latprof.profile.span import TABLE_PERCENTILES, Slice, slice_of
from latprof.report.layout import Section, percent
from latprof.report.report import Report
from latprof.text import counted, escape
from latprof.thresholds import Thresholds
from latprof.units import format_ns, format_quantity, format_utc

__all__ = ["Cell", "Figure", "Table", "content", "table_of"]

WORST = 10
"""How many of the slowest frames are shown, if nothing else is asked for."""

_SLOW = 99
_MOST_RECORDERS = 12
_MOST_CHAINS = 5
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: `bar` is a share from 0 to 1, `color` that of a span, `level` that of a threshold."""

    text: str
    bar: float | None = None
    color: str = ""
    chip: bool = False
    level: str = ""
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: names in the first column, numbers in the others; `notes` stand below it."""

    title: str
    header: tuple[str, ...]
    rows: list[list[Cell]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that is seen first."""

    name: str
    value: str
    aside: str = ""
    level: str = ""


def content(report: Report, made: dt.datetime) -> dict[str, Any]:
    """Return what the template shows: names and times as text, tables, the foot."""
    profile = report.profile
    full = Report(
        profile,
        origin=report.origin,
        worst=report.worst or min(WORST, len(profile.sums.worst.frames)),
        overhead=report.overhead,
        limits=report.given_limits,
        unstarted=report.unstarted,
    )
    sections = {section.key: section for section in full.sections()}
    shades = {name: look.color for name, look in looks(profile.pipeline).items()}
    headline, *lines = sections.pop("summary").lines
    cause = _cause(profile)
    told = f"read from {escape(report.origin)}"
    lines = [line for line in lines if line not in (told, cause)]
    accounts = sections.pop("accounts")
    order = sections.pop("order", None)
    return {
        "headline": headline,
        "cause": cause,
        "lines": lines,
        "figures": _figures(full),
        "tables": {
            key: table_of(section, full.limits, [shades[name] for name in profile.spans])
            for key, section in sections.items()
        },
        "percentiles": _percentiles(profile, full.limits, shades),
        "causes": _causes(profile, shades),
        "tail": _tail(profile, shades),
        "order": order.lines if order else (),
        "accounts": accounts.lines,
        "provenance": _provenance(report, made),
        "pipeline": _pipeline(profile, shades),
    }


def _cause(profile: Profile) -> str:
    """Return the sentence on causes; "" where they were not looked for, or cannot be known."""
    if profile.parts is None:
        return ""
    try:
        return str(profile.causes.sentence)
    except ProfileError as error:
        return escape(str(error))


def _causes(profile: Profile, shades: dict[str, str]) -> Table | None:
    """Return who waited for whom, stage by stage; None where that is not known."""
    if profile.parts is None:
        return None
    try:
        found = profile.causes
    except ProfileError:
        return None
    known = [row for row in found.rows() if row["own"] is not None]
    most = max((max(row["own"], row["blamed"]) for row in known), default=0) or 1
    rows = []
    for row in known:
        color, gain = shades[row["stage"]], row["gain"]
        rows.append(
            [
                Cell(_full(row["stage"]), color=color, chip=True),
                Cell(format_ns(row["own"]), row["own"] / most, color),
                Cell(format_ns(row["blamed"]), row["blamed"] / most, color),
                Cell(percent(gain), None if gain is None else min(max(gain, 0), 1), color),
            ]
        )
    notes = [
        "A frame's mean. Own: without what the stage itself waited for others. Waited for: time "
        "that frames spent elsewhere because of this stage. Gain: what end to end loses when the "
        "stage never takes more than its median."
    ]
    chains = found.chains[:_MOST_CHAINS]
    notes += [
        f"{' waits for '.join(map(_full, path))}: {format_ns(ns / max(found.frames, 1))} a frame"
        for path, ns in chains
    ]
    notes += [escape(note) for note in found.notes]
    header = ("stage", "own", "waited for", "gain")
    return Table("Who waits for whom", header, rows, tuple(notes)) if rows else None


def _figures(report: Report) -> list[Figure]:
    profile, limits = report.profile, report.limits
    total = profile["end_to_end"]
    pace = "" if profile.throughput is None else f"{format_quantity(profile.throughput)} a second"
    found = [Figure("frames", f"{profile.frames:,}", pace)]
    if total.mean is None:
        return found
    found.append(Figure("mean", format_ns(total.mean), "end to end", limits.level(total.mean)))
    for q in (50, 99):
        known = total.percentile(q)
        reach = "too few frames for an interval"
        if known.low is not None:
            reach = f"{format_ns(known.low)} to {format_ns(known.high)}"
        level = limits.level(known.value)
        found.append(Figure(f"p{q}", format_ns(known.value), reach, level))
    frame = "" if total.peak_frame is None else f"frame {total.peak_frame}"
    found.append(Figure("slowest", format_ns(total.max), frame, limits.level(total.max)))
    missed = profile.deadline
    if missed is not None and missed.ratio is not None:
        level = "critical" if missed.misses else ""
        aside = f"{missed.ratio:.1%} beyond {format_ns(missed.deadline_ns)}"
        found.append(Figure("deadline missed", f"{missed.misses:,}", aside, level))
    accounts = profile.accounts
    gone = accounts.lost + accounts.torn + sum(accounts.dropped.values())
    if gone:
        told = f"{sum(accounts.dropped.values()):,} dropped, {accounts.lost + accounts.torn:,} lost"
        found.append(Figure("not finished", f"{gone:,}", told, "warning"))
    return found


def table_of(section: Section, limits: Thresholds, colors: Sequence[str] = ()) -> Table:
    """Return a section's table: a bar that has a column of its own there lies in the share here.

    Parameters
    ----------
    section
        What is to be shown.
    limits
        Thresholds: what is above them stands out.
    colors
        Of each row, where the rows are spans.
    """
    spans = section.header[:1] == ("span",)
    kept = [k for k, head in enumerate(section.header) if head]
    rows = []
    for i, row in enumerate(section.rows):
        times = section.times[i] if section.times else (None,) * len(row)
        # the level of a bar is that of the share that it stands for
        marked = {head: limits.level(ns) for head, ns in zip(section.header, times, strict=True)}
        color = colors[i] if spans else ""
        cells = []
        for k in kept:
            head, level = section.header[k], limits.level(times[k])
            share = float(row[k][:-1]) / 100 if head == "share" and row[k] != "-" else None
            if share is not None and not level:
                level = marked.get("", "")
            text = _clip(section.names[i]) if k == 0 and section.names else row[k]
            cells.append(Cell(text or "(empty)", share, color, spans and k == 0, level))
        rows.append(cells)
    return Table(section.title, tuple(section.header[k] for k in kept), rows, section.lines)


def _full(name: str) -> str:
    return _clip(escape(name))


def _clip(name: str) -> str:
    """Cut a name that is longer than those of stages can be."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _percentiles(profile: Profile, limits: Thresholds, shades: dict[str, str]) -> Table | None:
    rows = []
    for name in profile.spans:
        span = profile[name]
        if not span.count:
            continue
        cells = [Cell(_full(name), color=shades[name], chip=True), Cell(f"{span.count:,}")]
        for q in TABLE_PERCENTILES:
            known = span.percentile(q)
            level = limits.level(known.value)
            reach = "not known"
            if known.low is not None:
                reach = f"{format_ns(known.low)} to {format_ns(known.high)}"
            cells.append(Cell(format_ns(known.value), level=level, aside=reach))
        effective = span.percentile(50).effective
        cells.append(Cell("-" if effective is None else f"{effective:,.0f}"))
        rows.append(cells)
    if not rows:
        return None
    heads = (f"p{q:g}" for q in TABLE_PERCENTILES)
    notes = (
        "Below each percentile stands its 95 % confidence interval. Frames that are slow together "
        "tell less than as many that do not depend on each other: the last column says how many "
        "of those the frames are worth, at the median. Not known: the frames do not suffice.",
    )
    header = ("span", "frames", *heads, "worth")
    return Table("Percentiles and how far they can be trusted", header, rows, notes)


def _tail(profile: Profile, shades: dict[str, str]) -> Table | None:
    """Return what the slow frames have that the middle ones have not, stage by stage."""
    slow, middle = slice_of(profile.sums.tails, _SLOW, 100), middle_of(profile.sums)
    if not slow.frames or not middle.frames or not slow.sums:
        return None
    more = {name: (slow.mean(name) or 0) - (middle.mean(name) or 0) for name in slow.sums}
    whole = sum(more.values())
    largest = max(max(more.values()), 1)
    rows = [
        [
            Cell(_full(name), color=shades[name], chip=True),
            *_part(middle, name, shades[name]),
            *_part(slow, name, shades[name]),
            Cell(
                f"{'+' if ns > 0 else ''}{format_ns(ns)}",
                max(ns, 0) / largest if whole > 0 else None,
                shades[name],
            ),
        ]
        for name, ns in more.items()
    ]
    header = ("span", "middle, mean", "share", "slowest 1 %, mean", "share", "more by")
    return Table("What slow frames have more of", header, rows, (_tail_sentence(slow, middle),))


def _part(part: Slice, name: str, color: str) -> tuple[Cell, Cell]:
    share = part.share(name)
    return Cell(format_ns(part.mean(name))), Cell(percent(share), share, color)


def _tail_sentence(slow: Slice, middle: Slice) -> str:
    long, usual = (sum(part.sums.values()) / part.frames for part in (slow, middle))
    told = (
        f"The slowest 1 % ({counted(slow.frames, 'frame')}) take "
        f"{format_ns(long)} each, the middle fifth ({middle.frames:,}) {format_ns(usual)}"
    )
    more = {name: (slow.mean(name) or 0) - (middle.mean(name) or 0) for name in slow.sums}
    most = max(more, key=more.__getitem__)
    if long <= usual or more[most] <= 0:
        return f"{told}."
    share = min(more[most] / (long - usual), 1)
    return (
        f"{told}: {format_ns(long - usual)} more, of which {_full(most)} has "
        f"{format_ns(more[most])} ({share:.0%})."
    )


def _pipeline(profile: Profile, shades: dict[str, str]) -> Table:
    rows = [
        [
            Cell(_full(span.name), color=shades[span.name], chip=True),
            Cell(span.kind),
            Cell(f"{span.begin} to {span.end}"),
            Cell(span.station or ("hand-off" if span.kind == "stage" else "-")),
        ]
        for span in profile.pipeline.all_spans
    ]
    return Table("Spans of the pipeline", ("span", "kind", "marks", "station"), rows)


def _recorded_on(recorders: Recorders) -> list[str]:
    """Say which machines recorded, with how many files each, and when."""
    known = sorted(recorders.written.items(), key=lambda item: item[0])
    lines = []
    for who, written in known[:_MOST_RECORDERS]:
        versions = (("Python", who.python), ("latprof", who.latprof))
        parts = [who.host, *(f"{what} {known}" for what, known in versions if known)]
        if written.files != 1:
            parts.append(f"{written.files:,} files")
        if written.first:
            once = written.first == written.last
            parts.append(written.first if once else f"{written.first} to {written.last}")
        lines.append(", ".join(escape(part) for part in parts if part))
    more = recorders.others + sum(written.files for _, written in known[_MOST_RECORDERS:])
    return [*filter(None, lines), *([f"and others: {counted(more, 'file')}"] if more else [])]


def _provenance(report: Report, made: dt.datetime) -> list[tuple[str, str]]:
    profile = report.profile
    pipeline, sums = profile.pipeline, profile.sums
    found = [("read from", escape(report.origin))] if report.origin else []
    if profile.files:
        found.append(("recordings", f"{profile.files:,}"))
    found += [("recorded on", line) for line in _recorded_on(profile.recorders)]
    if sums.first_ns is not None and sums.last_ns is not None:
        found.append(("first start", format_utc(sums.first_ns)))
        found.append(("last end", format_utc(sums.last_ns)))
    period = "" if pipeline.period is None else f", a frame each {format_ns(pipeline.period)}"
    found.append(("pipeline", f"{pipeline.name}{period}: {', '.join(pipeline.marks)}"))
    rates = sorted(rate for rate, n in profile.rates.items() if n)
    if rates:
        found.append(("sampling rate", ", ".join(f"{rate:g}" for rate in rates[:10])))
    if profile.stamp_ns:
        found.append(("a clock read took", format_ns(profile.stamp_ns)))
    made_by = f"latprof {version('latprof')}, Python {platform.python_version()}"
    found.append(("page made", f"{made.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ} by {made_by}"))
    return found
