"""The relay, the first process: both WebRTC peers, and the way from them to the Unix socket.

It owns the first five marks of a frame:

=============  ====================================================================
start          encoded packet handed to the sending peer
webrtc         UDP datagram handed to the receiving peer's process
validation     packet decrypted and parsed, before it is checked
serialization  checked, before the message is built
ipc            message built, before it is handed to the socket
=============  ====================================================================

A frame is begun where the packet is sent and found again, along the way, by the RTP sequence number
that aiortc gave it.
"""

import asyncio
import contextlib
import time
from typing import Any

from latprof import AUDIO, Profiler
from latprof.demo.crew import PATIENCE, PeerGoneError, run_role, tell
from latprof.demo.frames import FRAME_SAMPLES, load_frames, packet_samples
from latprof.demo.webrtc import Microphone, connect, tap_receiver, tap_sender
from latprof.demo.wire import END, PACKET, pack
from latprof.recorder.profiler import Frame

__all__ = ["Relay", "carry", "main"]

_GRACE = 2.0
"""Seconds for the last packets to arrive; what is not there by then is lost."""

_WINDOW = 4
"""Packets under way at a time when they are sent as quickly as it goes."""


class Relay:
    """Follows each packet through this process and passes it on.

    Parameters
    ----------
    profiler : Profiler
        Where the frames are recorded.
    writer : StreamWriter
        The socket to the audio server. Its `write` never waits: what the kernel does not take stays
        in memory. A relay that waits here would stop its event loop, so that packets which arrive
        meanwhile are stamped late, and a slow server would look like a slow network.
    """

    def __init__(self, profiler: Profiler, writer: asyncio.StreamWriter) -> None:
        self._profiler = profiler
        self._writer = writer
        self._newest: tuple[int, Frame]
        self._under_way: dict[int, tuple[int, Frame]] = {}

    def begin(self, frame_id: int, payload: bytes) -> None:
        """Begin a frame: its packet is now handed to the sending peer."""
        self._newest = (
            frame_id,
            self._profiler.frame(frame_id, size=len(payload), source="input"),
        )

    def sending(self, sequence_number: int) -> None:
        """Note the number of the newest frame: the peer sends a packet before it asks for more."""
        self._under_way[sequence_number] = self._newest

    def datagram(self, sequence_number: int) -> None:
        """Mark the arrival of a datagram."""
        _, frame = self._under_way[sequence_number]
        frame.mark("webrtc")

    def packet(self, sequence_number: int, payload: bytes) -> None:
        """Check a packet and hand it to the audio server."""
        frame_id, frame = self._under_way.pop(sequence_number)
        frame.mark("validation")
        try:
            samples = packet_samples(payload)
        except ValueError:
            samples = 0
        if samples != FRAME_SAMPLES:
            frame.drop("invalid")
            return
        frame.mark("serialization")
        message = pack(PACKET, frame_id * FRAME_SAMPLES, payload)
        frame.mark("ipc")
        self._writer.write(message)
        frame.finish()

    async def settle(self) -> None:
        """Wait for the last packets, count what is missing as lost, and end the stream."""
        limit = time.monotonic() + _GRACE
        while self._under_way and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        for _, frame in self._under_way.values():
            frame.drop("lost")
        self._under_way.clear()
        self._writer.write(pack(END, 0))


async def carry(settings: dict[str, Any]) -> None:
    """Send all packets from peer to peer, relay them and save the trace."""
    profiler = Profiler(
        AUDIO,
        owns=("start", "webrtc", "validation", "serialization", "ipc"),
        capacity=settings["frames"],
    )
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(settings["socket"])
    credits = asyncio.Semaphore(_WINDOW) if settings["fast"] else None
    hung_up = asyncio.create_task(_listen(reader, credits))
    with profiler:
        relay = Relay(profiler, writer)
        microphone = Microphone(load_frames(), settings["frames"], relay.begin, credits=credits)
        async with connect(microphone) as (sender, receiver):
            tap_sender(sender, relay.sending)
            tap_receiver(receiver, relay.datagram, relay.packet)
            microphone.live.set()
            sent = asyncio.create_task(microphone.finished.wait())
            # No time limit here: the parent process ends a run in which nothing moves any more.
            await asyncio.wait({sent, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if hung_up.done():
                raise PeerGoneError
            await relay.settle()
        await hung_up  # now it is the server's answer to the end of the stream: all was played
        writer.close()
    profiler.trace().save(settings["trace"])
    tell(saved=settings["trace"])


async def _listen(reader: asyncio.StreamReader, credits: asyncio.Semaphore | None) -> None:
    """Turn the server's acknowledgements into credits, until it hangs up or is gone."""
    with contextlib.suppress(ConnectionError):
        while acknowledged := await reader.read(4096):
            for _ in acknowledged:
                if credits is not None:
                    credits.release()


def main(settings: dict[str, Any]) -> None:
    """Run the relay."""
    asyncio.run(carry(settings))


if __name__ == "__main__":
    run_role(main)
