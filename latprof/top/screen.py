"""The screen of the live view, for a terminal of any size."""

from rich.console import Console, Group, RenderableType
from rich.text import Text

from latprof.report.terminal import LEVEL_STYLES, styled_table
from latprof.table import Cell, Column, Table
from latprof.text import clip, counted, escape
from latprof.thresholds import LEVELS, Thresholds
from latprof.top.feeds import Update
from latprof.top.live import Live
from latprof.units import format_exact, format_ns, format_quantity, format_utc

__all__ = ["screen", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_QUIET_NS = 3_000_000_000  # time without a frame after which the title says so
_LONG_NS = 100_000_000  # age from which a frame in flight is shown, if it is below all thresholds
_MOST_IN_WORK = 5  # frames in flight that are shown
_MOST_GROUPS = 22  # lines of the table of groups


def screen(
    live: Live | None, update: Update, lost: int, *, path: str, now_ns: int, width: int, height: int
) -> Group:
    """Return the whole screen.

    Parameters
    ----------
    live
        The numbers, or None before the first frame, while the pipeline is not known.
    update
        What the last read of the feed returned.
    lost
        Number of frames that were lost since the view began.
    path
        The ring file or folder.
    now_ns
        Current time in UTC ns, to show the age of the newest frame.
    width, height
        Size of the terminal, in columns and lines.
    """
    title = _title(live, update, path, now_ns, width)
    # a title longer than a line is wrapped
    height -= len(title.wrap(Console(width=width), width)) - 1
    parts: list[RenderableType] = [title]
    others = 6 + (0 if live is None else len(live.names))  # lines that are always there
    in_work = _in_work(live, update, width)[: max(height - others, 1)]
    if live is None:
        return Group(*parts, *in_work, Text(), Text("waiting for frames", style="dim"), _foot())
    parts += [_counts(live, update, lost, width), *in_work, Text(), _spans(live, width)]
    lines = height - len(live.names) - len(in_work) - 9
    if live.by is not None and lines > 0:
        groups = _groups(live, width, min(lines, _MOST_GROUPS))
        parts += [Text(), groups]
        lines -= groups.plain.count("\n") + 2
    if lines > 0:
        parts += [Text(), *_slow_frames(live, update, width, lines)]
    return Group(*parts, Text(), _foot())


def _in_work(live: Live | None, update: Update, width: int) -> list[Text]:
    """Return a line for each frame that has been in flight for long, the oldest first."""
    limits = Thresholds() if live is None else live.limits
    has_ended = bool(update.remedy)
    lines = []
    for frame in update.in_flight:
        age = frame.age_ns or 0
        level = limits.level(age)
        if not (has_ended or level or age >= _LONG_NS):
            continue
        line = Text.assemble(
            (f"frame {frame.frame_id} {'was ' * has_ended}in work for ", "bold"),
            _time(age, level or "warning"),
            f"  ({clip(frame.where, 18)} {format_ns(frame.stage_ns)}",
        )
        names = [] if frame.source is None else [clip(frame.source, 18)]
        names += [clip(value, 24) for value in frame.tags.values()]
        names += [f"thread {frame.thread}"] if frame.thread else []
        line.append("".join(f", {name}" for name in names) + ")")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    shown = lines[:_MOST_IN_WORK]
    if len(lines) > len(shown):
        shown.append(Text(f"and {counted(len(lines) - len(shown), 'more frame')}", style="dim"))
    return shown


def _groups(live: Live, width: int, height: int) -> Text:
    """Return the table of the values of a column, in at most `height` lines."""
    assert live.by is not None
    found, count = live.groups(max(height - 2, 1))
    columns = (
        *(Column(live.by, "name"), Column("frames/s", "quantity")),
        *(Column(name, "time") for name in ("p50", "p99", "max")),
    )
    rows = [
        (
            *(group.name or "(none)", group.rate),
            *(
                Cell(ns, live.limits.level(ns))
                for ns in (group.numbers.p50, group.numbers.p99, group.numbers.max)
            ),
        )
        for group in found
    ]
    table = styled_table(Table(columns, rows), width)[0]
    if count > len(found):
        table.append(f"\nand {count - len(found):,} more", style="dim")
    return table


def _title(live: Live | None, update: Update, path: str, now_ns: int, width: int) -> Text:
    """Return the first line: the pipeline, what the recorder does, the path."""
    name = "latprof top" if live is None else live.pipeline.name
    status, style = update.status, "green"
    last = None if live is None else live.last_end_ns
    quiet = 0 if last is None else now_ns - last
    if update.remedy:  # never cut, so that it can be copied
        line = Text.assemble(
            (name, "bold"), "  ", (f"{status}: {escape(update.remedy)}", "bold red")
        )
        return line if last is None else line.append(f"  last frame {format_ns(quiet)} ago", "dim")
    if quiet > _QUIET_NS:
        # frames in files are seen only when a file is finished
        text = "no frame for {}" if update.each_frame else "newest frame {} ago"
        status, style = f"{status}, {text.format(format_ns(quiet))}", "yellow"
    line = Text.assemble((name, "bold"), "  ", (escape(status), style), "  ")
    # the end of a path says more than its beginning
    left, shown = width - line.cell_len, escape(path)
    line.append(shown if len(shown) <= left else f"...{shown[-max(left - 3, 1) :]}", "dim")
    line.truncate(width, overflow="ellipsis")
    return line


def _counts(live: Live, update: Update, lost: int, width: int) -> Text:
    """Return the line of numbers: rate, frames, lost, in flight, above thresholds."""
    # the most important numbers come first, as a narrow terminal cuts the end
    rate = "-" if live.rate is None else format_quantity(live.rate)
    line = Text.assemble((rate, "bold"), f" frames/s, {counted(live.finished, 'frame')}")
    line.append(f", {lost:,} lost", "bold red" if lost else "")
    if update.in_flight:
        line.append(f", {len(update.in_flight):,} in flight")
    if live.dropped:
        line.append(f", {live.dropped:,} dropped", "yellow")
    for level in LEVELS[::-1]:
        if live.above[level]:
            limit = getattr(live.limits, f"{level}_ns")
            what = level if live.limits.spans else f"above {format_exact(limit)}"
            line.append(f", {live.above[level]:,} {what}", LEVEL_STYLES[level])
    line.truncate(width, overflow="ellipsis")
    return line


def _spans(live: Live, width: int) -> Text:
    """Return the table of spans, with sparklines."""
    names = f"last {format_ns(live.recent * live.width_ns)}", "p50", "p99", "max"
    columns = (Column(names[0], "span"), *(Column(name, "time") for name in names[1:]))
    rows = []
    for name in live.names:
        found = live.numbers(name)
        level = live.limits.of(name).level
        rows.append((name, *(Cell(ns, level(ns)) for ns in (found.p50, found.p99, found.max))))
    lines = styled_table(Table(columns, rows), width)[0].split()
    # if the line is too short for the whole history, its newest seconds are shown
    left = max(width - 2 - max(line.cell_len for line in lines), 8)
    lines[0].append("  p99, last minute", "dim")
    for line, name in zip(lines[1:], live.names, strict=True):
        line.append(f"  {sparkline(live.history(name))[-left:]}", "cyan")
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _slow_frames(live: Live, update: Update, width: int, height: int) -> list[Text]:
    if live.limits == Thresholds():
        known = "thresholds unknown" if update.thresholds is None else "no threshold"
        return [Text(f"{known}; --critical 50ms lists frames above 50 ms", style="dim")]
    lines = [Text(f"Last frames above {_least(live.limits)}", style="bold")]
    if not live.slow_frames:
        return [*lines, Text("none", style="dim")]
    for frame in list(live.slow_frames)[: -height - 1 : -1]:
        source = f" {clip(frame.source, 18)}" if frame.source else ""
        line = Text.assemble(
            (format_utc(frame.end_ns)[11:23], "dim"),
            f"  frame {frame.frame_id}{source}  ",
            _time(frame.end_to_end_ns, live.limits.level(frame.end_to_end_ns)),
            "  ",
        )
        for k, (name, ns) in enumerate(frame.spans):
            level = live.limits.spans.get(name, Thresholds()).level(ns)
            line += Text.assemble(", " * (k > 0), f"{clip(name, 18)} ", _time(ns, level))
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _least(limits: Thresholds) -> str:
    if limits.spans:
        return "a threshold"
    given = [getattr(limits, f"{level}_ns") for level in LEVELS]
    return format_exact(min(limit for limit in given if limit is not None))


def _time(ns: int, level: str) -> Text:
    return Text(format_ns(ns), LEVEL_STYLES[level])


def _foot() -> Text:
    return Text("q quits", style="dim")


def sparkline(values: list[int | None]) -> str:
    """Return a character for each value, with its height relative to the largest, or a space.

    Examples
    --------
    >>> sparkline([None, 0, 40, 100])
    ' ▁▄█'
    """
    largest = max((value for value in values if value is not None), default=0) or 1
    return "".join(
        " " if value is None else _BLOCKS[round(value * (len(_BLOCKS) - 1) / largest)]
        for value in values
    )
