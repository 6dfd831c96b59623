"""Sections and tables of values, written as text, Markdown and HTML.

A section has a title, a table and lines of text. The cells of a table hold values. The kind of
their column says how the values are written, so that every output formats them in the same way.
All names and lines are escaped here: control characters, and what Markdown or HTML would interpret.
"""

import html as markup
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from latprof.colors import PALETTE
from latprof.text import clip, cut_to, escape, width_of, wrapped
from latprof.units import format_ns, format_quantity, format_utc

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Cell",
    "Column",
    "Kind",
    "Layout",
    "Section",
    "Shown",
    "Table",
    "data_frame",
    "doubtful",
    "hashes",
    "html",
    "html_table",
    "lay_out",
    "markdown",
    "text",
    "written",
]

TEXT_WIDTH = 100
NAME_WIDTH = 18  # characters of a name in a table of text
LEAST_WRAPPED = 24  # columns that wrapped text gets at least
BAR_SPARE = 3

Kind = Literal["span", "name", "text", "count", "time", "share", "quantity", "moment"]
Value = str | int | float | None

_WRITTEN: dict[Kind, Callable[[Any], str]] = {
    "text": escape,
    "count": "{:,}".format,
    "time": format_ns,
    "share": "{:.1%}".format,
    "quantity": format_quantity,
    "moment": format_utc,
}
_NAMES = ("span", "name")
_EMPTY = ("-", "0", "0.0%", "0 ns")
_DOUBT = "margin:.3em 0;padding-left:.6em;border-left:4px solid #d9822b"
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\|`*_[]#"} | {"<": "&lt;", "&": "&amp;"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name
        Heading of the column.
    kind
        Kind of the values: names (``"span"``, ``"name"``), ``"text"``, a ``"count"``, a ``"time"``
        in ns, a ``"share"`` from 0 to 1, a ``"quantity"`` (any other number) or a ``"moment"`` in
        UTC ns. Numbers are aligned to the right, everything else to the left.
    bar
        Width, in characters, of the bars that follow the column in text and on terminals. In HTML
        bars are drawn behind the values.
    spare
        Rank in which a narrow terminal leaves columns out: 1 before 2; 0 is never left out. Bars
        have rank 3.
    """

    name: str
    kind: Kind = "text"
    bar: int = 0
    spare: int = 0

    @property
    def left(self) -> bool:
        """Whether the values are aligned to the left."""
        return self.kind in (*_NAMES, "text", "moment")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a level, a doubt, a bar or a note of its own.

    Parameters
    ----------
    value
        A value of the column's kind, or None if it is not known.
    level
        ``"warning"`` or ``"critical"`` for a value above that threshold.
    doubtful
        The value is followed by a question mark.
    bar
        Length of the cell's bar, from 0 to 1.
    note
        Added to the value: in brackets, or in small letters below it.
    """

    value: Value
    level: str = ""
    doubtful: bool = False
    bar: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows of values or cells."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]

    def cells(self) -> list[list[Cell]]:
        """Return all rows as cells."""
        return [[x if isinstance(x, Cell) else Cell(x) for x in row] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: a title, doubts, a table, lines of text.

    `key` is its name for programs. `doubts` are reasons why its numbers may be wrong.
    """

    title: str = ""
    lines: tuple[str, ...] = ()
    table: Table | None = None
    key: str = ""
    doubts: tuple[str, ...] = ()


class Shown:
    """A result that is shown by its sections: as text by ``str()``, as HTML by a notebook."""

    def sections(self) -> list[Section]:
        """Return the sections that are shown."""
        raise NotImplementedError

    def to_markdown(self) -> str:
        """Return the sections as Markdown, for a ticket or a pull request."""
        return markdown(self.sections()) + "\n"

    def __str__(self) -> str:
        return text(self.sections())

    def _repr_html_(self) -> str:
        return html(self.sections())


def written(cell: Cell, kind: Kind, most: int = 64) -> str:
    """Return a cell as text: names have at most `most` characters; None and NaN are "-".

    Examples
    --------
    >>> [written(Cell(x), "time") for x in (8_600_000, None)]
    ['8.60 ms', '-']
    >>> written(Cell(0.857, doubtful=True, note="of 7"), "share")
    '85.7%? (of 7)'
    """
    return _value(cell, kind, most) + (f" ({escape(cell.note)})" if cell.note else "")


def _value(cell: Cell, kind: Kind, most: int) -> str:
    value = cell.value
    if value is None or value != value:
        return "-"
    shown = clip(str(value), most) or "(empty)" if kind in _NAMES else _WRITTEN[kind](value)
    return f"{shown}?" if cell.doubtful else shown


def data_frame(
    rows: Sequence[Mapping[str, Any]], index: str, types: Mapping[str, Any] | None = None
) -> "pd.DataFrame":
    """Return rows of values by name as a DataFrame, indexed by one of the values.

    A column is float64 unless `types` has its dtype; None is a missing value. Without rows the
    DataFrame has the columns of `types`.

    Examples
    --------
    >>> rows = [{"stage": "decode", "mean": 7, "frames": 2}, {"stage": "play", "mean": None}]
    >>> data_frame(rows[:1], "stage", {"frames": "int64"}).loc["decode"].to_dict()
    {'mean': 7.0, 'frames': 2.0}
    """
    import pandas as pd

    known = types or {}
    names = [name for name in (rows[0] if rows else known) if name != index]
    columns = {
        name: pd.array([row[name] for row in rows], dtype=known.get(name, "float64"))
        for name in names
    }
    labels = pd.Index([row[index] for row in rows], name=index, dtype=known.get(index, object))
    return pd.DataFrame(columns, index=labels)


# -- text ---------------------------------------------------------------------------------------


def text(sections: Sequence[Section]) -> str:
    """Return sections as plain text of at most 100 columns.

    Examples
    --------
    >>> columns = Column("span", "span"), Column("mean", "time"), Column("share", "share", bar=8)
    >>> rows = [("decode", 1_500, Cell(0.25, bar=0.25)), ("play", 4_500, Cell(0.75, bar=0.75))]
    >>> print(text([Section("Spans", ("2 frames",), Table(columns, rows))]))
    Spans
    span       mean  share
    decode  1.50 us  25.0%  ##
    play    4.50 us  75.0%  ######
    2 frames
    """
    return "\n\n".join("\n".join(_text_lines(section)) for section in sections)


def _text_lines(section: Section) -> list[str]:
    lines = wrapped(section.title, TEXT_WIDTH) if section.title else []
    lines += [part for line in doubtful(section) for part in wrapped(line, TEXT_WIDTH)]
    if section.table is not None:
        laid = lay_out(section.table, TEXT_WIDTH, spare=False, draw=hashes)
        lines += ["".join(part for part, _ in line).rstrip() for line in laid.lines]
    return lines + [part for line in section.lines for part in wrapped(line, TEXT_WIDTH)]


def doubtful(section: Section) -> list[str]:
    """Return the doubts of a section as lines of text."""
    return [f"doubtful: {doubt}" for doubt in section.doubts]


def hashes(share: float, width: int) -> str:
    """Return a bar of ASCII characters, for a share from 0 to 1."""
    return "#" * round(share * width)


@dataclass(frozen=True, slots=True)
class Layout:
    """A table laid out for a width.

    `lines` are lists of text and its style: ``""``, ``"head"``, ``"name"``, ``"bar"``, ``"faint"``,
    ``"warning"`` or ``"critical"``. `left_out` are the names of columns that do not fit.
    """

    lines: list[list[tuple[str, str]]]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class _Strip:
    """A column of text: the heading first, then a part for each row, with its style."""

    parts: list[tuple[str, str]]
    left: bool
    spare: int
    wraps: bool = False

    @property
    def width(self) -> int:
        widest = max(width_of(part) for part, _ in self.parts)
        return min(widest, LEAST_WRAPPED) if self.wraps else widest


def lay_out(
    table: Table,
    width: int,
    *,
    spare: bool,
    draw: Callable[[float, int], str],
    stack: bool = True,
) -> Layout:
    """Return a table as lines of text that fit a width.

    Parameters
    ----------
    table
        The table.
    width
        Width in characters.
    spare
        Leave out columns that have a rank if there is not enough width, and draw all bars.
        Otherwise all columns are kept, and only the bars of the last column are drawn.
    draw
        Function that returns a bar, given a length from 0 to 1 and the width of a whole bar.
    stack
        Continue a table that is still too wide below, with its first column again. Otherwise its
        lines are longer than `width`.
    """
    strips: list[_Strip] = []
    rows, last = table.cells(), len(table.columns) - 1
    for k, column in enumerate(table.columns):
        column_cells = [row[k] for row in rows]
        parts = [(escape(column.name), "head")]
        for cell in column_cells:
            shown = written(cell, column.kind, NAME_WIDTH)
            if column.kind in _NAMES:
                shown = cut_to(shown, NAME_WIDTH)
            faint = "faint" if shown in _EMPTY else ""
            parts.append((shown, cell.level or faint or ("name" if column.kind == "span" else "")))
        wraps = k == last and column.kind == "text"
        strips.append(_Strip(parts, column.left, column.spare if spare else 0, wraps))
        if column.bar and (spare or k == last):
            bars = [("", "head")]
            bars += [(draw(_part(c.bar), column.bar), c.level or "bar") for c in column_cells]
            strips.append(_Strip(bars, left=True, spare=BAR_SPARE))
    kept, gap = _fitting(strips, width)
    left_out = [s.parts[0][0] for s in strips if s not in kept and s.parts[0][0]]
    lines: list[list[tuple[str, str]]] = []
    for block in _blocks(kept, gap, width) if stack else [kept]:
        lines += [[]] if lines else []
        lines += [line for i in range(len(rows) + 1) for line in _row(block, i, gap, width)]
    return Layout(lines, left_out)


def _blocks(strips: list[_Strip], gap: int, width: int) -> list[list[_Strip]]:
    """Return the strips in blocks that fit the width, each of which begins with the first strip."""
    blocks, used = [strips[:1]], strips[0].width
    for k, strip in enumerate(strips[1:], 1):
        own_bar = not strip.parts[0][0] and len(blocks[-1]) > 1  # a bar stays beside its column
        needed = gap + strip.width
        if k + 1 < len(strips) and not strips[k + 1].parts[0][0]:
            needed += gap + strips[k + 1].width
        if used + needed > width and len(blocks[-1]) > 1 and not own_bar:
            blocks.append(strips[:1])
            used = strips[0].width
        blocks[-1] = [*blocks[-1], strip]
        used += gap + strip.width
    return blocks


def _fitting(strips: list[_Strip], width: int) -> tuple[list[_Strip], int]:
    """Return the strips that fit, and the gap between them: 2 characters, or 1 if 2 do not fit."""
    kept = strips
    for rank in (0, *sorted({strip.spare for strip in strips} - {0})):
        kept = [strip for strip in strips if not 0 < strip.spare <= rank]
        for gap in (2, 1):
            if sum(strip.width + gap for strip in kept) - gap <= width:
                return kept, gap
    return kept, 1


def _row(strips: list[_Strip], i: int, gap: int, width: int) -> list[list[tuple[str, str]]]:
    """Return the lines of a row: more than one if its last part is wrapped."""
    line: list[tuple[str, str]] = []
    for k, strip in enumerate(strips):
        part, style = strip.parts[i]
        if strip.wraps:
            begin = sum(width_of(text) for text, _ in line)
            pieces = wrapped(part, max(width - begin, LEAST_WRAPPED), indent="")
            rest = [[(" " * begin, ""), (piece, style)] for piece in pieces[1:]]
            return [[*line, (pieces[0], style)], *rest]
        pad = " " * (strip.width - width_of(part))
        line.append((part + pad if strip.left else pad + part, style))
        if k < len(strips) - 1:
            line.append((" " * gap, ""))
    return [line]


def _part(bar: float | None) -> float:
    return min(max(bar or 0.0, 0.0), 1.0)


# -- Markdown -----------------------------------------------------------------------------------


def markdown(sections: Sequence[Section]) -> str:
    r"""Return sections as Markdown.

    Examples
    --------
    >>> print(markdown([Section("Spans", (), Table((Column("span", "name"),), [("a|b",)]))]))
    ### Spans
    <BLANKLINE>
    | span |
    | --- |
    | a\|b |
    """
    return "\n\n".join(block for section in sections for block in _markdown_blocks(section))


def _markdown_blocks(section: Section) -> list[str]:
    """Return the blocks of a section: title, doubts, table, lines."""
    blocks = [f"### {_markdown_text(section.title)}"] if section.title else []
    if section.doubts:
        blocks.append("\n".join(f"> **{_markdown_text(line)}**  " for line in doubtful(section)))
    if section.table is not None:
        columns = section.table.columns
        rows = [[_markdown_text(column.name) for column in columns]]
        rows.append(["---" if column.left else "---:" for column in columns])
        for row in section.table.cells():
            shown = (written(cell, col.kind) for cell, col in zip(row, columns, strict=True))
            rows.append([_markdown_text(part) for part in shown])
        blocks.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    if section.lines:
        blocks.append("\n".join(f"{_markdown_text(line)}  " for line in section.lines))
    return blocks


def _markdown_text(text: str) -> str:
    return escape(text).translate(_MARKDOWN)


# -- HTML ---------------------------------------------------------------------------------------


def html(sections: Sequence[Section], span_colors: Mapping[str, str] | None = None) -> str:
    """Return sections as HTML for a notebook: no script, no style sheet, light or dark.

    The colour of text is inherited, and bars are translucent. A wide table scrolls by itself.
    `span_colors` has the colour of spans by name, ``"#rrggbb"``.

    Examples
    --------
    >>> "<script>" in html([Section("<script>")])
    False
    """
    parts = []
    for section in sections:
        lines = "<br>".join(_html_text(line) for line in section.lines)
        title = _html_text(section.title)
        parts += [f'<p style="{_DOUBT}">{_html_text(line)}</p>' for line in doubtful(section)]
        if section.table is not None:
            parts.append(html_table(section.table, span_colors, caption=section.title))
        elif title:
            lines = "<br>".join(filter(None, (f"<strong>{title}</strong>", lines)))
        parts.append(f'<p style="margin:.3em 0">{lines}</p>' if lines else "")
    return f'<div class="latprof" style="overflow-x:auto">{"".join(parts)}</div>'


def html_table(
    table: Table, span_colors: Mapping[str, str] | None = None, *, caption: str = ""
) -> str:
    """Return a table as HTML. Cells above a threshold have its level as their class."""
    shown = ""
    if caption:
        style = "caption-side:top;text-align:left;font-weight:bold;color:inherit"
        shown = f'<caption style="{style}">{_html_text(caption)}</caption>'
    columns = table.columns
    head = "".join(
        f'<th scope="col" style="{_html_style(column)}">{_html_text(column.name)}</th>'
        for column in columns
    )
    body = ""
    known = span_colors if span_colors and columns[0].kind == "span" else {}
    for row in table.cells():
        color = known.get(str(row[0].value), "")  # of all bars of the row
        cells = (_html_cell(cell, columns[k], k, color) for k, cell in enumerate(row))
        body += f"<tr>{''.join(cells)}</tr>"
    return (
        f'<table style="font-variant-numeric:tabular-nums">{shown}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _html_style(column: Column) -> str:
    # not every page has padding for tables in its own style
    return f"padding:.15em .6em;text-align:{'left' if column.left else 'right'}"


def _html_cell(cell: Cell, column: Column, k: int, color: str) -> str:
    """Return a cell as HTML; `color` is that of its row."""
    style = _html_style(column)
    if not column.left:
        style += ";white-space:nowrap"  # a time stays beside its unit
    if cell.level == "critical":
        style += ";font-weight:bold"
    if cell.bar is not None:
        part = f"{_part(cell.bar):.1%}"
        # 59 in hex is 35 %: text over the bar is readable on light and on dark
        bar = f"linear-gradient(90deg,{color or PALETTE[0]}59 {part},transparent {part})"
        style += f";min-width:6em;background:{bar}"
    chip = ""
    if color and k == 0:
        look = f"display:inline-block;width:.8em;height:.8em;background:{color}"
        chip = f'<span aria-hidden="true" style="{look};margin-right:.4em"></span>'
    level = f' class="{cell.level}"' if cell.level else ""
    note = f'<small style="display:block">{_html_text(cell.note)}</small>' if cell.note else ""
    shown = f"{chip}{_html_text(_value(cell, column.kind, 64))}{note}"
    tag = 'th scope="row"' if k == 0 else "td"
    return f'<{tag}{level} style="{style}">{shown}</{tag[:2]}>'


def _html_text(text: str) -> str:
    return markup.escape(escape(text))
