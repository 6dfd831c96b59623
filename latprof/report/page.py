"""A report as one page of HTML: to be sent, read anywhere, printed.

The page needs neither network nor script, and its policy forbids both. It has the sections of the
report, further tables for which a terminal has no room, and pictures.
"""

import datetime as dt
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.accounts import Recorders
from latprof.colors import colors
from latprof.profile.answers import Slice
from latprof.profile.profile import Profile
from latprof.profile.span import TABLE_PERCENTILES
from latprof.profile.tables import known_causes
from latprof.report.pictures import pictures
from latprof.table import Cell, Column, Section, Table, doubtful, html_table
from latprof.text import clip, counted, escape
from latprof.thresholds import Thresholds
from latprof.units import format_exact, format_ns, format_quantity, format_utc

if TYPE_CHECKING:
    from latprof.report.report import Report

__all__ = ["page", "render"]

WORST = 10  # slowest frames that are listed, unless the report asks for another number

_MOST_RECORDERS = 12

# keys of the sections that have a place in the template; others are shown after them
_PLACES = frozenset(
    (
        *("spans", "causes", "tail", "ranges", "percentiles"),
        *("windows", "groups", "worst", "order", "accounts"),
    )
)


def page(report: "Report", *, made: dt.datetime | None = None) -> str:
    """Return a report as a page of HTML.

    Parameters
    ----------
    report
        Windows, groups, order and causes are shown if they were folded into its profile.
    made
        Time for the foot of the page; by default now.

    Examples
    --------
    >>> from latprof.pipeline import Pipeline
    >>> from latprof.profile.profile import Profile
    >>> from latprof.report.report import Report
    >>> html = page(Report(Profile(Pipeline.chain("mic", "decode", "play"))))
    >>> html.startswith("<!doctype html>"), "mic: no frame has finished" in html
    (True, True)
    """
    profile = report.profile
    shades = colors(profile.pipeline)
    found = report.sections(worst=report.worst or WORST)
    summary = found[0]
    cause, causes = _causes(profile)
    origin = f"read from {report.origin}"  # the page shows origin and cause elsewhere
    sections = (*found[1:], *causes, *_further(profile, report.marked))
    return render(
        "page.html.jinja",
        shades,
        headline=summary.title,
        binned=profile.bins is not None,
        cause=cause,
        doubts=doubtful(summary),
        figures=_figures(profile, report.marked),
        summary=[line for line in summary.lines if line not in (origin, cause)],
        sections={section.key: section for section in sections if section.key in _PLACES},
        further=[section for section in sections if section.key not in _PLACES],
        pictures=pictures(profile, report.marked),
        provenance=_provenance(report, made or dt.datetime.now(dt.UTC)),
        pipeline=Section("Spans of the pipeline", (), profile.pipeline.table(), "pipeline"),
    )


def render(template: str, span_colors: Mapping[str, str], **values: Any) -> str:
    """Return a template of this folder filled in; all text is escaped, tables become HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape(value) if type(value) is str else value,
    )
    environment.filters["html_table"] = lambda table: Markup(html_table(table, span_colors))
    css = Markup((folder / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(css=css, **values)


def _figures(profile: Profile, thresholds: Thresholds) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, value, note and level of each number at the top of the page."""
    total = profile["end_to_end"]
    rate = profile.throughput
    per_second = "" if rate is None else f"{format_quantity(rate)} a second"
    yield "frames", f"{profile.frames:,}", per_second, ""
    if total.mean is None:
        return
    yield "mean", format_ns(total.mean), "end to end", thresholds.level(total.mean)
    for q in (50, 99):
        known = total.percentile(q)
        note = (known.note if profile.bins else known.interval) or "too few frames"
        yield f"p{q}", format_ns(known.value), note, thresholds.level(known.value)
    frame = "" if total.peak_frame is None else f"frame {total.peak_frame}"
    yield "slowest", format_ns(total.max), frame, thresholds.level(total.max)
    missed = profile.deadline
    if missed is not None and missed.ratio is not None:
        note = f"{missed.ratio:.1%} beyond {format_exact(missed.deadline_ns)}"
        yield "deadline missed", f"{missed.misses:,}", note, "critical" if missed.misses else ""
    accounts = profile.accounts
    dropped, lost = sum(accounts.dropped.values()), accounts.lost + accounts.torn
    if dropped + lost:
        note = f"{dropped:,} dropped, {lost:,} lost"
        yield "not finished", f"{dropped + lost:,}", note, "warning"


# -- tables that only the page has room for ---------------------------------------------------


def _causes(profile: Profile) -> tuple[str, list[Section]]:
    """Return a sentence on the cause or the reason why there is none, and the tables on causes."""
    found, unavailable = known_causes(profile)
    if found is None:
        return unavailable, []
    if found.cause is None:
        return found.sentence, []
    sentence, stages, *others = found.sections()
    lines = (*stages.lines, *sentence.lines)
    return sentence.title, [Section("Who waits for whom", lines, stages.table, "causes"), *others]


def _further(profile: Profile, thresholds: Thresholds) -> Iterator[Section]:
    """Give the tables that only the page has."""
    yield from _percentiles(profile, thresholds)
    parts = profile.slices(99)
    slow, middle = parts["slow"], parts["middle"]
    if slow.frames and middle.frames and slow.sums:
        yield _tail(slow, middle)


