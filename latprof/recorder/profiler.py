"""The profiler: stamps frames into a ring, folds them as they come, reports on all since start."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

import numpy.typing as npt

from latprof.errors import ProfilerError
from latprof.frames import Labels
from latprof.pipeline import Pipeline
from latprof.profile.profile import Accounts, Profile
from latprof.recorder import bulk
from latprof.recorder.alerts import Alerts
from latprof.recorder.background import Background
from latprof.recorder.backpressure import Room
from latprof.recorder.forks import running as _running
from latprof.recorder.frame import Frame
from latprof.recorder.hotpath import HotPath
from latprof.recorder.live_fold import LiveFold
from latprof.recorder.outputs import Outputs, Wanted
from latprof.recorder.overhead import Overhead, measured_ns
from latprof.recorder.recording import Recording
from latprof.recorder.sampling import threshold
from latprof.recorder.settings import (
    OnCritical,
    checked_duration,
    checked_keep,
    checked_on_critical,
    checked_overflow,
    checked_path,
    checked_rate,
    checked_rotation,
    checked_thresholds,
    names_folder,
)
from latprof.report.report import Report
from latprof.ring.ring import Ring
from latprof.text import counted
from latprof.thresholds import END_TO_END, LEVELS, Duration

if TYPE_CHECKING:
    from latprof.trace import Trace

__all__ = ["Frame", "Profiler"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Profiler:
    """Records the frames of a pipeline from `start` until `stop`, or within ``with``.

    Parameters
    ----------
    pipeline
        What the marks mean.
    capacity
        How many frames the ring holds for `trace`; older ones are overwritten once they are
        folded, the totals of `report` keep them.
    sampling_rate
        0 to 1: the part of the runs of 64 frame ids that is recorded.
    warning, critical
        Thresholds of end_to_end, ``"50ms"``, or of spans between marks that this process owns,
        ``{"alsa": "20ms"}``: a frame above is counted, and logged unless there are too many.
    owns
        The marks that this process stamps, where others stamp the rest; None: all.
    clock
        Returns integer ns above 0, the same for all threads.
    report_interval
        How often the report is logged, ``"30s"``; None: never.
    overflow
        What happens when frames come faster than they are folded: ``"overwrite"`` the oldest of
        the ring, as a flight recorder does; ``"drop"`` the new ones, or ``"block"`` the program
        until there is room, for 5 seconds at most. What is lost is counted.
    path
        Where all frames are written while they are recorded: a trace file, or a folder. One that
        ends in ``/`` is a folder, made when it is not there.
    rotate
        When a new file is begun, ``"1h"`` or ``"64MB"``; the files are then named after `path`,
        with the time and a number.
    on_critical
        What is done when a critical threshold is passed: ``"freeze"`` saves the frames around it
        as a trace, in the background; a callable gets the `Violation`, in the thread that
        finishes the frame. What it raises is logged, not raised.
    freeze_to
        The folder of frozen traces, made when it is needed. The newest 8 are kept.
    keep
        ``"slow"``: all frames count in the report, `trace` and `path` keep those that are slower
        than a running p99, and of 32 others one that stands for them, by its weight. A duration
        is a fixed limit in place of the p99.
    logger
        Where all that is logged goes; None: the logger ``latprof``.
    ring
        A file that holds the ring, made anew; None: it is in memory. What was recorded is there
        when the process has died: `latprof.recover`. /dev/shm is the quick place.

    Raises
    ------
    ProfilerError
        A setting that cannot be, a ring that another profiler writes to, a full disk.
    PipelineError
        `owns` names what is no mark.

    Notes
    -----
    The clock is read once when the profiler is made and once at each start and stop; otherwise
    only to stamp. After a fork the child's profiler is stopped and stays so.

    Examples
    --------
    >>> import itertools
    >>> ticks = itertools.count(1_000, 1_000).__next__     # a clock that makes times exact
    >>> with Profiler(Pipeline.chain("mic", "decode", "play"), clock=ticks) as profiler:
    ...     frame = profiler.frame(7, size=960, source="input")
    ...     frame.mark("decode")
    ...     frame.mark("play")
    ...     frame.finish()
    >>> profiler.trace().select(source="input").frame_id
    array([7], dtype=uint64)
    >>> profiler.report().profile["end_to_end"].mean
    3000.0
    """

    _has_class = False
    """Whether this profiler has a class for itself."""

    def __new__(cls, *args: object, **settings: object) -> "Profiler":
        """Make a profiler in a class of its own, see `_be_quick`.

        One of a subclass has none: it may count its instances in its class, list its subclasses,
        or have a metaclass that asks for more.
        """
        if cls is not Profiler:
            make: Callable[..., Profiler] = super().__new__
            # a class behind this one in the order of methods may want the arguments
            return make(cls) if make is object.__new__ else make(cls, *args, **settings)
        about = {"__doc__": cls.__doc__, "__module__": cls.__module__}
        made: Profiler = super().__new__(type(cls.__name__, (cls,), about))
        made._has_class = True
        return made

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        capacity: int = 65_536,
        sampling_rate: float = 1.0,
        warning: Duration | Mapping[str, Duration] | None = None,
        critical: Duration | Mapping[str, Duration] | None = None,
        owns: tuple[str, ...] | list[str] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        report_interval: Duration | None = None,
        overflow: str = "overwrite",
        path: str | os.PathLike[str] | None = None,
        rotate: Duration | None = None,
        on_critical: OnCritical | None = None,
        freeze_to: str | os.PathLike[str] = "latprof-freezes",
        keep: Duration | None = None,
        logger: logging.Logger | None = None,
        ring: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise ProfilerError(f"pipeline {pipeline!r} is no Pipeline: give one, AUDIO say")
        self.pipeline = pipeline
        self.owns = pipeline.check_owned(owns)
        self.sampling_rate = checked_rate(sampling_rate)
        thresholds = checked_thresholds(warning, critical, pipeline, self.owns)
        by_level = {level: thresholds.by_span(level) for level in LEVELS}
        # as they were given: ns, or ns by span
        self.warning, self.critical = (
            ns if isinstance(given, Mapping) else ns.get(END_TO_END)
            for ns, given in zip(by_level.values(), (warning, critical), strict=True)
        )
        where = checked_path(path)
        wanted = Wanted(
            where,
            names_folder(path),
            checked_rotation(rotate, where),
            checked_keep(keep),
            checked_on_critical(on_critical, by_level["critical"]),
            Path(freeze_to),
        )
        self.report_interval = checked_duration(report_interval, "report_interval")
        if self.report_interval == 0:
            raise ProfilerError("report_interval is 0: leave it out or give one above 0")
        about = {"owns": list(self.owns), "sampling_rate": self.sampling_rate or None}
        self._recording = Recording(clock, about)
        self.clock_offset_ns = self._recording.offset_ns

        self.overflow = checked_overflow(overflow)
        facts = None
        if ring is not None:
            facts = self._recording.facts() | {"thresholds": by_level}  # `latprof top` shows them
        self._ring = Ring(pipeline, capacity, ring, facts)  # makes a file: when all is checked
        self._recording.note = self._ring.note
        self._alerts = Alerts(
            logging.getLogger("latprof") if logger is None else logger, thresholds
        )
        self._below = threshold(self.sampling_rate)
        room = None
        if self.overflow != "overwrite":
            room = Room(self.capacity, waits=self.overflow == "block")
        self._hot = HotPath(self._ring, clock, self.owns, self._alerts, self._below, room)
        self._fold = LiveFold(self._ring, self._hot, self.clock_offset_ns, self.sampling_rate)
        self._outputs = Outputs(
            wanted, self._ring, self._fold, self._alerts, self._recording, lambda: self.accounts
        )
        self._cost_ns: float | None = None
        self._lock = threading.RLock()
        self._background: Background | None = None
        self._be_quick()

    __new__.__wrapped__ = __init__  # type: ignore[attr-defined]  # help() shows these arguments

    def _be_quick(self) -> None:
        """Put the functions of the hot path in the place of the methods that document them.

        A method that calls them would cost every frame another call. They are in the class that
        this profiler has for itself: CPython finds them there more quickly than in the instance.
        """
        for name in ("frame", "record"):
            quick = getattr(self._hot, name)
            quick.__doc__ = getattr(Profiler, name).__doc__
            found_in = next(kind for kind in type(self).__mro__ if name in vars(kind))
            if self._has_class:
                setattr(type(self), name, quick)
            # a subclass may have its own; that of another profiler has not: type(other)(AUDIO)
            elif found_in.__module__ == __name__:
                setattr(self, name, MethodType(quick, self))

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return (
            f"<Profiler of {self.pipeline.name}: {state}, {counted(self._ring.claimed, 'frame')}>"
        )

    def __reduce__(self) -> NoReturn:
        raise ProfilerError(
            "a Profiler is neither copied nor pickled: another process makes its own, and a trace "
            "or a profile can be given away"
        )

    # -- running --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether frames are recorded now."""
        return self._recording.since is not None

    enabled = running

    @property
    def capacity(self) -> int:
        """How many frames a full ring holds."""
        return self._ring.capacity

    def start(self) -> None:
        """Begin to record, or go on after a stop: totals and ring are kept.

        Raises
        ------
        ProfilerError
            It is running, this process is a fork of the one that made it, or it has no more
            threads.
        """
        with self._lock:
            pid = self._recording.pid
            if pid != os.getpid():
                raise ProfilerError(
                    f"this profiler belongs to process {pid}, this is {os.getpid()}: make a new "
                    "Profiler after a fork"
                )
            if self.running:
                raise ProfilerError("the profiler is running: stop it before it is started again")
            self._ring.acquire()
            _running.add(self)  # first: if another thread forks now, the child stops it
            self._recording.begin()
            self._outputs.begin()
            self._hot.switch(True)
            self._background = Background(
                self._fold,
                self.capacity,
                self._hot,
                self._alerts,
                self.report_interval,
                self._log_report,
                self._outputs.tick,
            )
            if self._hot.room is not None:
                self._hot.room.background = self._background
                self._hot.room.wake = self._background.wake
            try:
                self._background.start()
            except RuntimeError as error:
                self._background = None
                self.stop()
                raise ProfilerError(
                    f"no thread for the background: {error}: end some, then start again"
                ) from None

    def stop(self) -> None:
        """Stop recording; frames that finish later are rejected. A stopped one stays stopped."""
        with self._lock:
            if not self.running:
                return
            self._hot.switch(False)
            self._recording.end()
            background, self._background = self._background, None
        if self._fold.is_ours:
            # a signal handler, in the middle of a report: it cannot wait for what waits for it.
            # No daemon, so that a program which ends now ends when the files are closed
            threading.Thread(target=self._wind_up, args=(background,), name="latprof-stop").start()
        else:
            self._wind_up(background)

    def _wind_up(self, background: Background | None) -> None:
        if background is not None:
            background.end()
        self._fold.catch_up(final=True)
        self._outputs.tick(final=True)
        self._alerts.flush(final=True)
        with self._lock:
            if not self.running:
                self._ring.release()
                _running.discard(self)  # last: a child of a fork must let go of an open file

    def __enter__(self) -> "Profiler":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- recording ------------------------------------------------------------------------------

    def frame(
        self,
        frame_id: int,
        size: int | None = None,
        source: str | None = None,
        *,
        start: int | None = None,
    ) -> Frame:
        """Begin a frame: stamp ``start`` where this process owns it, and return the frame.

        Parameters
        ----------
        frame_id
            0 to 2**64 - 1.
        size
            Bytes, below 2**32 - 1; that number itself, like None, says that it is not known.
        source
            Where the frame comes from.
        start
            A stamp taken elsewhere, ns on the profiler's clock; 0 leaves ``start`` missing.

        Returns
        -------
        Frame
            When the profiler is stopped, or the frame is not sampled: a shared one that does
            nothing, and is false.

        Notes
        -----
        An id, size or stamp that cannot be stored never raises: its frame is rejected when it
        finishes, and counted by reason in the accounts.
        """
        return self._hot.frame(self, frame_id, size, source, start)

    def record(
        self,
        frame_id: int,
        stamps: Sequence[int],
        size: int | None = None,
        source: str | None = None,
    ) -> None:
        """Record a frame whose stamps are known, in one call.

        Parameters
        ----------
        frame_id, size, source
            As in `frame`.
        stamps
            All marks of the pipeline in order, ns on the profiler's clock; 0 is missing, as are
            those that other processes own.

        Raises
        ------
        PipelineError
            Too few or too many stamps, or one of a mark that another process owns.
        """
        self._hot.record(self, frame_id, stamps, size, source)

    def record_many(
        self,
        frame_ids: npt.ArrayLike,
        stamps: npt.ArrayLike,
        size: npt.ArrayLike | None = None,
        source: str | Sequence[str | None] | Labels | None = None,
    ) -> None:
        """Record n frames whose stamps are known.

        More frames than the ring holds are folded as they are recorded, so that none is lost to
        the totals.

        Parameters
        ----------
        frame_ids
            (n,) integers.
        stamps
            (n, marks) integers, columns in the pipeline's order, ns on the profiler's clock; 0 is
            missing.
        size
            (n,) bytes, one number for all, or None.
        source
            One name for all, n names, or `Labels`.

        Raises
        ------
        PipelineError
            Another number of columns than marks, or stamps of a mark that another process owns.
        ProfilerError
            Arrays that are not integer, or whose lengths differ.
        """
        block = bulk.block(self.pipeline, self._ring, self.owns, frame_ids, stamps, size, source)
        if self.running:
            bulk.write(block, self._ring, self._hot, self._fold, self._alerts, self._below)

    def stage(self, name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator: a call of the function is this stage of the current frame.

        Where the stage begins is stamped when the function is called, the first time for a frame;
        where it ends, when it returns, if no other span begins there and it is not ``end``. The
        function may be ``async def``. Without a current frame (`latprof.current_frame`) of this
        profiler the function is called, and that is all.

        Raises
        ------
        PipelineError
            The pipeline has no such stage or side, or its marks are another process's.
        ProfilerError
            The function is a generator.

        Examples
        --------
        >>> profiler = Profiler(Pipeline.chain("mic", "decode"))
        >>> @profiler.stage("decode")
        ... def decode(packet):
        ...     return packet[::2]
        >>> with profiler, profiler.frame(7):
        ...     samples = decode(b"packet")
        >>> int((profiler.trace().marks["decode"] > profiler.trace().marks["start"]).sum())
        1
        """
        from latprof.recorder.current import stage_of

        return stage_of(self._hot, self.pipeline, name)

    # -- reading --------------------------------------------------------------------------------

    @property
    def accounts(self) -> Accounts:
        """Where every frame since the first start is now, and the notes."""
        accounts = self._fold.accounts()
        accounts.notes = self._alerts.notes.read()
        overflowed = self._ring.sources.overflowed + self._ring.outcomes.overflowed
        if overflowed:
            accounts.notes["names beyond the table"] = overflowed
        return accounts

    def trace(self) -> "Trace":
        """Return a copy of the frames that the ring holds now, in the order they finished.

        With `keep` it has the frames that are kept, the newest `capacity` of them, with weights.
        """
        return self._outputs.trace()

    def report(self) -> Report:
        """Return the report on all frames since the first start, the overwritten ones included."""
        self._fold.catch_up()
        profile = self._fold.copy()
        profile.segments = set(self._recording.segments())
        profile.accounts = self.accounts
        overhead = str(self._overhead_of(profile))
        return Report(profile, overhead=overhead, unstarted=not self._recording.begun)

    def overhead(self) -> Overhead:
        """Measure what profiling a frame costs here, in a millisecond or two.

        Returns
        -------
        Overhead
            ns a frame with all the marks that this process owns, and their share of the mean
            end_to_end of the frames so far. What the background does is not in it.
        """
        self._cost_ns = None
        self._fold.catch_up()
        return self._overhead_of(self._fold.copy())

    def _overhead_of(self, profile: Profile) -> Overhead:
        if self._cost_ns is None:  # once: reports come often
            self._cost_ns = measured_ns(self.pipeline, self.owns, self._alerts)
        mean = profile["end_to_end"].mean
        return Overhead(self._cost_ns, self._cost_ns / mean if mean else None)

    # -- background -----------------------------------------------------------------------------

    def _log_report(self) -> None:
        report = self.report()
        if report.profile.frames:
            self._alerts.info(str(report))

    @property
    def _fold_lock(self) -> "threading.RLock":
        """Held while frames are folded, and during a fork."""
        return self._fold.lock

    def _forked(self) -> None:
        """Stop, in the child of a fork: the thread is gone, locks may be held by nobody."""
        self._hot.switch(False)
        self._recording.since = None
        self._background = None
        self._outputs.forsake()
        self._lock = threading.RLock()
        self._fold.reset_lock()
        self._alerts.reset_lock()
        for names in (self._ring.sources, self._ring.outcomes):
            names.reset_lock()
        self._alerts.misuse(
            "stopped by a fork", "the child does not record: make a new Profiler in it"
        )
