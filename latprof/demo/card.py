"""A sound card that is too slow, as a process behind a pipe.

A real crystal is off by tens of ppm. If a card is slow by `ppm`, its buffer fills up until the
program that writes to it is held back. To show this without hardware, the file plugin of ALSA
writes into a named pipe of one page, about as much as one packet of 20 ms, and this process reads
the sound from it as slowly as required. The audio server never sleeps: its write blocks.

What to expect: for 2.7 s the file plugin keeps all sound in its own buffer (131,072 samples), then
the page fills up. From then on each write takes longer than the one before, by `ppm` us more in
each second, until it takes as long as a packet. Then packets queue up in front of the server, and
``ipc`` grows by `ppm` us a second, although the cause is in ``alsa``. At 5,000 ppm that happens
from 5 s and from 9 s on, at 20,000 ppm from 3.5 s and from 4.6 s on.
"""

import os
import select
import time
from typing import Any

from latprof.demo.packets import FRAME_SAMPLES, SAMPLE_RATE
from latprof.demo.processes import TIMEOUT, run_role, send_event

__all__ = ["main"]

_PAGE = 4096
_SAMPLE_BYTES = 4
_PERIOD_BYTES = FRAME_SAMPLES * _SAMPLE_BYTES


def main(settings: dict[str, Any]) -> None:
    """Read sound from a pipe, slower than real time by `settings["ppm"]`, until it is closed."""
    import fcntl  # missing on some systems, on which this module must load

    seconds_per_byte = (1 + settings["ppm"] / 1e6) / (SAMPLE_RATE * _SAMPLE_BYTES)
    pipe = os.open(settings["pipe"], os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PAGE)
    send_event(ready=True)

    select.select([pipe], [], [])
    # Like a card, it begins to play once it has a period. From then on each read has a due time, so
    # that occasional delays do not make it slower.
    due = time.monotonic() + _PERIOD_BYTES * seconds_per_byte
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        if not select.select([pipe], [], [], 0)[0]:
            # nothing to play: a card does not make up for silence
            if not select.select([pipe], [], [], TIMEOUT)[0]:
                return
            due = time.monotonic()
        sound = os.read(pipe, _PERIOD_BYTES)
        if not sound:
            return
        due += len(sound) * seconds_per_byte


if __name__ == "__main__":
    run_role(main)
