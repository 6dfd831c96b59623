"""Trace files that are sent to an object store once they are closed, by a thread of their own."""

import os
import threading
from collections import deque
from pathlib import Path
from urllib.parse import quote

from latprof.io.remote import send
from latprof.recorder.alerts import Alerts
from latprof.text import shown_path

__all__ = ["MOST_WAITING", "NOT_SENT", "SENT", "Uploads"]

SENT, NOT_SENT = "trace files sent", "trace files not sent"

MOST_WAITING = 64
"""Files that wait; further ones stay where they are, and are counted."""

LAST_S = 10.0
"""Longest time that the end of a recording waits for its files to be sent."""


class Uploads:
    """Sends closed files behind a URL, and removes those that were sent.

    Files that cannot be sent stay in their folder; they are counted, and the first one is logged.
    No method raises. `add` does not wait.

    Parameters
    ----------
    url
        Of a folder; it ends in ``/``, before a query.
    alerts
        Counts and logs.
    """

    def __init__(self, url: str, alerts: Alerts) -> None:
        self._folder, mark, query = url.partition("?")
        self._query = mark + query
        self._alerts = alerts
        self._lock = threading.Lock()
        self._waiting: deque[Path] = deque()  # the first one is being sent
        self._given_up: Path | None = None  # the file that was still being sent at the end
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> None:
        """Let a file be sent in the background."""
        why = self._queue(path)
        if why:
            self._keep(1, why)

    def _queue(self, path: Path) -> str:
        """Let a file wait; return why it cannot, or ""."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return f"{MOST_WAITING} others wait"
            self._waiting.append(path)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="latprof-upload", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left
                    self._waiting.pop()
                    return str(error)
                self._thread = thread
        return ""

    def close(self) -> None:
        """Wait until all files are sent, for at most `LAST_S` seconds."""
        thread = self._thread
        if thread is None:
            return
        thread.join(LAST_S)
        with self._lock:
            left = len(self._waiting)
            if left:
                self._given_up = self._waiting[0]
                self._waiting = deque([self._given_up])
        if left:
            self._keep(left, f"the store takes longer than {LAST_S:g} s")

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                path = self._waiting[0]
            error = self._send(path)
            with self._lock:
                self._waiting.popleft()
                late, self._given_up = self._given_up == path, None
            if error is None:
                self._alerts.notes.add(SENT)
                self._alerts.notes.add(NOT_SENT, -late)  # `close` has counted it as not sent
            elif not late:
                self._keep(1, str(error))

    def _send(self, path: Path) -> Exception | None:
        """Send a file and remove it; return the error if it cannot be sent."""
        try:
            with open(path, "rb") as file:
                send(file, f"{self._folder}{quote(path.name)}{self._query}")
            os.unlink(path)
        except Exception as error:
            return error
        return None

    def _keep(self, count: int, why: str) -> None:
        """Count files that stay, and log the first time."""
        if self._alerts.notes.add(NOT_SENT, count) == count:
            remark = "the files stay in their folder, and recording goes on"
            self._alerts.warn(NOT_SENT, f"to {shown_path(self._folder)}: {why}; {remark}")
