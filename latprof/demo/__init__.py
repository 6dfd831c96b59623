"""A real audio pipeline, recorded by the processes that it runs in.

The example of how to instrument a pipeline across processes: `relay` and `server` each record the
marks they own with a `Profiler` of their own, and the two recordings are joined by frame id.

=========  ==========================================================================
`frames`   the Opus packets that are sent, and the check of those that arrive
`wire`     the header of 17 bytes between the processes
`webrtc`   two peers on loopback, packets taken out before they are decoded
`relay`    process 1: WebRTC -> check -> header -> Unix socket; five marks
`server`   process 2: Unix socket -> libopus -> ALSA; three marks
`card`     ALSA's configuration, and a sound card that is too slow
`crew`     starting the processes, listening to them, ending them
=========  ==========================================================================

What is not real: unless a device is named there is no sound card (ALSA's null device takes
everything at once); the slow card is a simulated clock behind a real, blocking write; the network
is loopback, without loss or jitter; and ``end`` means that ALSA took the sound, not that it can be
heard.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import latprof
from latprof.demo.card import PIPE, SLOW_DEVICE, alsa_environment
from latprof.demo.crew import Crew
from latprof.demo.frames import FRAME_NS
from latprof.errors import DemoError

__all__ = ["run"]

_PACKAGES = ("aiortc", "av")


def run(
    *,
    seconds: float = 10.0,
    device: str = "null",
    slow_card_ppm: float | None = None,
    fast: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> "latprof.Trace":
    """Run the audio pipeline and return the joined trace of all its frames.

    Parameters
    ----------
    seconds : float
        How much sound to carry, 50 frames a second; as long as that takes, unless `fast`.
    device : str
        ALSA device to play on. ``null`` needs no sound card.
    slow_card_ppm : float, optional
        Play on a simulated card that is slower than real time by so many millionths.
    fast : bool
        As quickly as it goes, with four frames under way at a time. Latencies are then those of a
        busy program, with caches warm: do not compare them with the others.
    on_progress : callable, optional
        Called a few times a second with the frames played so far and those to play.

    Returns
    -------
    Trace
        Its ``meta["run"]`` says how it was made: device, mode, slow_card_ppm, seconds, frames, and
        the versions of aiortc and PyAV.

    Raises
    ------
    DemoError
        The demo cannot run here, or did not end well.
    """
    _check(seconds, device, slow_card_ppm, fast)
    frames = max(1, round(seconds * 1e9 / FRAME_NS))
    if slow_card_ppm is not None:
        device = SLOW_DEVICE

    def on_event(event: dict[str, Any]) -> None:
        if on_progress is not None and "done" in event:
            on_progress(event["done"], frames)

    with tempfile.TemporaryDirectory(prefix="latprof-demo-") as name, Crew(Path(name)) as crew:
        folder = Path(name)
        environment = alsa_environment(device, folder)
        if slow_card_ppm is not None:
            os.mkfifo(folder / PIPE)
            crew.start("card", ppm=slow_card_ppm)
            crew.wait_for("card", "ready", on_event)
        crew.start(
            "server",
            environment=environment,
            device=device,
            socket="audio.sock",  # relative to the folder: a socket's path has 107 bytes at most
            frames=frames,
            acknowledge=fast,
            trace="server.parquet",
        )
        crew.wait_for("server", "ready", on_event)
        crew.start("relay", socket="audio.sock", frames=frames, fast=fast, trace="relay.parquet")
        crew.wait_for("server", "saved", on_event)
        if slow_card_ppm is not None:
            crew.dismiss("server")  # else it waits until ALSA's buffer, 3 s, has been played
        crew.wait_for("relay", "exit", on_event)
        crew.wait_for("server", "exit", on_event)
        trace = latprof.join([folder / "relay.parquet", folder / "server.parquet"])

    trace.meta["run"] = {
        "device": device,
        "mode": "fast" if fast else "real time",
        "slow_card_ppm": slow_card_ppm,
        "seconds": seconds,
        "frames": frames,
        **{package: version(package) for package in _PACKAGES},
    }
    for part in trace.meta["join"]["parts"]:
        part["name"] = Path(part["name"]).name  # the folder is gone
    if on_progress is not None:
        on_progress(frames, frames)
    return trace


def _check(seconds: float, device: str, slow_card_ppm: float | None, fast: bool) -> None:
    """Refuse what cannot run, before anything is started."""
    if not 0 < seconds <= 86_400:
        raise DemoError(f"cannot run for {seconds} seconds: choose more than 0, at most 86400")
    if slow_card_ppm is not None:
        if not 0 <= slow_card_ppm <= 1_000_000:
            raise DemoError(f"no card is {slow_card_ppm} ppm slow: choose 0 to 1000000")
        if device != "null":
            raise DemoError(f"the slow card takes the place of the device {device!r}: choose one")
        if fast:
            raise DemoError("the slow card has a pace, fast has none: choose one")
    if sys.platform != "linux":
        raise DemoError(f"the demo plays through ALSA, which {sys.platform} lacks: run it on Linux")
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise DemoError(f'the demo needs {package}: pip install "latprof[audio]"')
