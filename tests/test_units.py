import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.errors import ProfileError, TraceError
from latprof.text import escape
from latprof.units import (
    format_bytes,
    format_ns,
    format_quantity,
    format_utc,
    parse_duration,
    parse_time,
)

NS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9, "d": 86400e9}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0ns", 0),
        ("7ns", 7),
        ("20us", 20_000),
        ("20µs", 20_000),  # micro sign
        ("20μs", 20_000),  # Greek mu
        ("1.5 us", 1_500),
        ("50ms", 50_000_000),
        (" 50 ms ", 50_000_000),
        ("+50ms", 50_000_000),
        ("0.000000001s", 1),
        ("2min", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("0.5d", 43_200_000_000_000),
        ("4611686018427387903ns", 2**62 - 1),
        (7, 7),
        (np.int64(7), 7),
        (dt.timedelta(days=1, seconds=1, microseconds=1), 86_401_000_001_000),
        (pd.Timedelta("1500ns"), 1_500),
    ],
)
def test_parse_duration(text, ns):
    parsed = parse_duration(text)
    assert parsed == ns
    assert type(parsed) is int


NOT_DURATIONS = (
    *("", "ms", "50", "50 m", "50MS", "1e3ms", ".5s", "1,5s", "5ms 3us", "--5ms", "nan s"),
    *(0.05, 50.0, np.float64(1), True, np.True_, None, b"50ms", [1], float("nan"), 1j),
    *(np.array([1, 2]), "\x1b[31m5ms", "x" * 70_000, object()),
)


def test_parse_duration_refuses_what_is_not_a_duration():
    for wrong in NOT_DURATIONS:
        with pytest.raises(ValueError, match="warning must be a duration such as") as caught:
            parse_duration(wrong, name="warning")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250
        # a text may come from a command, which takes no integers
        assert ("or integer nanoseconds" in str(caught.value)) is not isinstance(wrong, str)


def test_parse_duration_raises_the_error_that_is_asked_for():
    for wrong in ("soon", "1.5ns", -1, 2**62):
        with pytest.raises(ProfileError, match=r"^edge must be "):
            parse_duration(wrong, name="edge", error=ProfileError)


def test_parse_duration_refuses_a_fraction_of_a_nanosecond():
    for wrong in ("1.5ns", "0.0000000015s", "1." + "0" * 40 + "1s"):
        with pytest.raises(ValueError, match=r"^duration must be whole nanoseconds, got '[.0-9]+"):
            parse_duration(wrong)


def test_parse_duration_accepts_negative_durations_only_if_signed():
    for wrong in ("-1ms", -1, dt.timedelta(microseconds=-1)):
        with pytest.raises(ValueError, match="duration must be 0 or more, got"):
            parse_duration(wrong)
        assert parse_duration(wrong, signed=True) < 0


def test_parse_duration_refuses_146_years_and_more():
    for wrong in (2**62, "4611686018427387904ns", "60000d", dt.timedelta.max, "9" * 99 + "s"):
        with pytest.raises(ValueError, match=r"less than 2.*146 years"):
            parse_duration(wrong)
    with pytest.raises(ValueError, match="146 years"):
        parse_duration(-(2**62), signed=True)


def test_parse_time_of_every_kind():
    # 2023-11-14T22:13:20 UTC is 1.7e9 seconds after 1970
    whole, exact = 1_700_000_000_000_000_000, 1_700_000_000_000_001_500
    zone = dt.timezone(dt.timedelta(hours=2))
    for time, ns in (
        (exact, exact),
        (np.int64(exact), exact),
        (np.datetime64(exact, "ns"), exact),
        (pd.Timestamp(exact), exact),
        (pd.Timestamp(exact, tz="UTC").tz_convert("Asia/Kolkata"), exact),
        ("2023-11-14T22:13:20.0000015Z", exact),
        ("2023-11-14 22:13:20.000001500", exact),
        ("2023-11-15T03:43:20.0000015+05:30", exact),
        (dt.datetime(2023, 11, 14, 22, 13, 20), whole),
        (dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC), whole),
        (dt.datetime(2023, 11, 15, 0, 13, 20, tzinfo=zone), whole),
        (np.datetime64("2023-11-14T22:13:20", "s"), whole),
        (" 2023-11-14T22:13:20 ", whole),
        ("1970-01-02", 86_400 * 10**9),
        (-(2**62) + 1, -(2**62) + 1),
    ):
        assert parse_time(time) == ns, time
        assert type(parse_time(time)) is int


def test_parse_time_refuses_what_is_not_a_time():
    for wrong in (
        *("noon", "2023-13-01", "2023-02-31", "\x1b", "x" * 70_000, b"2023-01-01"),
        *(1.5, True, None, [1], 2**62, -(2**62), dt.datetime.max, dt.timedelta(1)),
        *(np.datetime64("NaT"), np.datetime64(1, "ps"), np.datetime64(3000, "Y"), pd.NaT),
    ):
        with pytest.raises(TraceError, match=r"^since must be a time .*, got ") as caught:
            parse_time(wrong, name="since")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0, "0 ns"),
        (-0.0, "0 ns"),
        (1, "1 ns"),
        (999, "999 ns"),
        (1.5, "1.50 ns"),
        (0.25, "0.25 ns"),
        (999.4, "999 ns"),
        (999.6, "1.00 us"),
        (1_000, "1.00 us"),
        (1_234, "1.23 us"),
        (12_340, "12.3 us"),
        (123_400, "123 us"),
        (999_499, "999 us"),
        (999_500, "1.00 ms"),
        (8_600_000, "8.60 ms"),
        (9_999_000, "10.0 ms"),
        (1_000_000_000, "1.00 s"),
        (119_000_000_000, "119 s"),
        (120_000_000_000, "2.00 min"),
        (7_100_000_000_000, "118 min"),
        (7_200_000_000_000, "2.00 h"),
        (172_800_000_000_000, "2.00 d"),
        (-1_500, "-1.50 us"),
        (-8_600_000, "-8.60 ms"),
        (2**62, "53376 d"),
    ],
)
def test_format_ns(ns, text):
    assert format_ns(ns) == text


@given(st.integers(-(2**62), 2**62))
def test_format_ns_keeps_three_digits(ns):
    number, unit = format_ns(ns).split()
    assert abs(float(number) * NS[unit] - ns) <= abs(ns) * 0.005001
    digits = number.lstrip("-").replace(".", "")
    assert ns == 0 or len(digits) >= 3 or unit == "ns"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.14159, "3.14"),
        (49.987, "50.0"),
        (999, "999"),
        (999.96, "1,000"),
        (1000, "1,000"),
        (1234567.8, "1,234,568"),
        (-49.987, "-50.0"),
        (0.314159, "0.314"),
        (0.00314159, "0.00314"),
    ],
)
def test_format_quantity(value, text):
    assert format_quantity(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (960, "960 B"),
        (1_000, "1.00 kB"),
        (48_200, "48.2 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (3e9, "3.00 GB"),
        (1.5e12, "1.50 TB"),
        (2e15, "2,000 TB"),
    ],
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456Z"),
        (2**62 - 1, "2116-02-20T23:53:38.427387Z"),
        (10**21, "1000000000000000000000 ns"),
        (-(10**30), f"-{10**30} ns"),
    ],
)
def test_format_utc(ns, text):
    assert format_utc(ns) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mic", "mic"),
        ("Größe 5 µs", "Größe 5 µs"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # right-to-left override
        ("\x9b31m", r"\x9b31m"),  # the one-byte form of ESC [
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_escape(text, shown):
    assert escape(text) == shown


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_printable(text):
    assert escape(text).isprintable()
