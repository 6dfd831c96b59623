"""CSV and its dialects: found in the first lines, read in blocks that end where a row ends."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.io.formats.files import BOM, HEAD, LONGEST_LINE, ByteStream
from latprof.io.formats.layout import columns_laid_out_alike
from latprof.text import quoted

__all__ = ["Block", "Dialect", "ParsedBlock", "blocks", "parse", "parse_as_text", "sniff"]

_BLOCK = 1 << 22  # bytes parsed at once
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 20
_NUMBER_OR_TIME = re.compile(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?|\d{4}-\d\d-\d\d[T ][\d:.]+\S*")
_DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_TO_POINT = (r"^(\s*[+-]?\d+),(\d+\s*)$", r"\1.\2")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the values of a file are separated, and where its rows begin.

    Attributes
    ----------
    names
        Of the columns, all different: column_1, column_2, ... if the file does not name them.
    first_row
        Bytes before the first row of values.
    first_line
        Number of the line with the first row, from 1.
    repeated
        Names that the file gives to several columns.
    missing
        Texts that mean that a value is missing.
    """

    delimiter: str
    decimal_point: str
    names: tuple[str, ...]
    first_row: int
    first_line: int
    repeated: tuple[str, ...]
    missing: tuple[str, ...]


def sniff(head: bytes, missing: Sequence[str]) -> Dialect:
    """Return the dialect of a file that begins with `head`, with these texts for missing values.

    Lines before the names of columns that begin with # are comments.

    Raises
    ------
    TraceError
        The text is in another encoding than UTF-8 or ASCII, or has no row.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_binary(head[:1024]):
        raise TraceError(
            "the file must be a table in UTF-8 or have a format that latprof formats lists, got "
            "UTF-16 or bytes that are not text; save it as CSV in UTF-8"
        )
    place = len(BOM) if head.startswith(BOM) else 0
    line_number, delimiter = 1, ""
    while True:
        end = head.find(b"\n", place)
        line = head[place : end if end >= 0 else len(head)].strip()
        declared = re.fullmatch(rb"sep=([,;\t|])", line)
        if line and declared is None and not line.startswith(b"#"):
            break
        if declared is not None:
            delimiter = declared[1].decode()
        if end < 0:
            raise TraceError(
                "the table must have a row of values, got none; record again, or name another file"
            )
        place, line_number = end + 1, line_number + 1
    if b"\n" not in head and b"\r" in head.strip():
        raise TraceError(
            "lines must end with a line feed, got carriage returns alone; replace them, for "
            "example with tr '\\r' '\\n'"
        )
    lines = head[place:].decode("utf-8", "replace").removesuffix("\n").split("\n")
    if len(head) >= HEAD and len(lines) > 1 and not head.endswith(b"\n"):
        del lines[-1]  # it is cut
    del lines[_SNIFFED_ROWS + 1 :]
    delimiter = delimiter or _delimiter(lines)
    rows = _rows(lines, delimiter)
    first, below = rows[0], rows[1:]
    if below and all(_is_longer(row, first) for row in below):
        first = [*first, ""]  # only the rows of values end with a delimiter
    elif below and all(_is_longer(first, row) for row in below):
        first = first[:-1]
    named = not all(not cell or _NUMBER_OR_TIME.fullmatch(cell) for cell in first)
    if named:
        for _ in range(_lines_of_first_row(lines, delimiter)):
            end = head.find(b"\n", place)
            place = end + 1 if end >= 0 else len(head)
            line_number += 1
    else:
        below = rows
    cells = [cell for row in below for cell in row] if delimiter != "," else []
    commas = sum(_DECIMAL_COMMA.fullmatch(cell) is not None for cell in cells)
    comma = commas > sum(_DECIMAL_POINT.fullmatch(cell) is not None for cell in cells)
    names = _distinct(first if named else [""] * len(first))
    repeated = tuple(name for name, n in Counter(first).items() if named and name and n > 1)
    point = "," if comma else "."
    return Dialect(delimiter, point, names, place, line_number, repeated, tuple(missing))


def _is_binary(head: bytes) -> bool:
    """Return whether bytes are not text: they have a zero, or control characters and no UTF-8."""
    if b"\x00" in head:
        return True
    try:
        head[:-4].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return _CONTROL.search(head) is not None
    return False


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that cuts the names, and most rows, into most columns."""

    def score(delimiter: str) -> tuple[int, int]:
        rows = _rows(lines, delimiter)
        fitting = sum(
            len(row) == len(rows[0]) or _is_longer(row, rows[0]) or _is_longer(rows[0], row)
            for row in rows[1:]
        )
        return (len(rows[0]) if 2 * fitting >= len(rows) - 1 else 1, fitting)

    return max(_DELIMITERS, key=score)


