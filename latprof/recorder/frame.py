"""A frame on its way through the pipeline, as the profiled program sees it."""

from typing import Any

__all__ = ["ENTERED", "NO_FRAME", "Frame"]

ENTERED = -1
"""Stands in a row, where its offset will, from when its block is entered: see `following`."""


class Frame:
    """One frame on its way: what `Profiler.frame` returns.

    Used as a context manager it finishes at the end of the block, and is dropped with the name of
    the exception when the block raises. Threads may hand it on. It is false if it is not recorded.
    """

    __slots__ = ("_row",)
    _row: list[Any]

    def mark(self, name: str, at: int | None = None) -> None:
        """Stamp a mark with now, or with a stamp taken elsewhere.

        Parameters
        ----------
        name
            A mark that this process owns.
        at
            ns on the profiler's clock; 0 is missing, and leaves the mark as it is.

        Raises
        ------
        PipelineError
            The pipeline has no such mark, or another process owns it.

        Notes
        -----
        A mark set twice keeps its first stamp, a mark after finish does nothing: both are counted
        in the accounts' notes, and logged the first time.
        """
        raise NotImplementedError

    def finish(self, at: int | None = None) -> None:
        """Stamp ``end``, where this process owns it and it is not marked yet, and commit the frame.

        After `Profiler.stop` the frame is not recorded but counted as rejected; finishing twice is
        counted in the notes.
        """
        raise NotImplementedError

    def drop(self, reason: str, at: int | None = None) -> None:
        """Finish a frame that was given up: committed with its reason, outside the statistics."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> "Frame":
        self._row[1] = ENTERED
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.drop(kind.__name__)


class _NoFrame(Frame):
    """Stands for every frame that is not recorded; takes all calls and does nothing."""

    __slots__ = ()

    def mark(self, name: str, at: int | None = None) -> None:
        pass

    def finish(self, at: int | None = None) -> None:
        pass

    def drop(self, reason: str, at: int | None = None) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def __enter__(self) -> "Frame":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


NO_FRAME = _NoFrame()
"""The shared frame of a stopped profiler, and of frames that are not sampled."""
