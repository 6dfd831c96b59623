"""What marks, spans, tags, stations and pipelines may be called."""

from latprof.errors import PipelineError
from latprof.text import escape

__all__ = ["RESERVED", "check_distinct", "check_identifier", "check_name"]

RESERVED = frozenset(
    (
        *("frame_id", "size", "source", "outcome", "cpu", "rss", "weight", "begin", "seq"),
        *("other", "end_to_end", "response"),
    )
)
"""Names of columns and of computed spans: no mark, span or tag may have one of them."""

_LONGEST_NAME = 64


def check_identifier(name: object, what: str) -> str:
    """Return `name` if a pipeline or a station may be called so: no column has their names."""
    if not isinstance(name, str) or not name.isidentifier():
        shown = escape(name) if isinstance(name, str) else name
        raise PipelineError(
            f"{what} {shown!r} is no identifier: use letters, digits and _, not a digit first"
        )
    if len(name) > _LONGEST_NAME:
        raise PipelineError(f"{what} {name[:20]!r}... has {len(name)} characters: use at most 64")
    return name


def check_name(name: object, what: str) -> str:
    """Return `name` if a mark, a span or a tag may be called so.

    Raises
    ------
    PipelineError
        Not an identifier, longer than 64 characters, reserved, or ending in ``_latency``; case
        does not count, because some tools that read the trace ignore it.
    """
    name = check_identifier(name, what)
    if name.casefold() in RESERVED or name.casefold().endswith("_latency"):
        raise PipelineError(
            f"{what} {name!r} is reserved: choose another name than "
            f"{', '.join(sorted(RESERVED))} and none ending in _latency"
        )
    return name


def check_distinct(names: list[str], what: str) -> None:
    """Refuse names that differ by case alone."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other is not name and other != name:
            raise PipelineError(
                f"{what} {other!r} and {name!r} differ by case alone: rename one, "
                "some tools that read the trace ignore case"
            )
