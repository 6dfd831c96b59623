"""The audio server, the second process: Unix socket -> libopus -> ALSA.

It owns the last three marks of a frame: ``cgo`` (packet read, before the decoder is called),
``alsa`` (sound decoded, before it is written) and ``end`` (the write has returned). A loop handles
one frame at a time; later packets wait in the socket, which is the ipc stage.
"""

import socket
import time
from typing import TYPE_CHECKING, Any

from latprof.demo.packets import FRAME_SAMPLES, SAMPLE_RATE, read_packets
from latprof.demo.processes import TIMEOUT, PeerGoneError, run_role, send_event
from latprof.errors import DemoError
from latprof.pipeline import AUDIO
from latprof.recorder.profiler import Profiler
from latprof.text import clip

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioStream
    from av.container import OutputContainer

__all__ = ["main", "open_decoder", "open_device"]

_PROGRESS_EVERY = 0.2  # seconds


def main(settings: dict[str, Any]) -> None:
    """Play the packets that arrive on the socket, and save the trace when the stream ends."""
    import av

    decoder = open_decoder()
    output, stream = open_device(settings["device"])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(settings["socket"])
        listener.listen(1)
        send_event(ready=True)
        listener.settimeout(TIMEOUT)
        connection, _ = listener.accept()
    connection.settimeout(TIMEOUT)

    profiler = Profiler(AUDIO, owns=("cgo", "alsa", "end"), capacity=settings["frames"])
    with connection, connection.makefile("rb") as packets, profiler:
        next_progress = 0.0
        try:
            for done, (timestamp, payload) in enumerate(read_packets(packets), start=1):
                frame_id = timestamp // FRAME_SAMPLES
                frame = profiler.frame(frame_id, size=len(payload), source="input")
                frame.mark("cgo")
                sound = [
                    packet
                    for decoded in decoder.decode(av.Packet(payload))
                    for packet in stream.encode(decoded)
                ]
                frame.mark("alsa")
                output.mux(sound)
                frame.finish()

                if settings["acknowledge"]:
                    connection.sendall(b"\0")
                if time.monotonic() >= next_progress:
                    next_progress = time.monotonic() + _PROGRESS_EVERY
                    send_event(done=done)
        except (EOFError, ConnectionError):
            raise PeerGoneError from None
    profiler.trace().save(settings["trace"])
    send_event(saved=settings["trace"])
    output.close()


def open_decoder() -> "AudioCodecContext":
    """Return the libopus decoder."""
    import av

    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate = SAMPLE_RATE
    decoder.layout = "stereo"
    return decoder


def open_device(device: str) -> "tuple[OutputContainer, AudioStream]":
    """Open an ALSA device for 16 bit stereo.

    Raises
    ------
    DemoError
        ALSA cannot open it.
    """
    import av.logging

    av.logging.set_level(av.logging.ERROR)  # otherwise errors lack the message of alsa-lib
    try:
        output = av.open(device, "w", format="alsa")
        stream = output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="stereo")
        output.start_encoding()  # the device is opened here, not by av.open
    except (av.FFmpegError, ValueError) as error:
        log = getattr(error, "log", None)
        reason = log[-1].strip() if log else str(error)
        raise DemoError(
            f"cannot open the ALSA device: {clip(reason, 160)}; choose a device that `aplay -L` "
            "lists, or leave it out (null needs no sound card)"
        ) from None
    return output, stream


if __name__ == "__main__":
    run_role(main)
