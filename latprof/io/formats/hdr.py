"""Reads histogram logs of HdrHistogram: V0, V1 and V2."""

import base64
import binascii
import struct
import zlib
from collections import Counter

import numpy as np

from latprof.arrays import Ints
from latprof.errors import TraceError
from latprof.io.formats.bins import Binned, BinnedFile
from latprof.io.formats.columns import UNITS
from latprof.io.formats.files import lines_of
from latprof.io.paths import StrPath
from latprof.text import clip, quoted
from latprof.units import STAMP_LIMIT

__all__ = ["decode_histogram", "read_hdr"]

_LARGEST = 1 << 23  # bytes of one histogram, decompressed
_NO_TAG = "(no tag)"

# cookies without the bits for the size of a word: of a histogram, and of a compressed one
_V0, _V1, _V2 = 0x1C849308, 0x1C849301, 0x1C849303
_COMPRESSED = {0x1C849309: _V0, 0x1C849302: _V1, 0x1C849304: _V2}


def read_hdr(path: StrPath, unit: str | None = None) -> BinnedFile:
    """Return the sum of the histograms of a log, for each tag.

    Parameters
    ----------
    path
        Of the log.
    unit
        Of the values; ns by default, as tools that write such logs mostly have.

    Raises
    ------
    TraceError
        A line is damaged.
    """
    scale = UNITS[unit or "ns"]
    counts: dict[str, Counter[tuple[int, int]]] = {}
    intervals = 0
    for number, line in enumerate(lines_of(path), 1):
        text = line.strip()
        if not text or text.startswith(("#", '"')):
            continue
        tag, _, rest = text.partition(",") if text.startswith("Tag=") else ("", "", text)
        fields = rest.split(",")
        if len(fields) != 4:
            raise TraceError(f"line {number:,} must have 4 values and a tag, got {quoted(line)}")
        try:
            lower, upper, found = decode_histogram(base64.b64decode(fields[3], validate=True))
        except (binascii.Error, struct.error, zlib.error, ValueError, OverflowError) as error:
            why = clip(str(error), 80)
            raise TraceError(
                f"the histogram of line {number:,} is damaged ({why}); take an intact copy"
            ) from None
        intervals += 1
        known = counts.setdefault(tag.removeprefix("Tag=") or _NO_TAG, Counter())
        edges = zip(upper.tolist(), lower.tolist(), strict=True)
        known.update(dict(zip(edges, found.tolist(), strict=True)))
    if not counts:
        raise TraceError("the log must have a histogram, got none")
    file = BinnedFile("histogram", "tag" if set(counts) != {_NO_TAG} else None)
    file.reading = [
        f"{intervals:,} interval histograms; values are taken as {unit or 'ns'}"
        + ("" if unit else " (--unit for others)"),
        "the mean is that of the middles of the bins",
    ]
    if len(counts) > 1:
        file.reading.append("values with different tags may be the same ones, counted again")
    for tag, each in sorted(counts.items()):
        bins = sorted(each)
        if bins and bins[-1][0] * scale >= STAMP_LIMIT:
            raise TraceError(f"values must be below 2**62 ns, got {bins[-1][0] * scale}")
        part = Binned([upper * scale for upper, _ in bins], [lower * scale for _, lower in bins])
        part.counts = [each[edges] for edges in bins]
        part.total = sum((a + b) * n for (a, b), n in each.items()) * scale // 2
        file.parts[tag] = part
    return file


def decode_histogram(data: bytes) -> tuple[Ints, Ints, Ints]:
    """Return the smallest and the largest value of each bin with values, (k,), and the counts.

    Raises
    ------
    ValueError
        The bytes are not a histogram, or are damaged; also struct.error and zlib.error.
    """
    cookie, length = struct.unpack_from(">ii", data)
    base = _COMPRESSED.get(cookie & ~0xF0)
    if base is not None:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(data[8 : 8 + length], _LARGEST)
        if unpacker.unconsumed_tail:
            raise ValueError(f"it has more than {_LARGEST:,} bytes")
        cookie = struct.unpack_from(">i", data)[0]
    kind, word = cookie & ~0xF0, (cookie & 0xF0) >> 4
    ratio = 1.0
    if kind == _V0:
        _, digits, lowest, _, _ = struct.unpack_from(">iiqqq", data)
        payload = data[32:]
    elif kind in (_V1, _V2):
        _, length, offset, digits, lowest, _, ratio = struct.unpack_from(">iiiiqqd", data)
        payload = data[40 : 40 + length]
        if offset or not 0 < ratio < 1e18:
            raise ValueError("its values are shifted, which is not supported")
    else:
        raise ValueError("it has an unknown version")
    if not (0 <= digits <= 5 and 1 <= lowest < 2**62):
        raise ValueError("its settings are invalid")
    counts = _zigzag(payload) if kind == _V2 else _words(payload, word)
    filled = np.flatnonzero(counts)
    if len(filled) and int(counts[filled].min()) < 0:
        raise ValueError("it has negative counts")
    lower, upper = _edges_of(filled, digits, lowest.bit_length() - 1)
    if ratio != 1.0:
        if len(upper) and float(upper.max()) * ratio >= STAMP_LIMIT:
            raise ValueError("its values are too large")
        lower, upper = (np.rint(each * ratio).astype(np.int64) for each in (lower, upper))
    return lower, upper, counts[filled]


def _words(payload: bytes, size: int) -> Ints:
    if size not in (2, 4, 8):
        raise ValueError(f"it has counts of {size} bytes")
    whole = payload[: len(payload) // size * size]
    return np.frombuffer(whole, f">i{size}").astype(np.int64)


def _zigzag(payload: bytes) -> Ints:
    """Return counts of variable length; a negative number is a run of zeros.

    A number has 7 bits a byte, the lowest first; the highest bit says that more follow, but a
    ninth byte has 8 bits.
    """
    found: list[int] = []
    places: list[int] = []
    place = value = shift = 0
    for byte in payload:
        if shift == 56:
            value |= byte << 56
        else:
            value |= (byte & 0x7F) << shift
            if byte & 0x80:
                shift += 7
                continue
        number = (value >> 1) ^ -(value & 1)
        value = shift = 0
        if number < 0:
            place -= number
        else:
            found.append(number)
            places.append(place)
            place += 1
        if place > 1 << 24:
            raise ValueError("it has too many bins")
    counts = np.zeros(place, np.int64)
    counts[places] = found
    return counts


def _edges_of(index: Ints, digits: int, unit_bits: int) -> tuple[Ints, Ints]:
    """Return the extreme values of bins: each power of two has the same number of them."""
    half_bits = max((2 * 10**digits - 1).bit_length() - 1, 0)
    half = 1 << half_bits
    bucket = (index >> half_bits) - 1
    sub = (index & (half - 1)) + half
    first = bucket < 0
    bucket, sub = np.where(first, 0, bucket), np.where(first, sub - half, sub)
    shift = bucket + unit_bits
    if len(shift) and int(shift.max()) + half_bits + 1 > 62:
        raise ValueError("its values are too large")
    lower: Ints = sub << shift
    return lower, lower + (np.int64(1) << shift) - 1
