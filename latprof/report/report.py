"""The report: a profile as a person reads it, in text, Markdown, JSON or HTML."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from latprof.analysis import analyze
from latprof.colors import colors
from latprof.errors import ProfileError
from latprof.hosts import as_dicts
from latprof.profile.answers import timeline_rows
from latprof.profile.file import is_profile
from latprof.profile.load import load_profile
from latprof.profile.profile import Profile
from latprof.profile.tables import MOST_ROWS, headline, known_causes
from latprof.report.page import page
from latprof.report.sections import sections, summary_lines
from latprof.table import Section, Shown, html
from latprof.text import quoted, shown_path
from latprof.thresholds import Thresholds
from latprof.trace import Trace

if TYPE_CHECKING:
    from latprof.recorder.profiler import Profiler

__all__ = ["Report"]


class Report(Shown):
    """A profile as a person reads it.

    ``str(report)`` is plain text of at most 100 columns. A notebook shows the same as HTML.

    Parameters
    ----------
    source
        A `Profile`; a `Profiler`, for the frames so far; a `Trace`; or the path of trace files or
        of a saved profile. Recordings are analyzed as by `latprof report`: with the order of
        frames, and with causes if the pipeline has stations.
    origin
        Text that says where the profile comes from; by default the path, if there is one.
    worst
        How many of the slowest frames are listed, at most 100.
    overhead
        A sentence on what the profiling costs.
    thresholds
        Values above them are marked and counted. If there are none, values above the deadline are
        marked.
    unstarted
        Whether this is the report of a profiler that was never started.

    Raises
    ------
    ProfileError
        `source` is something else, for example a DataFrame, or `worst` is out of range.
    TraceError
        The path is not that of trace files.

    Examples
    --------
    >>> from latprof import AUDIO, Profile, Report
    >>> print(str(Report(Profile(AUDIO))).splitlines()[0])
    audio: no frame has finished
    """

    profile: Profile
    overhead: str
    unstarted: bool

    def __init__(
        self,
        source: "Profile | Profiler | Trace | str | os.PathLike[str]",
        *,
        origin: str = "",
        worst: int = 0,
        overhead: str = "",
        thresholds: Thresholds | None = None,
        unstarted: bool = False,
    ) -> None:
        if isinstance(source, str | os.PathLike):
            origin = origin or shown_path(source)
        running = getattr(source, "report", None)  # a Profiler, which this module must not import
        found = running() if callable(running) else None
        if isinstance(found, Report):
            overhead, unstarted = overhead or found.overhead, found.unstarted
        self.profile = found.profile if isinstance(found, Report) else _profile_of(source)
        self.origin = origin
        self.overhead = overhead
        self.worst = worst
        self.unstarted = unstarted
        self.thresholds = thresholds or Thresholds()
        self.profile.slowest(worst)  # checks the number

    def __repr__(self) -> str:
        return f"<Report of {self.profile!r}>"

    def _repr_html_(self) -> str:
        return html(self.sections(), colors(self.profile.pipeline))

    @property
    def marked(self) -> Thresholds:
        """The thresholds above which values are marked: those given, otherwise the deadline."""
        if self.thresholds == Thresholds():
            return Thresholds(critical_ns=self.profile.sums.deadline_ns)
        return self.thresholds

    def headline(self) -> str:
        """Return one sentence: where the time goes."""
        if self.unstarted:
            name = self.profile.pipeline.name
            return f"{name}: the profiler was never started; use it in `with`, or call start()"
        return headline(self.profile)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences on why numbers may be wrong, without a sentence that is in the headline."""
        first = self.headline()
        every = (doubt.sentence for doubt in self.profile.doubts)
        return tuple(sentence for sentence in every if sentence not in first)

    def sections(self, *, worst: int | None = None) -> list[Section]:
        """Return the report's sections, in order.

        Parameters
        ----------
        worst
            List this many of the slowest frames, in place of the report's own number.
        """
        above = [f"read from {self.origin}"] if self.origin else []
        above += sorted(self.profile.reading)[:MOST_ROWS]
        below = [self.overhead] if self.overhead else []
        lines = (*above, *summary_lines(self.profile, self.thresholds), *below)
        return [
            Section(self.headline(), lines, key="summary", doubts=self.doubts),
            *sections(self.profile, self.marked, self.worst if worst is None else worst),
        ]

    # -- formats --------------------------------------------------------------------------------

    def to_html(self) -> str:
        """Return the report as one page of HTML with pictures, to be opened, sent or printed."""
        return page(self)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; times are integer or float ns."""
        profile = self.profile
        sums = profile.sums
        missed = profile.deadline
        content: dict[str, Any] = {
            "format": 1,
            "pipeline": profile.pipeline.to_dict(),
            "headline": self.headline(),
            "doubts": [asdict(doubt) for doubt in profile.doubts],
            "frames": profile.frames,
            "first_start_ns": None if profile.untimed else sums.first_ns,
            "last_end_ns": None if profile.untimed else sums.last_ns,
            "reading": sorted(profile.reading),
            "time_range_ns": profile.time_range_ns,
            "active_ns": profile.active_ns,
            "throughput": profile.throughput,
            "sampled": profile.sampled,
            "bytes_per_second": profile.bytes_per_second,
            "stamp_ns": profile.stamp_ns or None,
            "mostly_measuring": profile.mostly_measuring,
            "mean_size_bytes": sums.size_bytes / sums.sized if sums.sized else None,
            "bottleneck": profile.bottleneck(),
            "unclaimed": profile.unclaimed,
            "spans": profile.rows(),
            "attribution": {
                "frames": sums.attributed,
                "sums_ns": sums.shares if profile.bins is None else {},
                "excluded": dict(sums.excluded),
            },
            "ranges": [
                {"above_ns": low, "to_ns": high, "frames": n} for low, high, n in profile.ranges
            ],
            "deadline": None if missed is None else {**asdict(missed), "misses": missed.misses},
            "worst": [
                asdict(frame) | {"response_ns": frame.response_ns}
                for frame in profile.slowest(self.worst)
            ],
            "windows": timeline_rows(sums),
            "order": None
            if profile.order is None
            else {source: asdict(found) for source, found in profile.order_results().items()},
            "tail": _tail(profile),
            "causes": _causes(profile),
            "variance_shares": profile.variance_shares,
            "accounts": profile.accounts.to_dict(),
            "recorders": profile.recorders.to_dict(),
            "clocks": as_dicts(profile.clocks),
            "dropped_times": [
                {
                    "reason": reason,
                    "count": times.count,
                    "missing": times.missing,
                    "negative": times.negative,
                    "mean": times.total / times.count if times.count else None,
                    "min": times.histogram.min,
                    "p50": times.histogram.value_at(50),
                    "p99": times.histogram.value_at(99),
                    "max": times.peak,
                }
                for reason, times in sorted(sums.dropped_times.items())
            ],
            "dropped": [
                {"reason": reason, "last_mark": mark, "frames": n}
                for (reason, mark), n in sorted(sums.dropped.items())
            ],
        }
        if self.overhead:
            content["overhead"] = self.overhead
        if profile.by is not None:
            content["by"] = profile.by
            content["groups"] = {
                name: Report(group).to_dict() for name, group in profile.groups.items()
            }
        return content


def _profile_of(source: Any) -> Profile:
    """Return the profile that a report is about."""
    if isinstance(source, Profile):
        return source
    if isinstance(source, str | os.PathLike) and is_profile(source):
        return load_profile(source)
    if isinstance(source, Trace | str | os.PathLike):
        return analyze(source, order=True, causes=None)
    remedy = "use Report(latprof.analyze(...))"
    if hasattr(source, "columns"):
        remedy = "use Report(Trace.from_pandas(frame, pipeline)) for a DataFrame"
    raise ProfileError(
        "source must be a Profile, a Profiler, a Trace or the path of a trace, got "
        f"{quoted(type(source).__name__)}; {remedy}"
    )


def _tail(profile: Profile) -> dict[str, Any]:
    """Return share and mean of each stage in the slowest 1 % and in the middle frames."""
    parts = {what: profile.slices(99)[what] for what in ("slow", "middle")}
    return {
        what: {"frames": part.frames}
        | {name: {"share": part.share(name), "mean": part.mean(name)} for name in part.sums}
        for what, part in parts.items()
    }


def _causes(profile: Profile) -> dict[str, Any] | None:
    found, unavailable = known_causes(profile)
    if unavailable:
        return {"not_available": unavailable}
    return None if found is None else found.to_dict()
