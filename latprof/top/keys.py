"""Which key was pressed, without waiting for the end of a line."""

import os
import select
import sys
import time
from typing import Any

__all__ = ["Keys"]


class Keys:
    """The keyboard, where the standard input is one; else nothing is ever pressed.

    The terminal is left as it was found.
    """

    def __init__(self) -> None:
        self._input = -1
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keys":
        try:
            import termios
            import tty
        except ImportError:  # Windows
            return self
        try:
            self._input = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        except (OSError, ValueError, AttributeError, termios.error):
            self._before = None  # a file or a pipe, or nothing at all
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def pressed(self, seconds: float) -> str:
        """Wait for a key for so long; return it, "" without one, "q" where the terminal is gone."""
        if self._before is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._input], [], [], seconds)
        if not ready:
            return ""
        typed = os.read(self._input, 64)
        return typed.decode("utf-8", "replace") if typed else "q"
