"""Alerts: exact counts, a log at a bounded rate, and no exceptions."""

import logging

import pytest

from latprof.recorder.alerts import Alerts, Tally
from latprof.thresholds import END_TO_END

MS = 1_000_000


class Log(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture
def log() -> Log:
    return Log()


def made(log: logging.Handler, warning: int | None = 50 * MS, critical: int | None = 100 * MS):
    logger = logging.Logger("test")
    logger.addHandler(log)
    now = [0]
    limits = [{} if ns is None else {END_TO_END: ns} for ns in (warning, critical)]
    return Alerts(logger, *limits, lambda: now[0]), now


def test_a_latency_at_the_threshold_is_not_above_it(log: Log) -> None:
    alerts, _ = made(log)
    for latency in (49 * MS, 50 * MS, 50 * MS + 1, 100 * MS, 100 * MS + 1):
        alerts.slow(7, "input", latency)
    assert alerts.notes.read() == {"warnings": 2, "criticals": 1}
    assert [level for level, _ in log.lines] == ["WARNING", "WARNING", "ERROR"]
    assert log.lines[2][1] == ("critical threshold 100 ms exceeded: frame 7 of input took 100 ms")


def test_one_of_the_thresholds_may_be_missing(log: Log) -> None:
    alerts, _ = made(log, warning=None)
    alerts.slow(1, None, 60 * MS)
    alerts.slow(2, None, 160 * MS)
    assert alerts.notes.read() == {"criticals": 1}
    alerts, _ = made(log, critical=None)
    alerts.slow(3, None, 160 * MS)
    assert alerts.notes.read() == {"warnings": 1}
    assert log.lines[-1][1].endswith("frame 3 took 160 ms")


def test_control_characters_of_names_are_escaped(log: Log) -> None:
    alerts, _ = made(log)
    alerts.slow(1, "mic\x1b[31m\n", 60 * MS)
    assert "mic\\x1b[31m\\n" in log.lines[0][1]


def test_many_slow_frames_are_all_counted_and_partly_logged(log: Log) -> None:
    alerts, now = made(log)
    for n in range(1_000):
        alerts.slow(n, None, 60 * MS)
    assert len(log.lines) == Alerts.BURST
    assert alerts.notes.read() == {"warnings": 1_000, "log records suppressed": 990}
    alerts.flush()  # the second is not over
    assert len(log.lines) == Alerts.BURST
    now[0] = Alerts.PERIOD_NS
    alerts.slow(1_000, None, 60 * MS)
    assert log.lines[10][1] == "990 more frames over a threshold, not logged"
    assert log.lines[11][1].endswith("frame 1000 took 60.0 ms")
    alerts.flush(final=True)
    assert len(log.lines) == 12  # nothing was suppressed since


def test_suppressed_records_are_reported_at_the_end(log: Log) -> None:
    alerts, _ = made(log)
    for n in range(12):
        alerts.slow(n, None, 60 * MS)
    alerts.flush(final=True)
    assert log.lines[-1][1] == "2 more frames over a threshold, not logged"


def test_a_problem_is_logged_once(log: Log) -> None:
    alerts, _ = made(log)
    for _ in range(5):
        alerts.problem("mark set twice", "mark 'ipc'\n")
    assert alerts.notes.read() == {"mark set twice": 5}
    assert log.lines == [
        ("WARNING", "mark set twice: mark 'ipc'\\n (further ones are only counted)")
    ]


def test_errors_of_a_log_handler_are_counted() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    alerts, _ = made(Broken())
    alerts.slow(1, None, 60 * MS)
    alerts.problem("x", "y")
    alerts.info("z")
    assert alerts.notes.read() == {"warnings": 1, "x": 1, "errors in logging": 3}


def test_tally_leaves_out_zeros() -> None:
    tally = Tally()
    tally.add("late", 2)
    tally.add("late", -2)
    assert tally.read() == {}
    assert tally.total == 0
