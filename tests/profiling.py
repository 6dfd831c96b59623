"""Helpers of the tests of the recorder: a clock, a log, and accounts that must add up."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from latprof.accounts import Accounts
from latprof.pipeline import Pipeline
from latprof.recorder.profiler import Profiler

MIC = Pipeline.chain("mic", "decode", "play")  # marks start, decode, play, end
MS = 1_000_000


_BEGUN_NS = time.perf_counter_ns()


def young_clock() -> int:
    """Return the ns since the tests began.

    Stamps near 0 are plausible on it. On the default clock they are more than a day old, and noted
    as such, if the machine has been up for longer than that.
    """
    return time.perf_counter_ns() - _BEGUN_NS


class Clock:
    """A clock that returns the same time until the test changes it."""

    def __init__(self, now: int = 1_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def after(self, ns: int) -> None:
        self.now += ns


class Log(logging.Handler):
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.Logger("test")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def balanced(profiler: Profiler) -> Accounts:
    """Return the accounts after checking that they add up."""
    a = profiler.accounts
    dropped, rejected = sum(a.dropped.values()), sum(a.rejected.values())
    assert a.started == a.in_flight + a.finished + dropped + rejected
    assert a.finished + dropped == a.folded + a.not_folded + a.lost + a.torn
    counts = [a.started, a.in_flight, a.finished, a.folded, a.not_folded, a.lost, a.torn]
    assert min(*counts, *a.dropped.values(), *a.rejected.values()) >= 0
    return a


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.001)


def run_threads(threads: Iterable[threading.Thread]) -> None:
    """Start all threads and wait for them."""
    threads = list(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
