"""The sound card: what ALSA is told of it, and one that is too slow.

A real crystal is off by tens of ppm; a card that is slow by `ppm` lets its buffer fill up, until
the program that writes to it is held back. To show this without hardware, ALSA's file plugin writes
into a named pipe of one page, about as much as one packet of 20 ms, and this process takes the
sound out of it as slowly as asked. The audio server sleeps nowhere: its write blocks.

What to expect: for 2.7 s the file plugin keeps all sound in a buffer of its own (131,072 samples),
then the page fills up. From there each write lasts longer than the one before, by `ppm` us more in
a second, until it lasts as long as a packet; then packets queue up before the server, and ``ipc``
grows by `ppm` us a second, for a cause that is in ``alsa``. At 5,000 ppm that is from 5 s and from
9 s on, at 20,000 ppm from 3.5 s and from 4.6 s on.
"""

import os
import select
import time
from pathlib import Path
from typing import Any

from latprof.demo.crew import PATIENCE, run_role, tell
from latprof.demo.frames import FRAME_SAMPLES, SAMPLE_RATE
from latprof.errors import DemoError

__all__ = ["PIPE", "SLOW_DEVICE", "alsa_environment", "main"]

SLOW_DEVICE = "slow_card"
PIPE = "card.fifo"

_SYSTEM = "/usr/share/alsa"
_PAGE = 4096
_SAMPLE_BYTES = 4
_PERIOD_BYTES = FRAME_SAMPLES * _SAMPLE_BYTES


_CONFIGURATION = f"""
pcm.null {{ type null }}
pcm.{SLOW_DEVICE} {{ type file slave.pcm null file "{PIPE}" format raw }}
"""


def alsa_environment(device: str, folder: Path) -> dict[str, str]:
    """Return environment variables with which alsa-lib finds `device`.

    PyAV's wheel brings an alsa-lib of its own that looks for its configuration where it was built.
    For ``null`` and `SLOW_DEVICE` a configuration is written to `folder`, so that nothing of ALSA
    needs to be installed; any other device is the system's.

    Raises
    ------
    DemoError
        The system has no ALSA configuration.
    """
    if device in ("null", SLOW_DEVICE):
        file = folder / "asound.conf"
        file.write_text(_CONFIGURATION)
        return {"ALSA_CONFIG_PATH": str(file)}
    system = Path(os.environ.get("ALSA_CONFIG_DIR", _SYSTEM))
    if not (system / "alsa.conf").is_file():
        raise DemoError(
            f"no alsa.conf in {system}, so no device {device!r}: install libasound2-data, "
            "or leave the device out (null needs no sound card)"
        )
    return {"ALSA_CONFIG_DIR": str(system)}


def main(settings: dict[str, Any]) -> None:
    """Take sound out of the pipe, `settings["ppm"]` slower than real time, until it is closed."""
    import fcntl  # not on every system, and this module is loaded on all

    seconds_per_byte = (1 + settings["ppm"] / 1e6) / (SAMPLE_RATE * _SAMPLE_BYTES)
    pipe = os.open(PIPE, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PAGE)
    tell(ready=True)

    select.select([pipe], [], [])
    # Like a card, it begins to play once a period is there; from then on its clock alone counts:
    # each read has its due time, so that being late now and then does not make it slower.
    due = time.monotonic() + _PERIOD_BYTES * seconds_per_byte
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        if not select.select([pipe], [], [], 0)[0]:
            # Nothing to play: silence, which a card does not make up for afterwards.
            if not select.select([pipe], [], [], PATIENCE)[0]:
                return
            due = time.monotonic()
        sound = os.read(pipe, _PERIOD_BYTES)
        if not sound:
            return
        due += len(sound) * seconds_per_byte


if __name__ == "__main__":
    run_role(main)
