"""The functions of a stamping core that a program calls for each frame."""

from collections.abc import Sequence
from typing import Protocol

from latprof.recorder.implementation import Core, Frame

__all__ = ["BeginFrame", "FrameCalls", "RecordFrame"]


class BeginFrame(Protocol):
    """The type of `Profiler.frame`."""

    def __call__(
        self,
        frame_id: int,
        size: int | None = None,
        source: str | None = None,
        *,
        start: int | None = None,
        tags: dict[str, object] | None = None,
    ) -> Frame:
        """Begin a frame."""


class RecordFrame(Protocol):
    """The type of `Profiler.record`."""

    def __call__(
        self,
        frame_id: int,
        stamps: Sequence[int],
        size: int | None = None,
        source: str | None = None,
        *,
        tags: dict[str, object] | None = None,
    ) -> None:
        """Record a frame from its stamps."""


class FrameCalls:
    """The functions of a stamping core that a program calls for each frame, as attributes.

    They are not methods, which would pass the arguments on to the core: such a method takes longer
    than the core in C does.
    """

    __slots__ = {
        "frame": """Begin a frame: stamp ``start`` if this process owns it, and return the frame.

        ``frame(frame_id, size=None, source=None, *, start=None, tags=None)``

        Parameters
        ----------
        frame_id
            An integer from 0 to 2**64 - 1.
        size
            The size in bytes, below 2**32 - 1, or None if it is not known.
        source
            The name of the source, "input" for example.
        start
            The stamp of ``start`` in ns on the profiler's clock, if it was taken elsewhere; 0
            leaves ``start`` missing.
        tags
            Values of the profiler's tags by name, a dict; see `Frame.tag`.

        Returns
        -------
        Frame
            If the profiler is stopped or the frame is not sampled, a shared frame that does nothing
            and has the truth value False.

        Raises
        ------
        PipelineError
            `start` is given and another process owns ``start``.
        ProfilerError
            `tags` has a name that is not a tag of the profiler.

        Notes
        -----
        An id, size or stamp that cannot be stored does not raise. The frame is rejected when it
        finishes and counted by reason in the accounts.
        """,
        "record": """Record a frame from its stamps, in one call.

        ``record(frame_id, stamps, size=None, source=None, *, tags=None)``

        Parameters
        ----------
        frame_id, size, source, tags
            As in `frame`.
        stamps
            The stamps of all marks of the pipeline in order, ns on the profiler's clock. 0 means
            missing, also for marks that other processes own.

        Raises
        ------
        PipelineError
            `stamps` does not have one value for each mark, or has a stamp of a mark that another
            process owns.
        ProfilerError
            `tags` has a name that is not a tag of the profiler.
        """,
    }

    frame: BeginFrame
    record: RecordFrame

    def _call(self, core: Core) -> None:
        for name in ("frame", "record"):
            # the slot itself is set: a subclass may have a method of the same name
            vars(FrameCalls)[name].__set__(self, getattr(core, name))
