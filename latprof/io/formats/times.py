"""Turns times and durations of other tools into integer nanoseconds, exact down to 1 ns.

The form of a column (integers, decimals, ISO 8601 text with or without a zone) is found in its
first rows. A value of another form later on is unreadable: it is counted, and its row left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from latprof.arrays import Floats, Ints, Mask
from latprof.errors import TraceError
from latprof.frames import MISSING
from latprof.io.arrow import is_text, numbers, plain_array
from latprof.io.formats.columns import UNIT_OF, UNITS
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT, parse_time

__all__ = ["TimeForm", "forms_of", "to_ns"]

_DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # decimals of a unit down to 1 ns

_INTEGER = r"^\s*[+-]?(?:\d{1,18}|[0-4]\d{18})\s*$"
_DECIMAL = r"^\s*[+-]?(?:\d{1,19}\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?\s*$"
_DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?"
_ZONED = rf"^{_DATE}(?:Z| ?UTC| ?GMT|[+-]\d\d(?::?\d\d)?)$"
_NAIVE = rf"^{_DATE}$"
_FORMS = {"integer": _INTEGER, "decimal": _DECIMAL, "zoned": _ZONED, "naive": _NAIVE}

# years 1990 to 2100 as seconds since 1970: numbers of this size are taken as such times
_EPOCH = (631_152_000, 4_102_444_800)


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How the times of a column are written.

    Attributes
    ----------
    kind
        integer, decimal, zoned or naive (ISO 8601 text), or typed (Arrow's own times).
    unit
        Of numbers: s, ms, us or ns.
    digits
        Most decimals in the first rows.
    tz
        The zone of naive times; UTC if None.
    """

    kind: str
    unit: str = "ns"
    digits: int = 0
    tz: str | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """The type in which a reader of CSV parses such times, with no digit lost."""
        if self.kind == "integer":
            return pa.int64()
        if self.kind == "decimal":
            most = _DIGITS[self.unit]
            return pa.decimal128(28, most) if self.digits <= most else pa.decimal128(38, 18)
        return pa.timestamp("ns", "UTC" if self.kind == "zoned" else None)


# -- the form of columns ------------------------------------------------------------------------


def forms_of(
    sample: Mapping[str, pa.Array | pa.ChunkedArray],
    *,
    unit: str | None,
    tz: str | None,
    durations: bool = False,
) -> tuple[dict[str, TimeForm], list[str]]:
    """Return the form of each column of times, and sentences on what was assumed.

    Parameters
    ----------
    sample
        The first values of each column, missing ones as null.
    unit, tz
        As given by the user, or None.
    durations
        Whether the columns have durations, which have no zone.

    Raises
    ------
    TraceError
        A form that is not known, times of different forms, or a unit that must be given.
    """
    sample = {name: plain_array(values) for name, values in sample.items()}
    forms = {name: _form(name, values, durations) for name, values in sample.items()}
    known = {name: form for name, form in forms.items() if form is not None}
    kinds = {form.kind for form in known.values()}
    dated = {name: form.kind for name, form in known.items() if form.kind in ("zoned", "naive")}
    if len(set(dated.values())) > 1:
        zoned = next(name for name, kind in dated.items() if kind == "zoned")
        naive = next(name for name, kind in dated.items() if kind == "naive")
        raise TraceError(
            f"times must all have a zone or all have none, got {quoted(zoned)} with and "
            f"{quoted(naive)} without; write the zone of both"
        )
    if dated and not durations and kinds & {"integer", "decimal"}:
        other = next(name for name, form in known.items() if form.kind in ("integer", "decimal"))
        raise TraceError(
            f"times must all be numbers or all be dates, got {quoted(next(iter(dated)))} with "
            f"dates and {quoted(other)} with numbers; leave one out"
        )
    said: list[str] = []
    units: dict[str, str] = {}
    if "naive" in kinds:
        said.append(f"times without a zone are taken as {tz or 'UTC'}")
    elif tz is not None and kinds == {"zoned"}:
        said.append("the times have a zone, which is used instead of the one that was given")
    if kinds & {"integer", "decimal"}:
        numeric = {n: v for n, v in sample.items() if n in known and known[n].kind != "typed"}
        units = {} if unit else _own_units(numeric, durations)
        if units:
            shown = ", ".join(f"{clip(name, 30)} as {own}" for name, own in units.items())
            how = "the names of the columns" if durations else "their size"
            said.append(
                f"{'durations' if durations else 'times'} are taken by column: {shown}, from {how}"
            )
        else:
            unit, why = _unit(numeric, known, unit, durations)
            said += [why] if why else []
    # a column without values in the first rows is taken to be written as the others are
    usual = max(known.values(), key=lambda form: form.digits, default=TimeForm("integer"))
    usual_unit = unit or "ns"
    return {
        name: replace(form or usual, unit=units.get(name, usual_unit), tz=tz)
        for name, form in forms.items()
    }, said


