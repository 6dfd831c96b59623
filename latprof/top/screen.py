"""The screen of the live view, for a terminal of any size."""

from rich.console import Console, Group, RenderableType
from rich.text import Text

from latprof.report.terminal import LEVEL_STYLES, styled_table
from latprof.table import Cell, Column, Table
from latprof.text import clip, counted, escape
from latprof.thresholds import LEVELS, Thresholds
from latprof.top.feeds import Update
from latprof.top.live import Live
from latprof.units import format_ns, format_quantity, format_utc

__all__ = ["screen", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_QUIET_NS = 3_000_000_000


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
    if live is None:
        return Group(*parts, Text(), Text("waiting for frames", style="dim"), _foot())
    parts += [_counts(live, lost, width), Text(), _spans(live, width)]
    lines = height - len(live.names) - 9
    if lines > 0:
        parts += [Text(), *_slow_frames(live, update, width, lines)]
    return Group(*parts, Text(), _foot())


def _title(live: Live | None, update: Update, path: str, now_ns: int, width: int) -> Text:
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


def _counts(live: Live, lost: int, width: int) -> Text:
    # the most important numbers come first, as a narrow terminal cuts the end
    rate = "-" if live.rate is None else format_quantity(live.rate)
    line = Text.assemble((rate, "bold"), f" frames/s, {counted(live.finished, 'frame')}")
    line.append(f", {lost:,} lost", "bold red" if lost else "")
    if live.dropped:
        line.append(f", {live.dropped:,} dropped", "yellow")
    for level in LEVELS[::-1]:
        if live.above[level]:
            limit = getattr(live.limits, f"{level}_ns")
            what = level if live.limits.spans else f"above {format_ns(limit)}"
            line.append(f", {live.above[level]:,} {what}", LEVEL_STYLES[level])
    line.truncate(width, overflow="ellipsis")
    return line


def _spans(live: Live, width: int) -> Text:
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
    return format_ns(min(limit for limit in given if limit is not None))


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
