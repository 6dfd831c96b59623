"""The relay, the first process: two WebRTC peers, and the way from them to the Unix socket.

It owns the first five marks of a frame:

=============  ====================================================================
start          encoded packet handed to the sending peer
webrtc         UDP datagram handed to the receiving peer's process
validation     packet decrypted and parsed, before it is checked
serialization  checked, before the message is built
ipc            message built, before it is handed to the socket
=============  ====================================================================

A frame begins when its packet is sent. Later marks find it by the RTP sequence number that aiortc
gave to the packet.

The peers use real ICE, DTLS and SRTP over UDP on 127.0.0.1. aiortc has no public way to see a
packet in transit, or to receive it before it is decoded (the jitter buffer alone holds four frames,
80 ms), so three methods are replaced, on instances only. They are private, hence ``aiortc<2``, and
a test of each.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from latprof.demo.packets import (
    END,
    FRAME_NS,
    FRAME_SAMPLES,
    PACKET,
    SAMPLE_RATE,
    load_packets,
    pack,
    packet_samples,
)
from latprof.demo.processes import TIMEOUT, PeerGoneError, run_role, send_event
from latprof.pipeline import AUDIO
from latprof.recorder.profiler import Frame, Profiler

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack, RTCPeerConnection
    from av import Packet

__all__ = ["Microphone", "Relay", "connect", "main", "tap_receiver", "tap_sender"]

_GRACE = 2.0  # seconds after which packets that have not arrived are lost

_WINDOW = 4  # packets in transit at a time if they are sent as fast as possible


class Relay:
    """Stamps each packet on its way through this process and passes it on.

    Parameters
    ----------
    profiler : Profiler
        The profiler that records the frames.
    writer : StreamWriter
        The socket to the audio server. Its `write` never waits: bytes that the kernel does not
        accept stay in memory. If the relay waited here, its event loop would stop, later packets
        would be stamped late, and a slow server would look like a slow network.
    """

    def __init__(self, profiler: Profiler, writer: asyncio.StreamWriter) -> None:
        self._profiler = profiler
        self._writer = writer
        self._newest: tuple[int, Frame]
        self._in_transit: dict[int, tuple[int, Frame]] = {}

    def begin(self, frame_id: int, payload: bytes) -> None:
        """Begin a frame, as its packet is handed to the sending peer."""
        self._newest = (
            frame_id,
            self._profiler.frame(frame_id, size=len(payload), source="input"),
        )

    def sending(self, sequence_number: int) -> None:
        """Store the newest frame by its number; a peer sends each packet before the next."""
        self._in_transit[sequence_number] = self._newest

    def datagram(self, sequence_number: int) -> None:
        """Mark the arrival of a datagram."""
        _, frame = self._in_transit[sequence_number]
        frame.mark("webrtc")

    def packet(self, sequence_number: int, payload: bytes) -> None:
        """Check a packet and hand it to the audio server."""
        frame_id, frame = self._in_transit.pop(sequence_number)
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
        """Wait for the last packets, drop frames without a packet as lost, and end the stream."""
        limit = time.monotonic() + _GRACE
        while self._in_transit and time.monotonic() < limit:
            await asyncio.sleep(0.005)
        for _, frame in self._in_transit.values():
            frame.drop("lost")
        self._in_transit.clear()
        self._writer.write(pack(END, 0))


async def _carry(settings: dict[str, Any]) -> None:
    """Send all packets from peer to peer, pass them on, and save the trace."""
    profiler = Profiler(
        AUDIO,
        owns=("start", "webrtc", "validation", "serialization", "ipc"),
        capacity=settings["frames"],
    )
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_unix_connection(settings["socket"])
    credits = asyncio.Semaphore(_WINDOW) if settings["fast"] else None
    hung_up = asyncio.create_task(_listen(reader, credits))
    with profiler:
        relay = Relay(profiler, writer)
        microphone = Microphone(load_packets(), settings["frames"], relay.begin, credits=credits)
        async with connect(microphone) as (sender, receiver):
            tap_sender(sender, relay.sending)
            tap_receiver(receiver, relay.datagram, relay.packet)
            microphone.live.set()
            sent = asyncio.create_task(microphone.finished.wait())
            # no time limit here, as the parent process ends a run without progress
            await asyncio.wait({sent, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if hung_up.done():
                raise PeerGoneError
            await relay.settle()
        await hung_up  # the server closes the connection once it has played everything
        writer.close()
    profiler.trace().save(settings["trace"])
    send_event(saved=settings["trace"])


async def _listen(reader: asyncio.StreamReader, credits: asyncio.Semaphore | None) -> None:
    """Turn the server's acknowledgements into credits, until the connection is closed."""
    with contextlib.suppress(ConnectionError):
        while acknowledged := await reader.read(4096):
            for _ in acknowledged:
                if credits is not None:
                    credits.release()


# -- WebRTC -------------------------------------------------------------------------------------


