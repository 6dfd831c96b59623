"""How names, values and counts are written in messages and reports."""

import os

__all__ = ["clip", "counted", "escape", "quoted", "shown_path"]


def counted(count: int, what: str, several: str = "") -> str:
    """Return a count and what is counted.

    Examples
    --------
    >>> counted(1, "frame"), counted(0, "frame"), counted(1_204, "time batch", "time batches")
    ('1 frame', '0 frames', '1,204 time batches')
    """
    return f"{count:,} {what if count == 1 else several or what + 's'}"


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
    text = escape(os.fsdecode(path))
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"