def _percentiles(profile: Profile, thresholds: Thresholds) -> Iterator[Section]:
    """Give the table of percentiles with their intervals, if there are values."""
    rows = []
    for name in profile.spans:
        span = profile[name]
        if not span.count or (profile.bins is not None and name == "other"):
            continue
        cells: list[Any] = [name, span.count]
        for q in TABLE_PERCENTILES:
            known = span.percentile(q)
            level = thresholds.of(name).level(known.value)
            note = known.note if profile.bins else known.interval or "not reliable"
            cells.append(Cell(known.value, level, note=note))
        effective = span.percentile(50).effective
        rows.append([*cells, None if effective is None else round(effective)])
    columns = (
        Column("span", "span"),
        Column("frames", "count"),
        *(Column(f"p{q:g}", "time") for q in TABLE_PERCENTILES),
        Column("effective sample size", "count"),
    )
    if profile.bins is not None:
        yield Section("Percentiles", (), Table(columns[:-1], [x[:-1] for x in rows]), "percentiles")
        return
    notes = (
        "Below each percentile is its 95 % confidence interval, or that there are not enough "
        "frames for a reliable estimate. Frames that are slow together carry less information than "
        "independent frames; the effective sample size, here that of the median, allows for it.",
    )
    if rows:
        title = "Percentiles and their confidence intervals"
        yield Section(title, notes, Table(columns, rows), "percentiles")


def _tail(slow: Slice, middle: Slice) -> Section:
    """Compare the slowest frames with those in the middle, stage by stage."""
    more = {name: (slow.mean(name) or 0) - (middle.mean(name) or 0) for name in slow.sums}
    largest = max(max(more.values()), 1)
    slower = sum(more.values()) > 0
    rows = [
        [
            name,
            *(middle.mean(name), _share(middle, name), slow.mean(name), _share(slow, name)),
            Cell(ns, bar=max(ns, 0) / largest if slower else None),
        ]
        for name, ns in more.items()
    ]
    columns = (
        Column("span", "span"),
        Column("middle, mean", "time"),
        Column("share", "share"),
        Column("slowest 1 %, mean", "time"),
        Column("share", "share"),
        Column("difference", "time"),
    )
    long, usual = (sum(part.sums.values()) / part.frames for part in (slow, middle))
    most = max(more, key=more.__getitem__)
    sentence = (
        f"The slowest 1 % ({counted(slow.frames, 'frame')}) take {format_ns(long)} each, the "
        f"middle fifth ({middle.frames:,}) {format_ns(usual)}"
    )
    if long > usual and more[most] > 0:
        share = min(more[most] / (long - usual), 1)
        sentence += (
            f": {format_ns(long - usual)} more, of which {most} has {format_ns(more[most])} "
            f"({share:.0%})"
        )
    return Section("What slow frames have more of", (f"{sentence}.",), Table(columns, rows), "tail")


def _share(part: Slice, name: str) -> Cell:
    share = part.share(name)
    return Cell(share, bar=share)


# -- the foot ---------------------------------------------------------------------------------


def _provenance(report: "Report", made: dt.datetime) -> Iterator[tuple[str, str]]:
    """Yield name and value of each line of the foot."""
    profile = report.profile
    pipeline, sums = profile.pipeline, profile.sums
    if report.origin:
        yield "read from", report.origin
    if profile.files:
        yield "recordings", f"{profile.files:,}"
    for line in _recorded_on(profile.recorders):
        yield "recorded on", line
    if sums.first_ns is not None and sums.last_ns is not None:
        yield "first start", format_utc(sums.first_ns)
        yield "last end", format_utc(sums.last_ns)
    period = "" if pipeline.period is None else f", a frame every {format_ns(pipeline.period)}"
    yield "pipeline", f"{pipeline.name}{period}: {', '.join(pipeline.marks)}"
    rates = sorted(rate for rate, n in profile.rates.items() if n)
    if rates:
        yield "sampling rate", ", ".join(f"{rate:g}" for rate in rates[:10])
    if profile.stamp_ns:
        yield "time of a clock read", format_ns(profile.stamp_ns)
    from importlib.metadata import version  # slow to import

    by = f"latprof {version('latprof')}, Python {platform.python_version()}"
    yield "page made", f"{made.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ} by {by}"


def _recorded_on(recorders: Recorders) -> Iterator[str]:
    """Yield a line on each machine that recorded: versions, number of files, times."""
    known = sorted(recorders.written.items(), key=lambda item: item[0])
    for recorder, written in known[:_MOST_RECORDERS]:
        versions = (
            ("Python", recorder.python),
            ("latprof", recorder.latprof),
            ("stamping core", recorder.core),
        )
        parts = [recorder.host, *(f"{what} {known}" for what, known in versions if known)]
        if written.files != 1:
            parts.append(f"{written.files:,} files")
        if written.first:
            once = written.first == written.last
            parts.append(written.first if once else f"{written.first} to {written.last}")
        line = ", ".join(clip(part) for part in parts if part)
        if line:
            yield line
    more = recorders.others + sum(written.files for _, written in known[_MOST_RECORDERS:])
    if more:
        yield f"and others: {counted(more, 'file')}"