class Microphone:
    """An audio track for aiortc that returns packets which are already encoded.

    Parameters
    ----------
    packets : sequence of bytes
        Opus packets, repeated as often as needed.
    count : int
        Number of packets to return.
    on_packet : callable
        Called with the number of a packet, from 0, and the packet, when it is sent.
    credits : Semaphore or None
        If given, a packet is returned for each credit, otherwise one every 20 ms.
    """

    kind = "audio"
    id = "microphone"

    def __init__(
        self,
        packets: Sequence[bytes],
        count: int,
        on_packet: Callable[[int, bytes], None],
        *,
        credits: asyncio.Semaphore | None = None,
    ) -> None:
        self._packets = packets
        self._count = count
        self._on_packet = on_packet
        self._credits = credits
        self._next = 0
        self._begin_ns = 0
        self.live = asyncio.Event()
        self.finished = asyncio.Event()

    async def recv(self) -> "Packet[Any]":
        """Return the next packet when it is due; called by the sender of aiortc."""
        import av

        await self.live.wait()
        number = self._next
        if number == self._count:
            self.finished.set()
            await asyncio.Event().wait()  # until closing the peer cancels this
        self._next += 1
        if self._credits is not None:
            await self._credits.acquire()
        else:
            await self._wait_until_due(number)
        payload = self._packets[number % len(self._packets)]
        packet = av.Packet(payload)
        packet.pts = number * FRAME_SAMPLES
        packet.time_base = Fraction(1, SAMPLE_RATE)
        self._on_packet(number, payload)
        return packet

    def stop(self) -> None:
        """Do nothing; the sender of aiortc calls it."""

    async def _wait_until_due(self, number: int) -> None:
        # One schedule for the whole run: timers of asyncio are late by up to some ms, and with a
        # pause of 20 ms after each packet these delays would add up.
        if number == 0:
            self._begin_ns = time.perf_counter_ns()
        wait_ns = self._begin_ns + number * FRAME_NS - time.perf_counter_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)


@asynccontextmanager
async def connect(
    microphone: Microphone,
) -> "AsyncIterator[tuple[RTCPeerConnection, RTCPeerConnection]]":
    """Connect two peers, the first of which sends the microphone's packets to the second."""
    import aioice.ice
    from aiortc import RTCConfiguration, RTCPeerConnection

    # aioice ignores loopback, and a host without a network has no other address
    cast(Any, aioice.ice).get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    alone = RTCConfiguration(iceServers=[])  # the default asks a STUN server on the internet
    sender, receiver = RTCPeerConnection(alone), RTCPeerConnection(alone)
    try:
        transceiver = sender.addTransceiver("audio", direction="sendonly")
        transceiver.sender.replaceTrack(cast("MediaStreamTrack", microphone))
        await sender.setLocalDescription(await sender.createOffer())
        await receiver.setRemoteDescription(sender.localDescription)
        await receiver.setLocalDescription(await receiver.createAnswer())
        await sender.setRemoteDescription(receiver.localDescription)
        async with asyncio.timeout(TIMEOUT):
            while {sender.connectionState, receiver.connectionState} != {"connected"}:
                await asyncio.sleep(0.01)
        yield sender, receiver
    finally:
        await sender.close()
        await receiver.close()


def tap_sender(peer: "RTCPeerConnection", on_sending: Callable[[int], None]) -> None:
    """Call `on_sending` with the RTP sequence number of each packet, before it leaves."""
    transport: Any = peer.getSenders()[0].transport
    send = transport._send_rtp

    async def send_rtp(data: bytes) -> None:
        """Call the function, then send the packet."""
        if not _is_rtcp(data):
            on_sending(_sequence_number(data))
        await send(data)

    transport._send_rtp = send_rtp


def tap_receiver(
    peer: "RTCPeerConnection",
    on_datagram: Callable[[int], None],
    on_packet: Callable[[int, bytes], None],
) -> None:
    """Call functions with the RTP sequence number of each packet that arrives.

    `on_datagram` is called when the UDP datagram reaches the process, still encrypted. `on_packet`
    replaces the jitter buffer and the decoder, and is called with the encoded packet.
    """
    receiver: Any = peer.getReceivers()[0]
    for protocol in receiver.transport.transport._connection._protocols:
        protocol.datagram_received = _watched(protocol.datagram_received, on_datagram)

    async def handle_rtp_packet(packet: Any, arrival_time_ms: int) -> None:
        """Hand over the encoded packet."""
        on_packet(packet.sequence_number, packet.payload)

    receiver._handle_rtp_packet = handle_rtp_packet


def _watched(
    receive: Callable[[bytes, tuple[Any, ...]], None], on_datagram: Callable[[int], None]
) -> Callable[[bytes, tuple[Any, ...]], None]:
    def datagram_received(data: bytes, address: tuple[Any, ...]) -> None:
        """Call the function for an RTP packet, then handle the datagram."""
        # SRTP does not encrypt the RTP header; STUN and DTLS begin with other bytes
        if 128 <= data[0] < 192 and not _is_rtcp(data):
            on_datagram(_sequence_number(data))
        receive(data, address)

    return datagram_received


def _is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] < 224


def _sequence_number(data: bytes) -> int:
    return int.from_bytes(data[2:4], "big")


def main(settings: dict[str, Any]) -> None:
    """Run the relay."""
    asyncio.run(_carry(settings))


if __name__ == "__main__":
    run_role(main)
