"""Names: which are allowed, and how names, values and counts are written in messages."""

import os
import re
import textwrap
from collections.abc import Sequence

from latprof.errors import PipelineError

__all__ = [
    "RESERVED",
    "check_distinct",
    "check_identifier",
    "check_name",
    "clip",
    "counted",
    "cut_to",
    "escape",
    "listed",
    "quoted",
    "shown_path",
    "storable",
    "width_of",
    "without_secrets",
    "wrapped",
]

RESERVED = frozenset(
    (
        *("frame_id", "size", "source", "outcome", "cpu", "rss", "weight", "begin", "seq"),
        *("other", "end_to_end", "response"),
    )
)
"""Names of columns and of computed spans, which no mark, span or tag may have."""

_LONGEST = 64
_UNIT = re.compile(r"(\d) (?=[a-z%])")


def counted(count: int, what: str, several: str = "") -> str:
    """Return a count with its noun; `several` is an irregular plural.

    Examples
    --------
    >>> counted(1, "frame"), counted(0, "frame"), counted(1_204, "time batch", "time batches")
    ('1 frame', '0 frames', '1,204 time batches')
    """
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def listed(names: Sequence[str], most: int) -> str:
    """Return names with commas, of which at most `most` are written out.

    Examples
    --------
    >>> listed(["a", "b"], 3), listed(["a", "b", "c", "d"], 3)
    ('a, b', 'a, b, c and 1 more')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def escape(text: str) -> str:
    r"""Return text with control characters written out, so that a terminal shows them.

    Examples
    --------
    >>> print(escape("mic\x1b[31m\n"))
    mic\x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clip(name: str, limit: int = 64) -> str:
    """Return text as a message or a table shows it: escaped, at most `limit` characters.

    Examples
    --------
    >>> clip("mic"), clip("a" * 200, limit=10)
    ('mic', 'aaaaaaa...')
    """
    text = escape(name[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def quoted(value: object, limit: int = 80) -> str:
    r"""Return a value as a message shows it: quoted, escaped, on one line, shortened.

    Examples
    --------
    >>> quoted("mic"), quoted(7), quoted("a" * 200, limit=10)
    ("'mic'", '7', "'aaaaaa...")
    >>> print(quoted("mic\x1b[31m"))
    'mic\x1b[31m'
    """
    if isinstance(value, str) and "://" in value:
        value = without_secrets(value)
    try:
        text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    except Exception:  # of an object that cannot be shown, for example a very large integer
        text = "\n"
    # an object of several lines, such as a DataFrame, is named by its type
    return clip(f"<{type(value).__name__}>" if "\n" in text else text, limit)


def shown_path(path: str | os.PathLike[str], limit: int = 240) -> str:
    r"""Return a path as a message shows it: escaped, without the middle if it is long.

    Examples
    --------
    >>> print(shown_path("no\n.parquet"), shown_path("a" * 50 + ".parquet", limit=19))
    no\n.parquet aaaaaaaa....parquet
    """
    text = os.fsdecode(path)
    if _URL.match(text):
        text = text.partition("?")[0]
    text = escape(without_secrets(text))
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def storable(name: str) -> str:
    r"""Return a name in the form for files and protocols: lone surrogates are written as escapes.

    Examples
    --------
    >>> print(storable("ü"), storable("a\udcff"))
    ü a\udcff
    """
    return name.encode("utf-8", "backslashreplace").decode()


_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")


def without_secrets(text: str) -> str:
    """Return text in which URLs have no user, no password and no query: these may be secrets.

    Examples
    --------
    >>> without_secrets("s3://key:pass/word@bucket/mic.parquet?session_token=x")
    's3://bucket/mic.parquet'
    >>> without_secrets("s3://bucket/user@host.parquet")
    's3://bucket/user@host.parquet'
    """
    return _URL.sub(_shown_url, text) if "://" in text else text


def _shown_url(found: re.Match[str]) -> str:
    rest = found[2].partition("?")[0]
    host = rest.partition("/")[0]
    if "@" in host:
        rest = rest[host.rindex("@") + 1 :]
    elif "@" in rest and not re.fullmatch(r"[^:]*(:\d*)?", host):
        rest = rest.rpartition("@")[2]  # a password with a slash; what follows a host is a port
    return found[1] + rest


# -- columns of a terminal -----------------------------------------------------------------------


def wrapped(line: str, width: int, *, indent: str = "  ") -> list[str]:
    """Return a line as lines of at most `width` characters, all but the first indented.

    Examples
    --------
    >>> wrapped("end to end 20.0 ms", 16)
    ['end to end', '  20.0 ms']
    """
    shown = escape(line)
    joined = _UNIT.sub("\\1\xa0", shown)  # a number stays beside its unit
    if width_of(shown) == len(shown):
        parts = textwrap.wrap(joined, width, subsequent_indent=indent) or [""]
    else:
        parts = _wrapped_wide(joined, width, indent)
    return [part.replace("\xa0", " ") for part in parts]


def _wrapped_wide(line: str, width: int, indent: str) -> list[str]:
    """Do the same as `textwrap.wrap` for text of which a character may take two columns."""
    from rich.cells import chop_cells

    lines, room = [""], width
    for word in filter(None, line.split(" ")):
        gap = " " if lines[-1].strip() else ""
        if width_of(lines[-1] + gap + word) <= width:
            lines[-1] += gap + word
            continue
        room = width - len(indent)
        pieces = chop_cells(word, room) if width_of(word) > room else [word]
        lines += [indent + piece for piece in pieces]
    return (
        lines if lines[0] else [lines[1].removeprefix(indent), *lines[2:]] if lines[1:] else lines
    )


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut_to(name: str, width: int) -> str:
    """Return a name that takes at most `width` columns."""
    if width_of(name) <= width:
        return name
    from rich.cells import set_cell_size

    return f"{set_cell_size(name.removesuffix('...'), width - 3).rstrip()}..."


# -- rules for names ------------------------------------------------------------------------------


def check_identifier(name: object, what: str) -> str:
    """Return `name` if a pipeline or a station may have it.

    Raises
    ------
    PipelineError
        Not an identifier, or longer than 64 characters.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise PipelineError(
            f"{what} must be an identifier (letters, digits and _, not a digit first), got "
            f"{quoted(name)}"
        )
    if len(name) > _LONGEST:
        raise PipelineError(
            f"{what} must have at most {_LONGEST} characters, got {len(name)}: {quoted(name, 24)}"
        )
    return name


def check_name(name: object, what: str) -> str:
    """Return `name` if a mark, a span or a tag may have it.

    Raises
    ------
    PipelineError
        Not an identifier, longer than 64 characters, reserved, or ending in ``_latency``, in
        upper or lower case: some tools that read traces ignore case.
    """
    name = check_identifier(name, what)
    if name.casefold() in RESERVED or name.casefold().endswith("_latency"):
        raise PipelineError(
            f"{what} must not be a reserved name ({', '.join(sorted(RESERVED))}) or end in "
            f"_latency, got {name!r}; choose another name"
        )
    return name


def check_distinct(names: list[str], what: str) -> None:
    """Refuse names that differ by case alone.

    Raises
    ------
    PipelineError
        Two names do.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise PipelineError(
                f"{what} must differ by more than case, got {other!r} and {name!r}; rename one, "
                "some tools that read traces ignore case"
            )
