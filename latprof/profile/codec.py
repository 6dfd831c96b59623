"""Dataclasses as values that JSON can hold, and back.

`encode` walks the fields of a dataclass; `decode` walks their type hints and checks every value
before it builds anything from it. Hints may be int, float, bool, str, None, numpy arrays, tuples,
lists, sets, dicts, Counters, unions with None, other dataclasses (also generic ones), and any of
them in `Annotated` with `latprof.arrays.Bounds` or `Length`. Fields with ``init=False`` are
derived and not saved; fields of type `Pipeline` are given to `decode` once. A dataclass with a
method `packed` is saved as the dataclass that this method returns; its method `unpacked` gives the
first one back. Older files have the fields of the first one, which are read as well.

Arrays are stored as differences between rows, byte plane by byte plane, compressed. An array that
is mostly 0 is stored as the positions and the values of the rest, and an array of Python integers,
if they do not fit 64 bits, as a list.
"""

import base64
import math
import types
import typing
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, NoReturn

import numpy as np
import numpy.typing as npt

from latprof.arrays import Bounds, Ints, Length
from latprof.errors import LatprofError, ProfileError
from latprof.pipeline import Pipeline
from latprof.text import quoted

__all__ = ["CORRUPT", "Decoder", "encode"]

CORRUPT = "the file is corrupt: use an intact copy or make the profile again from its traces"

LARGEST_INT = 2**128  # the sum of 2**63 frames of 2**62 ns is smaller
LARGEST_FLOAT = 1e80  # the square of such a sum is smaller
MOST_ELEMENTS = 65_536  # of an array without a `Length`
MOST_ELEMENTS_OF_ALL = 1 << 28  # of all arrays, 2 GB: a profile of 1,000 groups takes some 1.5 GB

_WITHOUT_SIGN = 2**63 - 1
_SIGN_LAST = ":"
"""First character of packed integers: differences between rows, with the sign in the lowest bit.
Without it they are plain differences between elements, as in older files."""

_PACKING = (6, zlib.DEFLATED, 15, 5, zlib.Z_RLE)
"""Level, method, window, memory and strategy of zlib. Most bytes are noise, in which matches are
rare. Little memory means short blocks, and so codes that follow the change from plane to plane."""

_ARRAY_KEYS = {"shape", "at", "values", "integers"}

SPARSE = 4  # arrays with fewer than one element in SPARSE that is not 0 are stored sparsely


