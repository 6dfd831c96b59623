"""What goes wrong with a file, in one line that names it."""

import contextlib
import errno
from collections.abc import Iterator

from latprof.errors import LatprofError, TraceError
from latprof.text import escape

__all__ = ["first_line", "named"]


@contextlib.contextmanager
def named(path: str, what: str) -> Iterator[None]:
    """Let no error out that does not name the file in one line."""
    shown = escape(path)
    try:
        yield
    except LatprofError as error:
        text = str(error)
        if not text.startswith(shown):
            verb = text.partition(" ")[0] in ("is", "has", "lacks", "says", "does")
            text = f"{shown} {text}" if verb else f"{shown}: {text}"
        raise TraceError(text) from None
    except OSError as error:
        reason = error.strerror or first_line(error)
        room = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room, or name another disk" if room else "check the path and its permissions"
        raise TraceError(f"{shown} {what}: {escape(reason)}: {remedy}") from None


def first_line(error: BaseException) -> str:
    """Return what an error says, in one short line."""
    text = escape(str(error).partition("\n")[0].strip())
    return (text if len(text) <= 160 else text[:157] + "...") or type(error).__name__
