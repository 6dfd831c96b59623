"""The demo's processes: started, listened to, and always ended.

Each role is a module with a `main` of its own, run as ``python -m latprof.demo.<role> SETTINGS``,
settings as JSON. It tells what happens as JSON lines on its standard output (`tell`). What it
writes to standard error, alsa-lib's own messages among it, goes to a log that an error quotes.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import latprof
from latprof.errors import DemoError

__all__ = ["PATIENCE", "Crew", "PeerGoneError", "run_role", "tell"]

PATIENCE = 20.0
"""Seconds without any news after which a run counts as stuck."""

_PEER_GONE = 3
"""Exit code of a process that ends because another one did: not the one to blame."""


class PeerGoneError(Exception):
    """The process at the other end of a connection is gone."""


class Crew:
    """Child processes of a with block: leaving it, in whatever way, ends and reaps them all.

    Parameters
    ----------
    folder : Path
        Where they run and where their logs go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._listeners: list[threading.Thread] = []
        self._dismissed: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        for listener in self._listeners:
            listener.join()
        for process in self._processes.values():
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def start(
        self, role: str, *, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        """Start a role with additions to the environment; `settings` reach its `main`."""
        # The child finds this very latprof, installed or not; its folder is not the caller's.
        paths = [str(Path(latprof.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
        path = os.pathsep.join(filter(None, paths))
        with self._log(role).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"latprof.demo.{role}", json.dumps(settings)],
                cwd=self._folder,
                env={**os.environ, **(environment or {}), "PYTHONPATH": path},
                stdin=subprocess.PIPE,  # never written: its end tells that this process is gone
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which then ends its children
            )
        self._processes[role] = process
        listener = threading.Thread(target=self._listen, args=(role, process), daemon=True)
        self._listeners.append(listener)
        listener.start()

    def dismiss(self, role: str) -> None:
        """End a process that has done its work; how it exits is of no interest."""
        self._dismissed.add(role)
        self._processes[role].kill()

    def wait_for(self, role: str, key: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        """Pass events to `on_event` until `role` has told `key` (``exit`` is told for it).

        Raises
        ------
        DemoError
            A process fails, or nothing is heard of any for `PATIENCE` seconds.
        """
        while (role, key) not in self._told:
            try:
                sender, event = self._events.get(timeout=PATIENCE)
            except Empty:
                raise DemoError(
                    f"the demo stands still: no news for {PATIENCE:g} s while waiting for the "
                    f"{role} process ({key}); see whether the device takes sound, and run it again"
                ) from None
            if "error" in event:
                raise DemoError(event["error"])
            if event.get("exit") and event["exit"] != _PEER_GONE and sender not in self._dismissed:
                raise DemoError(self._obituary(sender, event["exit"]))
            self._told.update((sender, told) for told in event)
            on_event(event)

    def _listen(self, role: str, process: "subprocess.Popen[bytes]") -> None:
        """Put what a process tells, and at last its exit code, on the queue."""
        assert process.stdout is not None
        for line in process.stdout:
            self._events.put((role, json.loads(line)))
        self._events.put((role, {"exit": process.wait()}))

    def _log(self, role: str) -> Path:
        return self._folder / f"{role}.log"

    def _obituary(self, role: str, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self._log(role).read_text(errors="replace").split("\n")
        last = next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")
        return f"the demo's {role} process {how}{last}: run the demo again"


def tell(**event: Any) -> None:
    """Tell the parent process something: one line, written in one go."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def run_role(main: Callable[[dict[str, Any]], None]) -> None:
    """Run a child's `main` on the settings of the command line; does not return."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        main(json.loads(sys.argv[1]))
    except DemoError as error:
        tell(error=str(error))
        sys.exit(1)
    except PeerGoneError:
        sys.exit(_PEER_GONE)
    sys.exit(0)


def _follow_parent() -> None:
    """End this process with its parent, however that ended."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)
