"""Rules for the names of marks, spans, tags, stations and pipelines."""

from latprof.errors import PipelineError
from latprof.text import quoted

__all__ = ["RESERVED", "check_distinct", "check_identifier", "check_name"]

RESERVED = frozenset(
    (
        *("frame_id", "size", "source", "outcome", "cpu", "rss", "weight", "begin", "seq"),
        *("other", "end_to_end", "response"),
    )
)
"""Names of columns and of computed spans, which no mark, span or tag may have."""

_LONGEST_NAME = 64


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
    if len(name) > _LONGEST_NAME:
        raise PipelineError(
            f"{what} must have at most {_LONGEST_NAME} characters, got {len(name)}: "
            f"{quoted(name, 24)}"
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
        Two of them do.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise PipelineError(
                f"{what} must differ by more than case, got {other!r} and {name!r}; rename one, "
                "some tools that read traces ignore case"
            )
