"""Tables of values: the same model as text, Markdown and HTML."""

import re
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from latprof.table import (
    Cell,
    Column,
    Section,
    Table,
    html,
    html_table,
    lay_out,
    markdown,
    text,
    wrapped,
)

HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m|*_`$x$\u202e"


def table(*rows):
    columns = Column("span", "span"), Column("mean", "time"), Column("share", "share", bar=8)
    return Table(columns, rows)


def cells_of(page):
    root = ElementTree.fromstring(page)
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("time", 8_600_000, "8.60 ms"),
        ("time", float("nan"), "-"),
        ("share", 0.857, "85.7%"),
        ("share", -0.1, "-10.0%"),
        ("count", 12_345, "12,345"),
        ("quantity", 49.987, "50.0"),
        ("moment", 1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456Z"),
        ("name", "", "(empty)"),
        ("name", "x" * 70, "x" * 15 + "..."),
        ("name", 2**64 - 1, "18446744073709551..."[:15] + "..."),
        ("text", "a\nb", r"a\nb"),
        *((kind, None, "-") for kind in ("time", "share", "count", "name", "text", "moment")),
    ],
)
def test_the_kind_of_a_column_says_how_values_are_written(kind, value, shown):
    section = Section(table=Table((Column("x", kind),), [(value,)]))
    assert text([section]).split("\n")[1].strip() == shown


def test_doubtful_values_and_notes_are_written_in_every_output():
    section = Section(table=table(("play", Cell(7, doubtful=True, note="5 to 9 ns"), 0.5)))
    assert "7 ns? (5 to 9 ns)" in text([section])
    assert "7 ns? (5 to 9 ns)" in markdown([section])
    assert cells_of(html_table(section.table))[1] == ["play", "7 ns?5 to 9 ns", "50.0%"]


def test_all_outputs_have_the_same_cells():
    shown = table(("decode", 1_500, 0.25), ("play", 4_500, None))
    rows = [["span", "mean", "share"], ["decode", "1.50 us", "25.0%"], ["play", "4.50 us", "-"]]
    lines = text([Section(table=shown)]).split("\n")
    assert [re.split(r"  +", line) for line in lines] == rows
    lines = markdown([Section(table=shown)]).split("\n")
    del lines[1]
    assert [line.strip("| ").split(" | ") for line in lines] == rows
    assert cells_of(html_table(shown)) == rows


def test_text_has_the_bars_of_its_last_column_only():
    shown = table(("a", 1, Cell(0.5, bar=0.5)))
    assert text([Section(table=shown)]).endswith("50.0%  ####")
    columns = *shown.columns, Column("max", "time")
    assert "#" not in text([Section(table=Table(columns, [(*shown.rows[0], 1)]))])


def test_a_narrow_layout_leaves_out_columns_by_rank_and_names_them():
    columns = (
        Column("span", "span"),
        Column("share", "share", bar=8),
        Column("min", "time", spare=1),
        Column("p90", "time", spare=4),
        Column("max", "time"),
    )
    shown = Table(columns, [("play", Cell(0.5, bar=0.5), 1, 2, 3)])
    # widths 4, 5, 4 (the bar), 4, 4, 4: 25 and five gaps of 2 or 1 columns
    expected = {35: ([], True), 34: ([], True), 30: ([], True), 29: (["min"], True)}
    expected |= {25: (["min"], True), 24: (["min"], False), 20: (["min"], False)}
    expected |= {19: (["min", "p90"], False), 3: (["min", "p90"], False)}
    for width, (left_out, has_bar) in expected.items():
        laid = lay_out(shown, width, spare=True, draw=lambda share, room: "#" * int(share * room))
        assert laid.left_out == left_out, width
        assert any(style == "bar" for _, style in laid.lines[1]) == has_bar, width
        assert max(sum(len(part) for part, _ in line) for line in laid.lines) <= max(width, 17)


def test_text_of_the_last_column_is_wrapped():
    columns = Column("frame", "name"), Column("longest")
    laid = lay_out(
        Table(columns, [("7", "word " * 20), ("8", "short")]), 40, spare=True, draw=lambda *_: ""
    )
    lines = ["".join(part for part, _ in line) for line in laid.lines]
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(" ".join(lines[1:-1]).split()) == "7 " + " ".join(["word"] * 20)
    assert lines[-1] == "8      short"


def test_wide_characters_keep_columns_aligned():
    lines = text([Section(table=table(("音声", 1, 0.5), ("abcd", 1, 0.5)))]).split("\n")
    assert lines[1].index("1 ns") + 2 == lines[2].index("1 ns")


def test_columns_are_those_of_a_terminal():
    # wide characters, a flag, an accent: as rich counts them, which draws on terminals
    for name in ("音声", "🇯🇵", "e\u0301", "漢字漢字漢字漢字漢字漢字漢字"):
        lines = text([Section("", (), table((name, 1, 0.5), ("abcd", 1, 0.5)))]).split("\n")
        assert len({cell_len(line.partition("1 ns")[0]) for line in lines[1:]}) == 1
    long = "漢字" * 80
    for shown in text([Section(long, (long, f"a {long} b"), table((long, 1, 0.5)))]).split("\n"):
        assert cell_len(shown) <= 100
        assert 28 <= cell_len(wrapped(long, 30)[0]) <= 30


def test_a_table_that_is_too_wide_continues_below():
    columns = [Column("span", "span"), *(Column(f"waiting_for_{i}", "time") for i in range(20))]
    rows = [("decode", *range(20)), ("play", *range(20, 40))]
    lines = text([Section("", (), Table(tuple(columns), rows))]).split("\n")
    assert all(len(line) <= 100 for line in lines)
    blocks = "\n".join(lines).split("\n\n")
    assert len(blocks) == 4
    for block in blocks:
        assert [line.split()[0] for line in block.split("\n")] == ["span", "decode", "play"]
    heads = [word for block in blocks for word in block.split("\n")[0].split()[1:]]
    values = [int(word) for b in blocks for word in b.split("\n")[1].split()[1::2]]
    assert heads == [column.name for column in columns[1:]]
    assert values == list(range(20))


def test_hostile_names_stay_text_everywhere():
    section = Section(HOSTILE, (HOSTILE,), Table((Column(HOSTILE, "name"),), [(HOSTILE,)]))
    for shown in (text([section]), markdown([section]), html([section])):
        assert all(c.isprintable() or c == "\n" for c in shown)
    for shown in (markdown([section]), html([section])):
        assert "<script" not in shown
    page = html([section])
    ElementTree.fromstring(page.replace("<br>", "<br/>"))
    assert r"<script>alert(1)</script>&" in "".join(ElementTree.fromstring(page).itertext())
    rows = [line for line in markdown([section]).split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {2}


def test_bars_stay_in_their_cells():
    page = html_table(table(("a", 1, Cell(7.0, bar=7.0)), ("b", 1, Cell(-1.0, bar=-1.0))))
    assert re.findall(r" ([\d.]+)%,", page) == ["100.0", "0.0"]


def test_colours_mark_spans_and_only_spans():
    colors = {"play": "#123456"}
    shown = table(("play", 1, Cell(0.5, bar=0.5)), ("other", 1, Cell(0.5, bar=0.5)))
    page = html_table(shown, colors)
    assert page.count("background:#123456") == 1
    assert page.count("#12345659 50.0%") == 1
    groups = Table((Column("room", "name"), *shown.columns[1:]), shown.rows)
    assert "#123456" not in html_table(groups, colors)


def test_levels_are_classes_of_cells():
    page = html_table(table(("a", Cell(1, "warning"), Cell(0.5, "critical"))))
    assert re.findall(r'<td class="(\w+)"', page) == ["warning", "critical"]


def test_cells_have_padding_and_words_are_aligned_to_the_left():
    columns = Column("span", "span"), Column("marks"), Column("mean", "time")
    page = html_table(Table(columns, [("a", "b to c", 1_000_000)]))
    cells = re.findall(r'<(?:td|th)[^>]* style="([^"]*)">', page)
    assert len(cells) == 6
    assert all("padding:.15em .6em" in style for style in cells)
    sides = [re.search(r"text-align:(\w+)", style)[1] for style in cells]
    assert sides == ["left", "left", "right"] * 2
    # a time stays beside its unit; a long name may wrap
    assert ["white-space:nowrap" in style for style in cells[3:]] == [False, False, True]