def _form(name: str, values: pa.Array, durations: bool) -> TimeForm | None:
    """Return the form of a column, or None if all values of the sample are missing."""
    values = values.drop_null()
    kind = values.type
    if not len(values) or types.is_null(kind):
        return None
    if types.is_integer(kind):
        return TimeForm("integer")
    if types.is_floating(kind):
        return TimeForm("decimal")
    if types.is_decimal(kind):
        return TimeForm("decimal", digits=kind.scale)
    if types.is_timestamp(kind) and not durations:
        return TimeForm("zoned" if kind.tz else "naive")
    if types.is_duration(kind) and durations:
        return TimeForm("typed")
    what = "durations" if durations else "times"
    if not is_text(kind):
        raise TraceError(f"column {quoted(name)} must have {what}, got {quoted(str(kind), 40)}")
    fits = {
        form: pc.sum(pc.match_substring_regex(values, pattern)).as_py() or 0
        for form, pattern in list(_FORMS.items())[: 2 if durations else None]
    }
    best = max(fits, key=fits.__getitem__)  # the first of equals: integers also fit as decimals
    if 2 * fits[best] >= len(values):
        return TimeForm(best, digits=_most_digits(values) if best == "decimal" else 0)
    wrong = quoted(values[0].as_py(), 60)
    if durations:
        raise TraceError(f"column {quoted(name)} must have durations as numbers, got {wrong}")
    hint = ""
    if re.match(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}", str(values[0].as_py())):
        hint = "; which part is the day and which the month differs between countries"
    raise TraceError(
        f"column {quoted(name)} must have times as numbers or as ISO 8601 text such as "
        f"2024-03-05T10:00:00.123+01:00, got {wrong}{hint}"
    )


def _most_digits(values: pa.Array) -> int:
    ends = pc.replace_substring_regex(values, r"^[^.]*\.?|[eE].*$|\s+$", "")
    return int(pc.max(pc.utf8_length(ends)).as_py() or 0)


def _unit(
    sample: Mapping[str, pa.Array],
    forms: Mapping[str, TimeForm],
    unit: str | None,
    durations: bool,
) -> tuple[str, str]:
    """Return the unit of numbers, and a sentence if it was not given."""
    if unit is not None:
        return unit, f"{'durations' if durations else 'times'} are taken as {unit}, as given"
    what = "durations" if durations else "times"
    hints = {found for name in sample if (found := _hinted(name)) is not None}
    by_name = hints.pop() if len(hints) == 1 else None
    size = 0.0 if durations else max((_typical(values) for values in sample.values()), default=0.0)
    by_size = _since_epoch(size)
    if by_size is not None and by_name in (by_size, None):
        return by_size, f"times are taken as {by_size} since 1970, from their size"
    if by_name is not None and by_size is None:
        return by_name, f"{what} are taken as {by_name}, from the names of the columns"
    digits = max((form.digits for form in forms.values()), default=0)
    if by_size is None and 7 <= digits <= 9:
        return "s", f"{what} are taken as s, from their {digits} decimals"
    first = next(iter(sample.items()), None)
    value = "" if first is None else f" {quoted(first[1].drop_null()[0].as_py(), 40)}"
    column = "" if first is None else f" in {quoted(first[0])}"
    raise TraceError(
        f"the unit of {what} must be known, got numbers such as{value}{column}; give unit= "
        "(--unit s, ms, us or ns)"
    )


