"""Sending at an interval, in a thread of its own, until the program ends."""

import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Self

from latprof.io.atomic import first_line
from latprof.text import counted

__all__ = ["Sending"]

_log = logging.getLogger("latprof")


class Sending:
    """Sends at an interval, and a last time at the end.

    As a context manager it stops at the end of the block; it also stops when the program exits.
    The first of several failures in a row is logged, and so is their end. The child of a fork sends
    nothing.

    Parameters
    ----------
    to
        What the log calls the receiver.
    send
        Sends, and returns why that failed, or "". An exception that it raises is a failure as well.
    every_s
        The interval, in seconds.

    Attributes
    ----------
    sent, failed
        How often sending worked, and how often it failed.
    """

    def __init__(self, to: str, send: Callable[[], str], every_s: float) -> None:
        self.sent = self.failed = 0
        self._to, self._send, self._every_s = to, send, every_s
        self._failing, self._process = False, os.getpid()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"latprof to {to}", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.now()

    def stop(self) -> None:
        """Send a last time, and end; a second call does nothing. Exporters are not shut down."""
        atexit.unregister(self.stop)
        if not self._stopped.is_set() and os.getpid() == self._process:
            self._stopped.set()
            self._thread.join()
            self.now()

    def now(self) -> bool:
        """Send now, and return whether it worked."""
        if os.getpid() != self._process:
            return False
        with self._lock:
            try:
                why = self._send()
            except Exception as error:  # an error of an exporter must not end the thread
                why = f"{type(error).__name__}: {first_line(error)}"
            if why:
                self.failed += 1
            else:
                self.sent += 1
            if why and not self._failing:
                _log.warning("%s: sending failed, and is tried again later: %s", self._to, why)
            elif self._failing and not why:
                times = counted(self.failed, "time")
                _log.info("%s: sending works again; it failed %s so far", self._to, times)
            self._failing = bool(why)
            return not why