def _is_longer(row: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether `row` has one value more than `other`, an empty one at its end."""
    return len(row) == len(other) + 1 > 2 and not row[-1]


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        found = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))
    except csv.Error:  # a cell is too long
        found = [line.split(delimiter) for line in lines]
    return [[cell.strip() for cell in row] for row in found if row] or [[""]]


def _lines_of_first_row(lines: Sequence[str], delimiter: str) -> int:
    """Return how many lines the names of columns take: a quoted one may have several."""
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter)
    try:
        next(reader)
    except csv.Error:
        return 1
    return reader.line_num


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for number, name in enumerate(names, 1):
        name = name or f"column_{number}"
        while name in found:
            name = f"{name}_{number}"
        found[name] = None
    return tuple(found)


# -- blocks -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """Whole rows of a file: the first `size` bytes of `held`, which have this number of lines."""

    held: bytearray | bytes
    size: int
    first_line: int
    lines: int

    @property
    def data(self) -> bytes:
        """The rows alone, copied."""
        return bytes(memoryview(self.held)[: self.size])


def blocks(stream: ByteStream, dialect: Dialect) -> Iterator[Block]:
    """Yield the rows of a file in blocks of some megabytes.

    Raises
    ------
    TraceError
        A row is longer than 16 MB.
    """
    skip, line, left = dialect.first_row, dialect.first_line, b""
    while skip and (data := stream.read(skip)):
        skip -= len(data)
    while True:
        held = bytearray(len(left) + _BLOCK)
        held[: len(left)] = left
        size = _fill(stream, held, len(left))
        ended = size < len(held)
        if ended:
            del held[size:]
        end = size if ended else _row_end(held)
        _check_quotes(held, end, dialect.delimiter, line)
        if end:
            lines = int(np.count_nonzero(np.frombuffer(held, np.uint8, end) == ord("\n")))
            yield Block(held, end, line, lines)
            line += lines
        left = bytes(memoryview(held)[end:])
        if len(left) > LONGEST_LINE:
            raise TraceError(
                f"a row must have at most {LONGEST_LINE:,} bytes, got more in line {line:,}; is "
                "the file a table?"
            )
        if ended:
            return


def _fill(stream: ByteStream, held: bytearray, begin: int) -> int:
    """Read into `held` from `begin` on until it is full or the file ends; return the new end."""
    with memoryview(held) as view:
        while begin < len(view) and (read := stream.readinto(view[begin:])):
            begin += read
    return begin


def _check_quotes(held: bytearray, end: int, delimiter: str, line: int) -> None:
    """Refuse a quote that is not closed: all rows after it would be a part of its value.

    Raises
    ------
    TraceError
        The last quote opens a value.
    """
    place = held.rfind(b'"', 0, end)
    around = (ord(delimiter), ord("\n"), ord("\r"))
    opens = place >= 0 and (place == 0 or held[place - 1] in around)
    if opens and place + 1 < end and held[place + 1] not in around:
        line += held.count(b"\n", 0, place)
        raise TraceError(
            f"quoted values must end with a quote, got one in line {line:,} that does not; close "
            "it, or remove the quote"
        )


def _row_end(data: bytearray) -> int:
    """Return where the last whole row ends: a line may end within quotes."""
    end = data.rfind(b"\n")
    if b'"' not in data:
        return end + 1
    for _ in range(1_000):
        if end < 0 or data.count(b'"', 0, end) % 2 == 0:
            break
        end = data.rfind(b"\n", 0, end)
    return end + 1


@dataclass(slots=True)
class ParsedBlock:
    """The rows of a block that have all columns, and those that have not.

    Attributes
    ----------
    table
        The columns that were asked for.
    skipped
        Number, from 0, and text of each row with more or fewer columns.
    """

    table: pa.Table
    block: Block
    skipped: list[tuple[int, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of the block, with those that were skipped."""
        return int(self.table.num_rows) + len(self.skipped)

    def numbers(self) -> Ints:
        """Return the number in the block, from 0, of each row of the table."""
        every = np.arange(self.rows)
        return np.delete(every, [number for number, _ in self.skipped]) if self.skipped else every

    def line_of(self, row: int) -> int:
        """Return the line in the file of a row of the block; of a row of several, the first."""
        line, inside, seen = self.block.first_line, False, -1
        for text in self.block.data.split(b"\n"):
            if not inside and text.strip(b"\r"):
                seen += 1
                if seen == row:
                    break
            inside = inside != (text.count(b'"') % 2 == 1)
            line += 1
        return int(line)


def parse(block: Block, dialect: Dialect, kinds: Mapping[str, pa.DataType]) -> ParsedBlock:
    """Return columns of a block, given with their types.

    Raises
    ------
    pyarrow.ArrowInvalid
        A value does not have the type.
    """
    skipped: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        """Note a row with more or fewer columns."""
        skipped.append((row.number - 1, row.text[:200]))
        return "skip"

    table = _of_rows_alike(block, dialect, kinds)
    if table is None:
        table = _read(_utf8(block), dialect, kinds, skip)
    return ParsedBlock(table, block, skipped)


def _of_rows_alike(
    block: Block, dialect: Dialect, kinds: Mapping[str, pa.DataType]
) -> pa.Table | None:
    """Return the columns if all rows are laid out alike, which is quicker; otherwise None."""
    length = block.held.find(b"\n", 0, block.size) + 1
    if not length or block.size != length * block.lines:
        return None
    if not block.held.isascii() or block.held.find(b'"', 0, block.size) >= 0:
        return None
    rows = np.frombuffer(block.held, np.uint8, block.size).reshape(block.lines, length)
    separators = dialect.delimiter, dialect.decimal_point
    return columns_laid_out_alike(rows, separators, dialect.names, kinds, dialect.missing)


def _utf8(block: Block) -> pa.Buffer:
    """Return the rows, with a replacement character for what is not UTF-8."""
    if not block.held.isascii():
        try:
            block.data.decode()
        except UnicodeDecodeError:
            return pa.py_buffer(block.data.decode("utf-8", "replace").encode())
    return pa.py_buffer(block.held).slice(0, block.size)


def _read(
    data: pa.Buffer,
    dialect: Dialect,
    kinds: Mapping[str, pa.DataType],
    skip: Callable[[Any], str],
) -> pa.Table:
    several_lines = bool((np.frombuffer(data, np.uint8) == ord('"')).any())
    return arrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, column_names=list(dialect.names), block_size=data.size + 1
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=dialect.delimiter,
            newlines_in_values=several_lines,
            invalid_row_handler=skip,
        ),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(kinds),
            column_types=dict(kinds),
            null_values=list(dialect.missing),
            strings_can_be_null=True,
            quoted_strings_can_be_null=dialect.missing != ("",),
            decimal_point=dialect.decimal_point,
        ),
    )


def parse_as_text(block: Block, dialect: Dialect, columns: Iterable[str]) -> ParsedBlock:
    """Return columns of a block as text; bytes that are not UTF-8 become a replacement character.

    Raises
    ------
    TraceError
        The block is not a table.
    """
    kinds = dict.fromkeys(columns, pa.string())
    if not block.data.strip():
        return ParsedBlock(pa.schema(list(kinds.items())).empty_table(), block)
    try:
        found = parse(block, dialect, kinds)
    except pa.ArrowInvalid as error:
        raise TraceError(
            f"the rows from line {block.first_line:,} on must be a table: "
            f"{quoted(str(error).partition(chr(10))[0], 120)}"
        ) from None
    if dialect.decimal_point == ",":
        points = [pc.replace_substring_regex(c, *_TO_POINT) for c in found.table.columns]
        found.table = pa.table(points, names=list(kinds))
    return found