def _own_units(sample: Mapping[str, pa.Array], durations: bool) -> dict[str, str]:
    """Return the unit of each column if each shows its own and they differ, otherwise none."""
    found = {}
    for name, values in sample.items():
        by_name, by_size = _hinted(name), None if durations else _since_epoch(_typical(values))
        own = by_name if durations else by_size
        if own is None or by_name not in (own, None):
            return {}
        found[name] = own
    return found if len(set(found.values())) > 1 else {}


def _since_epoch(size: float) -> str | None:
    """Return the unit in which a number of this size is a time of our days since 1970, or None."""
    fits = (u for u, ns in UNITS.items() if _EPOCH[0] <= size * ns / 1e9 <= _EPOCH[1])
    return next(fits, None)


def _hinted(name: str) -> str | None:
    """Return the unit that ends the name of a column, or None if no unit does.

    Examples
    --------
    >>> _hinted("wait (ms)"), _hinted("startTimeUnixNano"), _hinted("sent_s"), _hinted("status")
    ('ms', 'ns', 's', None)
    """
    words = re.findall(r"[A-Z]?[a-zµ]+|[A-Z]+", name)
    known = UNIT_OF.get(words[-1].lower()) if words else None
    return known if len(words) > 1 else None


def _typical(values: pa.Array) -> float:
    """Return the median of the absolute values."""
    if is_text(values.type):
        texts = values.drop_null().slice(0, 1_000).cast(pa.string()).to_pylist()
        found = [abs(float(text)) for text in texts if re.match(_DECIMAL, text)]
    else:
        array, missing = numbers(values.slice(0, 1_000).cast(pa.float64(), safe=False), "times")
        found = np.abs(array if missing is None else array[~missing]).tolist()
    return float(np.median(found)) if found else 0.0


# -- values -------------------------------------------------------------------------------------


def to_ns(array: pa.Array | pa.ChunkedArray, form: TimeForm) -> tuple[Ints, Mask | None]:
    """Return times in ns (n,), `MISSING` for missing ones, and a mask of unreadable values (n,).

    The mask is None if all values can be read.
    """
    array = plain_array(array)
    kind = array.type
    if types.is_null(kind):
        return np.full(len(array), MISSING), None
    if is_text(kind):
        return _of_text(array.cast(pa.string()), form)
    if types.is_decimal(kind):
        return _filled(*_of_decimals(array, form))
    if types.is_timestamp(kind) and kind.tz is None and form.tz not in (None, "UTC"):
        try:
            array = pc.assume_timezone(array, form.tz)
        except pa.ArrowInvalid as error:
            found = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(error))
            raise TraceError(
                f"times without a zone must exist once in {form.tz}, got "
                f"{found[0] if found else 'another one'}, when the clock was changed; write them "
                "with their zone"
            ) from None
    values, missing = numbers(array, "times")
    if types.is_integer(kind):
        return _filled(*_scaled(values, missing, UNITS[form.unit]))
    if types.is_floating(kind):
        return _of_floats(values.astype(np.float64, copy=False), missing, UNITS[form.unit])
    unit, _ = np.datetime_data(values.dtype)
    count = values.view(np.int64)
    gone = np.isnat(values) if missing is None else missing | np.isnat(values)
    if unit == "D":
        raise TraceError(
            "times must have hours and seconds, got dates only; name a column with the time of day"
        )
    return _filled(*_scaled(count, gone if gone.any() else None, UNITS[str(unit)]))


def _of_floats(values: Floats, missing: Mask | None, unit_ns: int) -> tuple[Ints, Mask | None]:
    """Return floats times a unit, and those that are too large.

    The whole part and the rest are multiplied by themselves: a float has fewer digits than a time
    in ns since 1970.
    """
    gone = np.isnan(values) if missing is None else missing | np.isnan(values)
    wrong = (np.abs(values) >= STAMP_LIMIT / unit_ns) & ~gone
    known = np.where(gone | wrong, 0.0, values)
    whole = np.trunc(known)
    rest = np.rint((known - whole) * unit_ns)
    ns = whole.astype(np.int64) * unit_ns + rest.astype(np.int64)
    ns[gone] = MISSING
    return ns, wrong if wrong.any() else None


