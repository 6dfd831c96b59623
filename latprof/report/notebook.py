"""How pipelines, traces, profiles and reports look in a notebook: HTML that needs no script.

Colours of text are inherited and bars are translucent, so that light and dark notebooks both read
well. Everything that is written is escaped: names that came from a file stay text.
"""

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latprof import spans
from latprof.frames import MISSING, Labels
from latprof.plot.style import looks
from latprof.report.layout import percent
from latprof.report.report import Report
from latprof.text import counted, escape
from latprof.units import format_ns

if TYPE_CHECKING:
    from latprof.pipeline import Pipeline
    from latprof.profile.profile import Profile
    from latprof.trace import Trace

__all__ = [
    "Cell",
    "causes_html",
    "pipeline_html",
    "profile_html",
    "report_html",
    "table_html",
    "trace_html",
    "what_if_html",
]

_FRAMES = 5
_GROUPS = 20
_NAMES = 10
_BAR = "#586FA1"
# not every page has room between cells of its own
_ROOM = "padding:.15em .6em"
_MONO = "font-variant-numeric:tabular-nums"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: `bar` is a share from 0 to 1, drawn in `color`; `chip` a colour."""

    text: str
    bar: float | None = None
    color: str = _BAR
    chip: str = ""


def table_html(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell | str]],
    *,
    title: str = "",
    words: Collection[str] = (),
) -> str:
    """Return a table: the first column, and those of `words`, to the left, numbers to the right.

    Examples
    --------
    >>> "<script>" in table_html(["name"], [["<script>"]])
    False
    """
    caption = ""
    if title:
        style = "caption-side:top;text-align:left;font-weight:bold;color:inherit"
        caption = f'<caption style="{style}">{_text(title)}</caption>'
    sides = ["left" if i == 0 or name in words else "right" for i, name in enumerate(header)]
    head = "".join(
        f'<th scope="col" style="{_ROOM};text-align:{side}">{_text(name)}</th>'
        for name, side in zip(header, sides, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(row[i], side, i) for i, side in enumerate(sides))}</tr>"
        for row in rows
    )
    return (
        f'<table style="{_MONO}">{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _cell(cell: Cell | str, side: str, column: int) -> str:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    style = f"{_ROOM};text-align:{side}"
    if column:
        style += ";white-space:nowrap"  # a time stays beside its unit
    if cell.bar is not None:
        part = f"{min(max(cell.bar, 0.0), 1.0):.1%}"
        # 59 in hex is 35 %: what is written over the bar stays readable, on light and on dark
        style += (
            f";min-width:6em;background:linear-gradient(90deg,{cell.color}59 {part},"
            f"transparent {part})"
        )
    chip = ""
    if cell.chip:
        look = f"display:inline-block;width:.8em;height:.8em;background:{cell.chip}"
        chip = f'<span aria-hidden="true" style="{look};margin-right:.4em"></span>'
    tag = "td" if column else 'th scope="row"'
    return f'<{tag} style="{style}">{chip}{_text(cell.text)}</{tag[:2]}>'


def _text(text: str) -> str:
    return html.escape(escape(text))


def _block(*parts: str) -> str:
    # a wide table scrolls by itself, not the page that it stands in
    return f'<div class="latprof" style="overflow-x:auto">{"".join(parts)}</div>'


def _lines(lines: Sequence[str], *, strong: int = 0) -> str:
    shown = (
        f"<strong>{_text(line)}</strong>" if i < strong else _text(line)
        for i, line in enumerate(lines)
    )
    return f'<p style="margin:.3em 0">{"<br>".join(shown)}</p>' if lines else ""


def pipeline_html(pipeline: "Pipeline") -> str:
    """Return a pipeline: its marks in a row, its spans as a table."""
    shades = looks(pipeline)
    period = "" if pipeline.period is None else f", a frame each {format_ns(pipeline.period)}"
    rows = [
        (
            Cell(span.name, chip=shades[span.name].color),
            span.kind,
            f"{span.begin} → {span.end}",
            span.station or ("hand-off" if span.kind == "stage" else ""),
        )
        for span in pipeline.all_spans
    ]
    return _block(
        _lines([f"pipeline {pipeline.name}{period}", " → ".join(pipeline.marks)], strong=1),
        table_html(("span", "kind", "marks", "station"), rows, words=("kind", "marks", "station")),
    )


def trace_html(trace: "Trace") -> str:
    """Return a trace: what it holds, and the latencies of its first frames."""
    lines = [repr(trace).strip("<>")]
    for name in ("source", "outcome"):
        labels = getattr(trace, name)
        if labels is not None:
            counts = sorted(labels.counts().items(), key=lambda item: -item[1])
            told = ", ".join(f"{known or '(none)'} {n:,}" for known, n in counts[:_NAMES])
            lines.append(f"{name}: {told}{', ...' if len(counts) > _NAMES else ''}")
    if trace.tags:
        lines.append(f"tags: {', '.join(trace.tags)}")
    first = trace.columns.take(slice(0, _FRAMES))
    names = spans.names(trace.pipeline)
    columns: list[list[str]] = [[str(number) for number in first.frame_id.tolist()]]
    for labels in (first.source, first.outcome):
        if isinstance(labels, Labels):
            columns.append([name or "" for name in labels.to_numpy().tolist()])
    for name in names:
        lengths = spans.latencies(trace.pipeline, first, name).tolist()
        columns.append(["-" if ns == MISSING else format_ns(ns) for ns in lengths])
    given = [name for name in ("source", "outcome") if getattr(first, name) is not None]
    rows = list(zip(*columns, strict=True))
    more = len(trace) - len(rows)
    rest = [f"and {counted(more, 'more frame')}"] if more else []
    return _block(
        _lines(lines, strong=1),
        table_html(("frame_id", *given, *names), rows, words=given),
        _lines(rest),
    )


def profile_html(profile: "Profile") -> str:
    """Return a profile: what it says in a sentence, its spans, its groups."""
    report = Report(profile)
    parts = [_lines([report.headline(), *report.sections()[0].lines[1:2]], strong=1)]
    parts.append(_spans_html(profile))
    groups = sorted(profile.groups.items(), key=lambda item: -item[1].frames)
    if groups:
        parts.append(_groups_html(profile.by or "group", groups))
    return _block(*parts)


def _spans_html(profile: "Profile") -> str:
    shades = looks(profile.pipeline)
    rows = profile.rows()
    longest = max((row["p99"] or 0 for row in rows), default=0) or 1
    troubles = [what for what in ("missing", "negative") if any(row[what] for row in rows)]
    body = []
    for row in rows:
        name, share, p99 = row["span"], row["share"], row["p99"]
        color = shades[name].color
        cells: list[Cell | str] = [
            Cell(name, chip=color),
            Cell(percent(share), None if share is None else share, color),
            *(format_ns(row[key]) for key in ("mean", "p50", "p90")),
            Cell(format_ns(p99), None if p99 is None else p99 / longest, color),
            *(format_ns(row[key]) for key in ("p99_9", "max")),
            f"{row['count']:,}",
            *(f"{row[what]:,}" for what in troubles),
        ]
        body.append(cells)
    header = ("span", "share", "mean", "p50", "p90", "p99", "p99.9", "max", "count", *troubles)
    return table_html(header, body)


def _groups_html(by: str, groups: "list[tuple[str, Profile]]") -> str:
    most = max(group.frames for _, group in groups) or 1
    rows: list[list[Cell | str]] = []
    for name, group in groups[:_GROUPS]:
        total = group["end_to_end"]
        p50, p99 = (total.histogram.value_at(q) for q in (50, 99))
        times = (format_ns(ns) for ns in (total.mean, p50, p99, total.max))
        frames = Cell(f"{group.frames:,}", group.frames / most)
        rows.append([name, frames, *times, group.bottleneck() or "-"])
    more = len(groups) - len(rows)
    rest = _lines([f"and {more:,} more"]) if more > 0 else ""
    header = (by, "frames", "mean", "p50", "p99", "max", "bottleneck")
    return table_html(header, rows, words=header[-1:]) + rest


def report_html(report: Report) -> str:
    """Return a report: its sections, bars where it has them."""
    parts = []
    for number, section in enumerate(report.sections()):
        # what a section says is escaped already; what HTML would take for its own is not
        body = _lines(section.lines, strong=int(number == 0))
        if section.header:
            # the bar that has a column of its own elsewhere lies behind the share here
            kept = [i for i, head in enumerate(section.header) if head]
            header = [section.header[i] for i in kept]
            rows = [[_report_cell(section.header[i], row[i]) for i in kept] for row in section.rows]
            body = table_html(header, rows, title=section.title) + body
        elif section.title:
            body = _lines([section.title], strong=1) + body
        parts.append(body)
    return _block(*parts)


def _report_cell(head: str, text: str) -> Cell:
    if head == "share" and text.endswith("%"):
        return Cell(text, float(text[:-1]) / 100)
    return Cell(text)


def what_if_html(result: Any) -> str:
    """Return what a change would give: a table by percentile, and what was taken for granted."""
    rows = []
    for q, row in result.table.iterrows():
        measured = float(row["measured"])
        cells: list[Cell | str] = [f"p{q:g}", "-" if measured != measured else format_ns(measured)]
        for name in ("replayed", "subtraction"):
            ns = float(row[name])
            part = ns / measured if measured > 0 else None
            known = part is not None and part == part
            told = f"{format_ns(ns)} ({part - 1:+.0%})" if known and part is not None else "-"
            cells.append(Cell(told, part if known else None))
        rows.append(cells)
    changes = getattr(result, "changes", {})
    told = ", ".join(f"{name} {change}" for name, change in changes.items())
    header = ("end to end", "measured", "replayed", "by subtraction")
    warning = getattr(result, "warning", "")
    return _block(
        _lines([f"what if {told}", *([warning] if warning else [])], strong=1),
        table_html(header, rows),
        _lines(list(getattr(result, "assumptions", ()))),
    )


def causes_html(result: Any) -> str:
    """Return which stage is the cause: the sentence, and by stage own, blamed time and gain."""
    rows, shown = result.rows(), []
    longest = max((row[name] or 0 for row in rows for name in ("own", "blamed")), default=0)
    for row in rows:
        cells: list[Cell | str] = [row["stage"]]
        for name in ("own", "blamed"):
            ns = row[name]
            cells.append("-" if ns is None else Cell(format_ns(ns), ns / longest if longest else 0))
        gain = row["gain"]
        cells.append("-" if gain is None else Cell(percent(gain), min(max(gain, 0.0), 1.0)))
        shown.append(cells)
    return _block(
        _lines([result.sentence], strong=1),
        table_html(("stage", "own", "waited for", "gain"), shown),
        _lines(list(result.notes)),
    )
