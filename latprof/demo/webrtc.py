"""Two WebRTC peers on loopback, and the taps that show when a packet passes.

Real ICE, DTLS and SRTP over UDP on 127.0.0.1. aiortc has no public way to see a packet on its way
or to have it before it is decoded (its jitter buffer alone holds four frames, 80 ms), so three
methods are replaced, on instances only. They are private: hence ``aiortc<2``, and a test of each.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from latprof.demo.crew import PATIENCE
from latprof.demo.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack, RTCPeerConnection
    from av import Packet

__all__ = ["Microphone", "connect", "tap_receiver", "tap_sender"]


class Microphone:
    """What aiortc asks of an audio track, giving packets that are encoded already.

    Parameters
    ----------
    packets : sequence of bytes
        Opus packets, repeated as often as needed.
    count : int
        How many to give.
    on_packet : callable
        Called with a packet's number, from 0, and the packet, as it is handed to the sending peer.
    credits : Semaphore or None
        Give a packet for each credit, as soon as it is there. None: one every 20 ms.
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
        """Return the next packet when its time has come (called by aiortc's sender)."""
        import av

        await self.live.wait()
        number = self._next
        if number == self._count:
            self.finished.set()
            await asyncio.Event().wait()  # until the peer is closed, which cancels this
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
        """Nothing to stop: aiortc's sender asks for it."""

    async def _wait_until_due(self, number: int) -> None:
        # One schedule for the whole run: asyncio's timers are up to some ms late, and a pause of
        # 20 ms after each packet would add that up to a microphone that is slow.
        if number == 0:
            self._begin_ns = time.perf_counter_ns()
        wait_ns = self._begin_ns + number * FRAME_NS - time.perf_counter_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)


@asynccontextmanager
async def connect(
    microphone: Microphone,
) -> "AsyncIterator[tuple[RTCPeerConnection, RTCPeerConnection]]":
    """Give two connected peers, the first sending the microphone's packets to the second."""
    import aioice.ice
    from aiortc import RTCConfiguration, RTCPeerConnection

    # aioice leaves loopback out, and a host without a network has no other address.
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
        async with asyncio.timeout(PATIENCE):
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
        if not _is_rtcp(data):
            on_sending(_sequence_number(data))
        await send(data)

    transport._send_rtp = send_rtp


def tap_receiver(
    peer: "RTCPeerConnection",
    on_datagram: Callable[[int], None],
    on_packet: Callable[[int, bytes], None],
) -> None:
    """Call back with the RTP sequence number of each packet that comes in.

    `on_datagram` is called when the UDP datagram reaches the process, still encrypted;
    `on_packet` instead of jitter buffer and decoder, with the packet as it was encoded.
    """
    receiver: Any = peer.getReceivers()[0]
    for protocol in receiver.transport.transport._connection._protocols:
        protocol.datagram_received = _watched(protocol.datagram_received, on_datagram)

    async def handle_rtp_packet(packet: Any, arrival_time_ms: int) -> None:
        on_packet(packet.sequence_number, packet.payload)

    receiver._handle_rtp_packet = handle_rtp_packet


def _watched(
    receive: Callable[[bytes, tuple[Any, ...]], None], on_datagram: Callable[[int], None]
) -> Callable[[bytes, tuple[Any, ...]], None]:
    def datagram_received(data: bytes, address: tuple[Any, ...]) -> None:
        # SRTP leaves the RTP header readable; STUN and DTLS begin with other bytes.
        if 128 <= data[0] < 192 and not _is_rtcp(data):
            on_datagram(_sequence_number(data))
        receive(data, address)

    return datagram_received


def _is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] < 224


def _sequence_number(data: bytes) -> int:
    return int.from_bytes(data[2:4], "big")
