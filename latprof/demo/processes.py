"""The processes of the demo: `run` starts them, listens to them, and always ends them.

Each process runs a module with a `main`, as ``python -m latprof.demo.<role> SETTINGS`` with JSON
settings, and reports events as JSON lines on its standard output (`send_event`). Its standard
error, which includes messages of alsa-lib, goes to a log file that errors quote.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import latprof
from latprof.demo.packets import FRAME_NS
from latprof.errors import DemoError
from latprof.joining.join import join
from latprof.text import clip, quoted
from latprof.trace import Trace

__all__ = [
    "TIMEOUT",
    "PeerGoneError",
    "Processes",
    "alsa_environment",
    "run",
    "run_role",
    "send_event",
]

TIMEOUT = 20.0
"""Seconds without an event after which a run is ended."""

_PEER_GONE = 3  # exit code of a process that ends because another one did
_PACKAGES = ("aiortc", "av")


def run(
    *,
    seconds: float = 10.0,
    device: str = "null",
    slow_card_ppm: float | None = None,
    fast: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    modules: Mapping[str, str] | None = None,
) -> Trace:
    """Run the audio pipeline and return the joined trace of all its frames.

    Parameters
    ----------
    seconds : float
        Length of the sound, 50 frames a second. The run takes as long, unless `fast`.
    device : str
        ALSA device; ``null`` needs no sound card.
    slow_card_ppm : float, optional
        Play on a simulated card that is slower than real time by this many parts per million.
    fast : bool
        Run as fast as possible, with four frames in transit at a time. The latencies are then those
        of a busy program with warm caches, and not comparable with real time.
    on_progress : callable, optional
        Called a few times a second with the number of frames played and of all frames.
    modules : mapping, optional
        Modules to run in place of `relay`, `server` or `card`, by role.

    Returns
    -------
    Trace
        ``meta["run"]`` has the settings: device, mode, slow_card_ppm, seconds, frames, and the
        versions of aiortc and PyAV.

    Raises
    ------
    DemoError
        The demo cannot run on this system, or a process failed.
    """
    _check(seconds, device, slow_card_ppm, fast)
    frames = max(1, round(seconds * 1e9 / FRAME_NS))
    if slow_card_ppm is not None:
        device = _SLOW_DEVICE

    def on_event(event: dict[str, Any]) -> None:
        """Report how many frames are done."""
        if on_progress is not None and "done" in event:
            on_progress(event["done"], frames)

    with Processes(modules) as processes:
        folder = processes.folder
        environment = alsa_environment(device, folder)
        if slow_card_ppm is not None:
            os.mkfifo(folder / _PIPE)
            processes.start("card", ppm=slow_card_ppm, pipe=_PIPE)
            processes.wait_for("card", "ready", on_event)
        processes.start(
            "server",
            environment=environment,
            device=device,
            socket="audio.sock",  # relative, as a socket has a path of at most 107 bytes
            frames=frames,
            acknowledge=fast,
            trace="server.parquet",
        )
        processes.wait_for("server", "ready", on_event)
        processes.start(
            "relay", socket="audio.sock", frames=frames, fast=fast, trace="relay.parquet"
        )
        processes.wait_for("server", "saved", on_event)
        if slow_card_ppm is not None:
            # otherwise it would first play out ALSA's 3 s buffer
            processes.stop("server")
        processes.wait_for("relay", "exit", on_event)
        processes.wait_for("server", "exit", on_event)
        trace = join([folder / "relay.parquet", folder / "server.parquet"])

    trace.meta["run"] = {
        "device": device,
        "mode": "fast" if fast else "real time",
        "slow_card_ppm": slow_card_ppm,
        "seconds": seconds,
        "frames": frames,
        **{package: version(package) for package in _PACKAGES},
    }
    for part in trace.meta["join"]["parts"]:
        part["name"] = Path(part["name"]).name  # the folder was removed
    if on_progress is not None:
        on_progress(frames, frames)
    return trace


def _check(seconds: float, device: str, slow_card_ppm: float | None, fast: bool) -> None:
    """Refuse settings that cannot run, before a process is started."""
    if not 0 < seconds <= 86_400:
        raise DemoError(f"seconds must be more than 0, at most 86,400, got {quoted(seconds)}")
    if slow_card_ppm is not None:
        if not 0 <= slow_card_ppm <= 1_000_000:
            raise DemoError(
                f"slow_card_ppm must be from 0 to 1,000,000, got {quoted(slow_card_ppm)}"
            )
        if device != "null":
            raise DemoError(
                f"device must not be given with slow_card_ppm, got {quoted(device)}; leave out one"
            )
        if fast:
            raise DemoError("fast must not be given with slow_card_ppm; leave out one")
    if sys.platform != "linux":
        raise DemoError(f"the demo needs ALSA, got {sys.platform}; run it on Linux")
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise DemoError(f'the demo needs {package}; pip install "latprof[audio]"')


# -- ALSA ---------------------------------------------------------------------------------------

_SLOW_DEVICE = "slow_card"
_PIPE = "card.fifo"
_CONFIGURATION = f"""
pcm.null {{ type null }}
pcm.{_SLOW_DEVICE} {{ type file slave.pcm null file "{_PIPE}" format raw }}
"""


def alsa_environment(device: str, folder: Path) -> dict[str, str]:
    """Return environment variables with which alsa-lib finds `device`.

    The wheel of PyAV has its own alsa-lib, which does not find the system's configuration. For
    ``null`` and the slow card a configuration is written to `folder`, so that ALSA need not be
    installed. Other devices are those of the system.

    Raises
    ------
    DemoError
        The system has no ALSA configuration.
    """
    if device in ("null", _SLOW_DEVICE):
        file = folder / "asound.conf"
        file.write_text(_CONFIGURATION)
        return {"ALSA_CONFIG_PATH": str(file)}
    system = Path(os.environ.get("ALSA_CONFIG_DIR", "/usr/share/alsa"))
    if not (system / "alsa.conf").is_file():
        raise DemoError(
            f"device {quoted(device)} needs alsa.conf in {clip(str(system))}; install "
            "libasound2-data, or leave out the device (null needs no sound card)"
        )
    return {"ALSA_CONFIG_DIR": str(system)}


# -- processes ----------------------------------------------------------------------------------


class PeerGoneError(Exception):
    """The process at the other end of a connection has ended."""


class Processes:
    """Child processes of a with block, which are killed when the block is left.

    `folder` is their working directory, which also has their logs; it is removed at the end.
    """

    def __init__(self, modules: Mapping[str, str] | None = None) -> None:
        self._modules = modules or {}
        self._stack = contextlib.ExitStack()
        folder = tempfile.TemporaryDirectory(prefix="latprof-demo-")
        self.folder = Path(self._stack.enter_context(folder))
        self._events: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()
        self._seen: set[tuple[str, str]] = set()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._processes.values():
            process.kill()
        self._stack.close()

    def start(
        self, role: str, *, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        """Start a role with more environment variables; its `main` receives `settings`."""
        # the child must import this copy of latprof from another working directory
        paths = [str(Path(latprof.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
        path = os.pathsep.join(filter(None, paths))
        with self._log(role).open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    self._modules.get(role, f"latprof.demo.{role}"),
                    json.dumps(settings),
                ],
                cwd=self.folder,
                env={**os.environ, **(environment or {}), "PYTHONPATH": path},
                stdin=subprocess.PIPE,  # never written; its end shows that this process has ended
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to this process, which then ends its children
            )
        self._processes[role] = process
        listener = threading.Thread(target=self._listen, args=(role, process), daemon=True)
        listener.start()
        # at the end, once the process is killed: its last event is read, then its pipes are closed
        self._stack.enter_context(process)
        self._stack.callback(listener.join)

    def stop(self, role: str) -> None:
        """End a process that has done its work, and ignore its exit code."""
        self._stopped.add(role)
        self._processes[role].kill()

    def wait_for(self, role: str, key: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        """Pass events to `on_event` until `role` has sent `key`, or ended if `key` is ``exit``.

        Raises
        ------
        DemoError
            A process failed, or no process sent an event for `TIMEOUT` seconds.
        """
        while (role, key) not in self._seen:
            try:
                sender, event = self._events.get(timeout=TIMEOUT)
            except Empty:
                raise DemoError(
                    f"the {role} process must send {key!r} within {TIMEOUT:g} s, got no event; "
                    "check that the device accepts sound, and run the demo again"
                ) from None
            if "error" in event:
                raise DemoError(event["error"])
            if event.get("exit") and event["exit"] != _PEER_GONE and sender not in self._stopped:
                raise DemoError(self._failure(sender, event["exit"]))
            self._seen.update((sender, name) for name in event)
            on_event(event)

    def _listen(self, role: str, process: "subprocess.Popen[bytes]") -> None:
        """Put the events of a process, and finally its exit code, into the queue."""
        assert process.stdout is not None
        for line in process.stdout:
            self._events.put((role, json.loads(line)))
        self._events.put((role, {"exit": process.wait()}))

    def _log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def _failure(self, role: str, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = self._log(role).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        reason = f" ({clip(last, 160)})" if last else ""
        return f"the {role} process of the demo {how}{reason}; run the demo again"


def send_event(**event: Any) -> None:
    """Send an event to the parent process, as one line in one write."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def run_role(main: Callable[[dict[str, Any]], None]) -> None:
    """Run the `main` of a child with the settings of the command line, and exit."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        main(json.loads(sys.argv[1]))
    except DemoError as error:
        send_event(error=str(error))
        sys.exit(1)
    except PeerGoneError:
        sys.exit(_PEER_GONE)
    sys.exit(0)


def _end_with_parent() -> None:
    """End this process when its parent has ended for any reason."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)