# -- to JSON ------------------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """Return a value as dicts, lists, strings and numbers.

    Examples
    --------
    >>> encode({"frames": (1, 2.5), "by": None})
    {'frames': [1, 2.5], 'by': None}
    """
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if is_dataclass(value):
        kept = _kept(value)
        return {name: encode(getattr(kept, name)) for name in _saved(kept.__class__)}
    if isinstance(value, dict):
        items = sorted(value.items()) if isinstance(value, Counter) else value.items()
        if all(isinstance(key, str) for key in value):
            return {key: encode(item) for key, item in items}
        return [[encode(key), encode(item)] for key, item in items]
    return [encode(item) for item in (sorted(value) if isinstance(value, set) else value)]


def _kept(value: Any) -> Any:
    """Return the dataclass that is saved in place of `value`: itself, or its packed form."""
    return value if _packed_form(value.__class__) is None else value.packed()


def _encode_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    if array.dtype == object:
        return {"shape": list(array.shape), "integers": array.reshape(-1).tolist()}
    flat = array.reshape(-1).astype(np.int64, copy=False)
    filled = np.flatnonzero(flat)
    content: dict[str, Any] = {"shape": list(array.shape)}
    if SPARSE * len(filled) < len(flat):
        return content | {"at": _pack(filled), "values": _pack(flat[filled])}
    return content | {"values": _pack(flat, _row(array.shape))}


def _row(shape: Sequence[int]) -> int:
    """Return how many elements a row of an array has; 1 if the array has one dimension."""
    return max(math.prod(shape[1:]), 1)


def _pack(integers: Ints, row: int = 1) -> str:
    differences = integers.astype("<i8")
    differences[row:] -= integers[:-row]
    # The sign is in the lowest bit (0, -1, 1, -2 as 0, 1, 2, 3), and bytes of one weight are next
    # to each other: the upper ones are nearly all 0.
    signed = (differences << 1) ^ (differences >> 63)
    planes = signed.view(np.uint8).reshape(-1, 8).T.tobytes()
    stream = zlib.compressobj(*_PACKING)
    packed = stream.compress(planes) + stream.flush()
    return _SIGN_LAST + base64.b64encode(packed).decode("ascii")


# -- from JSON ----------------------------------------------------------------------------------


class Decoder:
    """Reads values that `encode` has returned; they are checked, as they may be damaged.

    Parameters
    ----------
    pipeline
        The value of all fields of type `Pipeline`, or None if there are none.

    Examples
    --------
    >>> Decoder(None).decode(dict[str, tuple[int, ...]], {"a": [1, 2]})
    {'a': (1, 2)}
    >>> try:
    ...     Decoder(None).decode(dict[str, int], {"a": "x"}, "counts")
    ... except ProfileError as error:
    ...     print(str(error).partition(";")[0])
    field 'counts.a' must be an integer, got 'x'
    """

    def __init__(self, pipeline: Pipeline | None) -> None:
        self._pipeline = pipeline
        self._elements = 0

    def decode(self, hint: Any, content: Any, field: str = "") -> Any:
        """Return the value of type `hint` that `content` encodes.

        Raises
        ------
        ProfileError
            A value of another type, or outside its bounds; the message names the field.
        """
        bounds, most = Bounds(-LARGEST_INT, LARGEST_INT), MOST_ELEMENTS
        if typing.get_origin(hint) is Annotated:
            hint, *limits = typing.get_args(hint)
            bounds = next((x for x in limits if isinstance(x, Bounds)), bounds)
            most = next((x.most for x in limits if isinstance(x, Length)), most)
        origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            if content is None and type(None) in args:
                return None
            # of two types of arrays, the second is that of integers of any size
            large = isinstance(content, dict) and "integers" in content
            others = [arg for arg in args if arg is not type(None)]
            return self.decode(others[-1 if large else 0], content, field)
        if origin in (int, float):
            return _number(origin, content, bounds, field)
        if origin in (bool, str):
            if type(content) is not origin:
                _refuse(field, "be text" if origin is str else "be true or false", content)
            return content
        if origin is np.ndarray:
            return self._array(typing.get_args(args[1])[0], content, bounds, most, field)
        form = _packed_form(origin)
        if is_dataclass(origin):
            if form and isinstance(content, dict) and content.keys() == _saved(form).keys():
                return self._dataclass(form, _hints(form), content, field).unpacked()
            return self._dataclass(origin, _hints(hint), content, field)
        if issubclass(origin, dict):
            return self._dict(origin, args, content, field)
        if origin is tuple and args[-1] is not Ellipsis:
            if not isinstance(content, list) or len(content) != len(args):
                _refuse(field, f"be a list of {len(args)} values", content)
            return tuple(self.decode(*pair, field) for pair in zip(args, content, strict=True))
        if not isinstance(content, list):
            _refuse(field, "be a list", content)
        return origin(self.decode(args[0], item, field) for item in content)

    def _dataclass(self, cls: Any, hints: dict[str, Any], content: Any, field: str) -> Any:
        if not isinstance(content, dict) or content.keys() != hints.keys():
            _refuse(field, f"have the entries {', '.join(hints)}", content)
        inner = f"{field}." if field else ""
        values = {
            name: self.decode(hint, content[name], f"{inner}{name}") for name, hint in hints.items()
        }
        values |= {
            name: self._pipeline for name, hint in _all_hints(cls).items() if hint is Pipeline
        }
        try:
            return cls(**values)
        except (LatprofError, ValueError) as error:
            raise ProfileError(f"field {quoted(field)}: {error}; {CORRUPT}") from None

    def _dict(self, cls: Any, args: tuple[Any, ...], content: Any, field: str) -> Any:
        key, item = args if len(args) == 2 else (args[0], Annotated[int, Bounds(0, LARGEST_INT)])
        if isinstance(content, dict):
            pairs = list(content.items())
        elif (
            key is not str
            and isinstance(content, list)
            and all(isinstance(pair, list) and len(pair) == 2 for pair in content)
        ):
            pairs = content
        else:
            _refuse(field, "be a mapping", content)
        return cls(
            {
                self.decode(key, k, field): self.decode(item, v, f"{field}.{k}" if field else k)
                for k, v in pairs
            }
        )

    def _array(self, kind: Any, content: Any, bounds: Bounds, most: int, field: str) -> Any:
        if not isinstance(content, dict) or not content.keys() <= _ARRAY_KEYS:
            _refuse(field, "be a list of integers", content)
        shape = content.get("shape")
        if not (isinstance(shape, list) and all(type(n) is int and 0 <= n <= most for n in shape)):
            _refuse(field, f"have a shape of at most {most:,} elements", shape)
        size = math.prod(shape)
        self._elements += size
        if size > most or self._elements > MOST_ELEMENTS_OF_ALL:
            _refuse(field, f"have at most {most:,} elements", size)
        if kind is np.object_:
            integers = self.decode(list[Annotated[int, bounds]], content.get("integers"), field)
            values = np.array(integers, object)
        else:
            row = 1 if "at" in content else _row(shape)
            values = _unpack(content.get("values"), size, field, row)
        _check_elements(values, Bounds(0, 1) if kind is np.bool_ else bounds, kind, field)
        if "at" in content and kind is not np.object_:
            values = _dense(_unpack(content["at"], size, field), values, size, field)
        if len(values) != size:
            _refuse(field, f"have {size:,} elements", len(values))
        return values.astype(kind, copy=False).reshape(shape)


def _check_elements(values: npt.NDArray[Any], bounds: Bounds, kind: Any, field: str) -> None:
    if not len(values) or kind is np.uint64:
        return
    low, high = int(values.min()), int(values.max())
    if low < bounds.low or high > bounds.high:
        limits = f"{_shown(bounds.low)} to {_shown(bounds.high)}"
        _refuse(field, f"hold integers from {limits}", low if low < bounds.low else high)
    total = float(values.sum(dtype=np.float64))
    if bounds.total is not None and total >= bounds.total:
        _refuse(field, f"add up to less than {_shown(bounds.total)}", total)


def _dense(places: Ints, values: npt.NDArray[Any], size: int, field: str) -> Ints:
    """Return an array (size,) with these values at these places, and 0 elsewhere."""
    inside = len(places) == 0 or (places[0] >= 0 and places[-1] < size)
    if len(places) != len(values) or not inside or (places[1:] <= places[:-1]).any():
        _refuse(field, "have ascending positions inside the array", size)
    dense = np.zeros(size, np.int64)
    dense[places] = values
    return dense


def _number(kind: type, content: Any, bounds: Bounds, field: str) -> int | float:
    if kind is int and type(content) is not int:
        _refuse(field, "be an integer", content)
    if type(content) not in (int, float):
        _refuse(field, "be a number", content)
    low, high = bounds.low, bounds.high
    if kind is float:
        low, high = max(low, -LARGEST_FLOAT), min(high, LARGEST_FLOAT)
    if not low <= content <= high:
        _refuse(field, f"be from {_shown(low)} to {_shown(high)}", content)
    return kind(content)  # type: ignore[no-any-return]


def _shown(limit: float) -> str:
    return f"{limit:,}" if abs(limit) < 2**64 else f"{limit:.2g}"


def _unpack(text: Any, most: int, field: str, row: int = 1) -> Ints:
    """Return the integers that `_pack` has packed, at most `most`, in rows of `row` elements."""
    if not isinstance(text, str):
        _refuse(field, "be a list of integers", text)
    stream = zlib.decompressobj()
    try:
        planes = stream.decompress(
            base64.b64decode(text.removeprefix(_SIGN_LAST), validate=True), 8 * most + 1
        )
        whole = stream.eof and not stream.unused_data and len(planes) % (8 * row) == 0
    except (zlib.error, ValueError):
        whole = False
    if not whole or len(planes) > 8 * most:
        _refuse(field, f"be a list of at most {most:,} integers", text)
    table = np.frombuffer(planes, np.uint8).reshape(8, -1)
    differences: Ints = np.ascontiguousarray(table.T).view("<i8").reshape(-1)
    if not text.startswith(_SIGN_LAST):
        return np.cumsum(differences, dtype=np.int64)
    differences = (differences >> 1) & _WITHOUT_SIGN ^ -(differences & 1)
    return np.cumsum(differences.reshape(-1, row), axis=0, dtype=np.int64).reshape(-1)


def _refuse(field: str, rule: str, value: Any) -> NoReturn:
    got = f"got {quoted(value, 40)}"
    if isinstance(value, dict | list):
        got = f"got a {'mapping' if isinstance(value, dict) else 'list'} of {len(value):,}"
    raise ProfileError(f"field {quoted(field)} must {rule}, {got}; {CORRUPT}")


# -- fields of a dataclass ----------------------------------------------------------------------


@cache
def _all_hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


@cache
def _saved(cls: Any) -> dict[str, Any]:
    return {name: hint for name, hint in _all_hints(cls).items() if hint is not Pipeline}


@cache
def _packed_form(cls: Any) -> Any:
    """Return the dataclass that a dataclass is saved as, or None if it is saved as it is."""
    packed = getattr(cls, "packed", None)
    return None if packed is None else typing.get_type_hints(packed)["return"]


@cache
def _hints(hint: Any) -> dict[str, Any]:
    """Return the saved fields and their types; those of a generic class for its arguments."""
    cls = typing.get_origin(hint) or hint
    hints = dict(_saved(cls))
    given = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(hint), strict=False))
    for name, field in hints.items():
        if field in given:
            hints[name] = given[field]
        elif getattr(field, "__parameters__", ()):
            hints[name] = field[tuple(given[parameter] for parameter in field.__parameters__)]
    return hints
