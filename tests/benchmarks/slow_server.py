"""The audio server of the demo, with a decoder that takes a tenth longer."""

import time
from functools import partial

from latprof.demo import server
from latprof.demo.processes import run_role


class SlowDecoder:
    """Decodes as the decoder does, and then waits for a tenth of that time, busily."""

    def __init__(self, decoder):
        self._decoder = decoder

    def decode(self, packet):
        begin = time.perf_counter_ns()
        sound = self._decoder.decode(packet)
        until = time.perf_counter_ns() + (time.perf_counter_ns() - begin) // 10
        while time.perf_counter_ns() < until:
            pass
        return sound


def main(settings):
    """Play the packets, with the slow decoder."""
    decoder = server.open_decoder()
    server.open_decoder = partial(SlowDecoder, decoder)
    server.main(settings)


if __name__ == "__main__":
    run_role(main)
