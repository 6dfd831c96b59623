"""The profiler: stamps frames into a ring, folds them in the background, reports on all of them."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import numpy.typing as npt

from latprof.accounts import Accounts
from latprof.errors import ProfilerError
from latprof.frames import Labels
from latprof.pipeline import Pipeline
from latprof.profile.profile import Profile
from latprof.recorder.alerts import Violation
from latprof.recorder.background import Background
from latprof.recorder.bulk import BulkWriter
from latprof.recorder.calls import BeginFrame, FrameCalls, RecordFrame
from latprof.recorder.current import stage_of
from latprof.recorder.forks import RUNNING, stop_at_end_of_worker
from latprof.recorder.implementation import Frame
from latprof.recorder.live_fold import LiveFold
from latprof.recorder.outputs import Outputs
from latprof.recorder.overhead import Overhead, measure_cost_ns
from latprof.recorder.settings import OnCritical, PathLike, check_settings
from latprof.recorder.shared import Shared
from latprof.ring.file import KEEP_PREVIOUS
from latprof.text import counted
from latprof.thresholds import END_TO_END, Duration
from latprof.trace import Trace

if TYPE_CHECKING:
    from latprof.report.report import Report

__all__ = ["BeginFrame", "Frame", "Profiler", "RecordFrame", "Violation"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Profiler(FrameCalls):
    """Records the frames of a pipeline from `start` until `stop`, or within ``with``.

    A profiler that still runs when the program exits is stopped then, which completes its trace
    files. A program that is killed leaves the frames of its `ring` file.

    Parameters
    ----------
    pipeline
        The marks and spans of the frames.
    capacity
        Number of frames that the ring holds for `trace`. Older frames are overwritten after they
        were folded; the totals of `report` include them.
    sampling_rate
        The share of frames that is recorded, a number between 0 and 1. Of each source, whole runs
        of 64 consecutive ids are recorded or skipped.
    warning, critical
        A threshold of end_to_end such as ``"50ms"``, or thresholds of spans between marks that
        this process owns, such as ``{"alsa": "20ms"}``. Frames above a threshold are counted, and
        logged at a bounded rate.
    owns
        The marks that this process stamps, if other processes stamp the rest; None means all.
    clock
        A function that returns integer ns above 0, the same clock for all threads.
    report_interval
        How often the report is logged, ``"30s"``; None means never.
    overflow
        What happens if frames come faster than they are folded: ``"overwrite"`` replaces the
        oldest frames of the ring, as in a flight recorder; ``"drop"`` discards the new ones;
        ``"block"`` makes the program wait for a free slot, for at most 5 seconds. Lost frames are
        counted.
    path
        A trace file, or a folder for trace files, to which all frames are written while they are
        recorded. The path of a folder ends in ``/``; the folder is made if it does not exist. In
        this path and in that of `ring`, ``{pid}`` is replaced by the process id. A file of an
        earlier run is renamed to the same name with ``.previous`` at the end.
    rotate
        When a new file begins, ``"1h"`` or ``"64MB"``. The files are then named after `path`, the
        time and a number.
    upload_to
        The URL of a folder, ``"s3://bucket/traces/"``, to which files are moved once they are
        complete, in a thread. A file that cannot be sent stays in the folder of `path`, is counted
        in the notes of the accounts and logged; so is a file that is complete while 64 others wait.
        `stop` waits up to 10 seconds for the last files.
    on_critical
        What happens if a critical threshold is exceeded: ``"freeze"`` saves the frames around it
        as a trace in the folder `freeze_to`, in the background; a function is called with the
        `Violation`, in the thread that finishes the frame. Its exceptions are logged, not raised.
    freeze_to
        The folder of traces saved by ``"freeze"``, made if needed; by default ``latprof-freezes``
        in the working directory. The newest 8 are kept.
    keep
        Which frames `trace` and `path` keep; the report counts all frames. ``"slow"`` keeps those
        slower than a running p99, and one in 32 of the others, with weight 32. A duration replaces
        the p99 by a fixed limit. None keeps all.
    max_sources
        How many sources the report counts one by one, the first ones that occur; at most 1,000.
        The frames of all others are counted as the source "(others)". A source takes some 100 kB.
    logger
        The logger of all messages; None means the logger ``latprof``.
    ring
        A file that holds the ring, in a folder that exists. `latprof.recover` reads the frames of a
        process that died. /dev/shm is a fast place. If the ring of the run before has frames, it
        is renamed to the same name with ``.previous`` at the end, and older ones to
        ``.previous.2`` and so on. The file stays after `stop`; remove it when it is no longer
        needed. None keeps the ring in memory.
    keep_previous
        Number of older ring files that are kept.
    meta
        Facts about the run, such as ``{"run": 17, "commit": "abc"}``: up to 32 texts and numbers.
        They are in the metadata of its traces and in `Profile.labels`.
    tags
        Names of values that each frame may have, such as ``("endpoint", "status")``: see
        `Frame.tag`. They are columns of the trace. A tag has at most 65,534 different values.
    track_current
        Whether ``with`` blocks set the current frame, see `latprof.current_frame`. Setting it takes
        a fifth of a microsecond for each block.

    Attributes
    ----------
    pipeline, owns, capacity, sampling_rate, overflow
        As given; `owns` has the names in the pipeline's order, all marks if None was given.
    warning, critical, report_interval
        As given, in ns: a number, a dict by span, or None.
    clock_offset_ns
        Wall clock minus the profiler's clock, in ns.

    Raises
    ------
    ProfilerError
        A setting is invalid, another profiler writes to the ring's file, or the disk is full.
    PipelineError
        `owns` contains a name that is not a mark of the pipeline.

    Notes
    -----
    The clock is read once in the constructor, once at each start and stop, and for each stamp.
    After a fork, the profiler of the child is stopped and cannot be started.

    Examples
    --------
    >>> import itertools
    >>> from latprof import Pipeline, Profiler
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
        path: PathLike | None = None,
        rotate: Duration | None = None,
        upload_to: PathLike | None = None,
        on_critical: OnCritical | None = None,
        freeze_to: PathLike = "latprof-freezes",
        keep: Duration | None = None,
        max_sources: int = 1_000,
        logger: logging.Logger | None = None,
        ring: PathLike | None = None,
        keep_previous: int = KEEP_PREVIOUS,
        tags: Sequence[str] = (),
        track_current: bool = True,
        meta: Mapping[str, str | int | float] | None = None,
    ) -> None:
        self._settings = settings = check_settings(
            pipeline,
            capacity=capacity,
            sampling_rate=sampling_rate,
            warning=warning,
            critical=critical,
            owns=owns,
            clock=clock,
            report_interval=report_interval,
            overflow=overflow,
            path=path,
            rotate=rotate,
            upload_to=upload_to,
            on_critical=on_critical,
            freeze_to=freeze_to,
            keep=keep,
            max_sources=max_sources,
            logger=logger,
            ring=ring,
            keep_previous=keep_previous,
            tags=tags,
            track_current=track_current,
            meta=meta,
        )
        self.pipeline = pipeline
        self.owns = settings.owned
        self.sampling_rate, self.overflow = settings.sampling_rate, settings.overflow
        self.report_interval = settings.report_interval
        # as they were given: ns, or ns by span
        self.warning, self.critical = (
            by_span if isinstance(given, Mapping) else by_span.get(END_TO_END)
            for given, by_span in ((warning, settings.warning), (critical, settings.critical))
        )
        self._shared = shared = Shared.of(settings)
        self._recording, self._ring, self._alerts = shared.recording, shared.ring, shared.alerts
        self._core, self._incidents = shared.core, shared.incidents
        self._call(shared.core)
        self.clock_offset_ns, self.capacity = shared.recording.offset_ns, shared.ring.capacity
        self._fold = LiveFold(shared)
        self._bulk = BulkWriter(shared, self._fold)
        self._outputs = Outputs(shared, self._fold)
        # not on first use: that may be in the background or in a signal handler, which must not
        # import. Not at the top: a program that does not record needs no reports
        import latprof.report.report  # noqa: F401

        self._cost_ns: float | None = None
        self._lock = threading.RLock()
        self._background: Background | None = None

    def __del__(self) -> None:
        if "_background" in vars(self):  # otherwise the constructor has raised
            self.stop()
            # parts of a profiler that refer to each other would keep the ring in memory
            self._fold.sinks.clear()
            self._alerts.on_critical = None
            self._incidents.wake = lambda: None

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return (
            f"<Profiler of {self.pipeline.name}: {state}, {counted(self._ring.claimed, 'frame')}>"
        )

    def __reduce__(self) -> NoReturn:
        raise ProfilerError(
            "a Profiler cannot be copied or pickled; make a new one in each process, and pass "
            "traces or profiles between them"
        )

    # -- running --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether frames are recorded now."""
        return self._recording.since is not None

    enabled = running

    def start(self) -> None:
        """Begin to record, or go on after a stop; totals and ring are kept.

        Raises
        ------
        ProfilerError
            The profiler runs already, it was made before this process forked, or no thread can be
            started.
        """
        with self._lock:
            pid = self._recording.pid
            if pid != os.getpid():
                raise ProfilerError(
                    f"a profiler must be started in the process that made it ({pid}), got "
                    f"{os.getpid()}; make a new Profiler after a fork"
                )
            if self.running:
                raise ProfilerError("the profiler runs already; stop it before you start it again")
            self.stop()  # if an earlier stop was interrupted
            stop_at_end_of_worker()
            self._ring.acquire()
            RUNNING.add(self)  # first: if another thread forks now, the child stops this profiler
            self._recording.begin()
            self._outputs.begin()
            self._core.start()
            # the thread must not keep the profiler alive
            report = weakref.WeakMethod(self._log_report)
            self._background = Background(
                self._shared, self._fold, lambda: (log := report()) and log(), self._outputs.tick
            )
            self._incidents.wake = self._background.wake
            try:
                self._background.start()
                self._incidents.background = self._background.ident
            except RuntimeError as error:
                self._core.stop()
                self._recording.end()
                self._background.wind_up()
                self._release()
                raise ProfilerError(
                    f"cannot start the background thread: {error}; stop other threads or raise the "
                    "limit"
                ) from None

    def stop(self) -> None:
        """Stop recording; frames that finish later are rejected.

        Calling it again does nothing. If it is interrupted, by Ctrl-C for example, the files are
        completed nevertheless: in the background, at the latest when the program ends.
        """
        with self._lock:
            if self.running:
                self._core.stop()
                self._recording.end()
            background = self._background
        if background is not None:
            background.end()
            with self._lock:
                if self._background is background and not self.running:
                    self._release()

    def _release(self) -> None:
        """Release the thread and the ring's lock, which only a running profiler needs."""
        self._background = None
        self._ring.release()
        self._fold.plausibility.settle(self._fold.accounts())
        RUNNING.discard(self)  # last: the child of a fork must leave an open file

    def __enter__(self) -> "Profiler":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # -- recording ------------------------------------------------------------------------------
    # `frame` and `record` are the functions of the core, see `FrameCalls`

    def record_many(
        self,
        frame_ids: "npt.ArrayLike",  # a string, as help() would show all types behind it
        stamps: "npt.ArrayLike",
        size: "npt.ArrayLike | None" = None,
        source: str | Sequence[str | None] | Labels | None = None,
        *,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Record n frames from their stamps.

        If there are more frames than the ring holds, they are folded in between, so that the totals
        include all of them.

        Parameters
        ----------
        frame_ids
            (n,) integers.
        stamps
            (n, marks) integers, ns on the profiler's clock, with columns in the pipeline's order; 0
            means missing.
        size
            (n,) sizes in bytes, one size for all frames, or None.
        source
            One name for all frames, n names, `Labels`, or None.
        tags
            Values of the profiler's tags by name: as `source`, or integers.

        Raises
        ------
        PipelineError
            `stamps` does not have one column for each mark, or has stamps of a mark that another
            process owns.
        ProfilerError
            An array is not of integers, the lengths differ, or `tags` has a name that is not a tag
            of the profiler.
        """
        batch = self._bulk.batch_of(frame_ids, stamps, size, source, tags)
        if self.running:
            self._bulk.write(batch)
        elif not self._recording.begun:
            self._incidents.unstarted()

    def stage(self, name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator that stamps calls of a function as this stage of the current frame.

        The mark at which the stage begins is stamped at the first call of the function for a
        frame. The mark at which it ends is stamped when the function returns, unless another span
        begins there or it is ``end``; with ``Pipeline.chain(..., ends=True)`` each stage has an
        end mark. The function may be ``async def``. A call without a current frame of this profiler
        (`latprof.current_frame`) is counted and not stamped. In a thread of an executor there is a
        current frame if the function is called by ``contextvars.copy_context().run``.

        Parameters
        ----------
        name
            A stage or side of the pipeline.

        Raises
        ------
        PipelineError
            The pipeline has no such stage or side, or other processes own its marks.
        ProfilerError
            The decorated object is not a function, or is a generator function.

        Examples
        --------
        >>> from latprof import Pipeline, Profiler
        >>> profiler = Profiler(Pipeline.chain("mic", "decode"))
        >>> @profiler.stage("decode")
        ... def decode(packet):
        ...     return packet[::2]
        >>> with profiler, profiler.frame(7):
        ...     samples = decode(b"packet")
        >>> int((profiler.trace().marks["decode"] > profiler.trace().marks["start"]).sum())
        1
        """
        return stage_of(self._shared, name)

    # -- reading --------------------------------------------------------------------------------

    @property
    def accounts(self) -> Accounts:
        """The accounts of all frames since the first start: their present states, and the notes."""
        return self._fold.accounts()

    def trace(self) -> Trace:
        """Return a copy of the frames in the ring, in the order in which they finished.

        With the setting `keep`, return the newest `capacity` of the frames that are kept, with
        weights.
        """
        return self._outputs.trace()

    def report(self, *, by: str = "source") -> "Report":
        """Return the report on all frames since the first start, including overwritten ones.

        Parameters
        ----------
        by
            What the frames are grouped by: ``"source"`` or one of the profiler's tags.

        Raises
        ------
        ProfilerError
            The profiler has no such tag.
        """
        from latprof.report.report import Report

        profile = self._fold.copy(by)
        overhead = str(self._overhead_of(profile))
        return Report(profile, overhead=overhead, unstarted=not self._recording.begun)

    def overhead(self) -> Overhead:
        """Measure what profiling a frame costs in this process; it takes a few milliseconds.

        Returns
        -------
        Overhead
            The time in ns for a frame with all the marks that this process owns, and its share of
            the mean end_to_end so far. The work of the background thread is not included.
        """
        self._cost_ns = None
        return self._overhead_of(self._fold.copy())

    def _overhead_of(self, profile: Profile) -> Overhead:
        cost_ns = self._cost_ns
        if cost_ns is None:  # measured once, as reports may be frequent
            cost_ns = self._cost_ns = measure_cost_ns(self.pipeline, self.owns, self._alerts)
        mean = profile["end_to_end"].mean
        return Overhead(cost_ns, cost_ns / mean if mean else None)

    # -- background -----------------------------------------------------------------------------

    def _log_report(self) -> None:
        report = self.report()
        if report.profile.frames:
            self._alerts.info(str(report))

    @property
    def fold_lock(self) -> "threading.RLock":
        """Held while a profile is half folded."""
        return self._fold.lock

    def stop_in_child(self) -> None:
        """Stop in the child of a fork, where the thread is gone and locks may never be released."""
        self._core.stop()
        self._incidents.forked()
        self._recording.since = None
        self._background = None
        self._outputs.abandon()
        self._lock = threading.RLock()
        self._fold.reset_lock()
        self._alerts.reset_lock()
        for names in (self._ring.sources, self._ring.outcomes, *self._ring.tags):
            names.reset_lock()
        self._alerts.problem(
            "stopped by a fork", "the child does not record; make a new Profiler in it"
        )
