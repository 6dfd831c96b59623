"""A real audio pipeline, recorded by the processes that it consists of.

This is the example of how to instrument a pipeline across processes: `relay` and `server` each
record the marks they own with a `Profiler` of their own, and the recordings are joined by frame id.

===========  ==========================================================================
`processes`  `run`, which starts the processes, listens to them and ends them
`relay`      process 1: WebRTC -> check -> header -> Unix socket; five marks
`server`     process 2: Unix socket -> libopus -> ALSA; three marks
`card`       a sound card that is too slow, as a third process
`packets`    the Opus packets, their check, and the messages between the processes
===========  ==========================================================================

What is not real: unless a device is given, no sound card is used (the null device of ALSA accepts
all sound at once); the slow card is a simulated clock behind a real, blocking write; the network is
loopback, without loss or jitter; and ``end`` is when ALSA has accepted the sound, not when it is
heard.
"""

__all__: list[str] = []