def _scaled(
    values: npt.NDArray[np.integer], missing: Mask | None, unit_ns: int
) -> tuple[Ints, Mask | None, Mask | None]:
    """Return values times a unit, missing ones, and those that are too large."""
    most = (STAMP_LIMIT - 1) // unit_ns
    wrong = None
    known = values if missing is None else np.where(missing, values.dtype.type(0), values)
    if len(known) and (int(known.max()) > most or int(known.min()) < -most):
        wrong = (known > most) | (known < -most)
        known = np.where(wrong, known.dtype.type(0), known)
    ns = known.astype(np.int64, copy=False)
    return ns if unit_ns == 1 else ns * unit_ns, missing, wrong


def _filled(ns: Ints, missing: Mask | None, wrong: Mask | None) -> tuple[Ints, Mask | None]:
    if missing is not None and missing.any():
        ns = np.where(missing, MISSING, ns)
    return ns, wrong


def _of_decimals(array: pa.Array, form: TimeForm) -> tuple[Ints, Mask | None, Mask | None]:
    """Return decimals in ns; what is finer than 1 ns is rounded to the nearest one."""
    most = _DIGITS[form.unit]
    scale = array.type.scale
    if scale > most:
        array = pc.round(array, ndigits=most, round_mode="half_to_even")
        array = array.cast(pa.decimal128(38, most))
        scale = most
    missing = None
    if array.null_count:
        missing, _ = numbers(array.is_null(), "times")
    # 128-bit integers, little endian: those that fit 64 bits have a high half of only signs
    halves = np.frombuffer(array.buffers()[1], np.int64)[
        2 * array.offset : 2 * (array.offset + len(array))
    ].reshape(-1, 2)
    low = halves[:, 0]
    if missing is not None:
        low = np.where(missing, 0, low)
    fits = halves[:, 1] == halves[:, 0] >> 63
    ns, missing, wrong = _scaled(np.ascontiguousarray(low), missing, 10 ** (most - scale))
    too_large = ~fits if missing is None else ~fits & ~missing
    if too_large.any():
        wrong = too_large if wrong is None else wrong | too_large
    return ns, missing, wrong


def _of_text(array: pa.StringArray, form: TimeForm) -> tuple[Ints, Mask | None]:
    """Return text in ns, and a mask of values that do not have the form, or None."""
    pattern = _FORMS["decimal" if form.kind == "typed" else form.kind]
    fits = pc.match_substring_regex(array, pattern)
    wrong, _ = numbers(pc.fill_null(pc.invert(fits), False), "times")
    if form.kind in ("integer", "decimal"):
        array = pc.utf8_trim_whitespace(array)
    else:
        array = pc.replace_substring(array, ",", ".")
        array = pc.replace_substring_regex(array, " ?(?:UTC|GMT)$", "Z")
    array = pc.if_else(pc.fill_null(fits, False), array, None)
    try:
        ns, beyond = to_ns(_parsed(array, form), form)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        ns, beyond = _one_by_one(array.to_pylist(), form)
    if beyond is not None:
        wrong = wrong | beyond
    return ns, wrong if wrong.any() else None


def _parsed(array: pa.StringArray, form: TimeForm) -> pa.Array:
    if form.kind == "integer":
        return array.cast(pa.int64())
    if form.kind == "decimal":
        return pc.replace_substring_regex(array, r"(\.\d{18})\d+", r"\1").cast(
            pa.decimal128(38, 18)
        )
    return array.cast(form.arrow_type)


def _one_by_one(texts: Sequence[str | None], form: TimeForm) -> tuple[Ints, Mask | None]:
    """Parse values of which Arrow refuses at least one, for example the 31st of February."""
    wrong = np.zeros(len(texts), bool)
    values: list[int | str | None] = []
    for row, text in enumerate(texts):
        value: int | str | None = text
        try:
            if text is not None and form.kind in ("zoned", "naive"):
                parse_time(text)
            elif text is not None:
                value = round(Fraction(text) * UNITS[form.unit])
                wrong[row] = abs(value) >= STAMP_LIMIT
        except (TraceError, ValueError, ArithmeticError):
            wrong[row] = True
        values.append(None if wrong[row] else value)
    if form.kind in ("zoned", "naive"):
        ns, _ = to_ns(pa.array(values, pa.string()).cast(form.arrow_type), form)
    else:
        ns, _ = to_ns(pa.array(values, pa.int64()), replace(form, unit="ns"))
    return ns, wrong if wrong.any() else None
