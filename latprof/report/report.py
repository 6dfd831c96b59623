"""The report: a profile as a person reads it, in text, Markdown or JSON.

A report is a list of sections (a headline, lines, or a table of strings); each format only lays
them out. Names that came from a file are escaped here, once, for all of them.
"""

import json
from dataclasses import asdict
from typing import Any

from latprof.errors import ProfileError
from latprof.profile.answers import COARSE_ERROR, middle_of, stages_of, timeline_rows, worst_frames
from latprof.profile.profile import NO_GROUP, Profile
from latprof.profile.span import TABLE_PERCENTILES, slice_of
from latprof.report.layout import Section, filled_ranges, markdown, percent, range_name, short, text
from latprof.report.sentences import headline, summary
from latprof.sequence.order import OrderBySource
from latprof.text import escape
from latprof.thresholds import Thresholds
from latprof.units import format_ns, format_utc

__all__ = ["Report", "Section", "range_name"]

_MOST_ROWS = 20


class Report:
    """A profile as a person reads it.

    ``str(report)`` is plain text of at most 100 columns; `to_html`, `to_markdown` and `to_json`
    are for other readers. `origin` says where the profile comes from; `worst` is how many of the
    slowest frames are shown; `overhead` tells what the profiling of them costs; `limits` are what
    stands out: without them, a deadline does. `unstarted`: it is the report of a profiler that was
    never started.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> print(str(Report(Profile(AUDIO))).splitlines()[0])
    audio: no frame has finished
    """

    def __init__(
        self,
        profile: Profile,
        *,
        origin: str = "",
        worst: int = 0,
        overhead: str = "",
        limits: Thresholds | None = None,
        unstarted: bool = False,
    ) -> None:
        self.profile = profile
        self.origin = origin
        self.overhead = overhead
        self.worst = worst
        self.unstarted = unstarted
        self.given_limits = limits or Thresholds()

    def __repr__(self) -> str:
        return f"<Report of {self.profile!r}>"

    def __str__(self) -> str:
        return "\n\n".join(text(section) for section in self.sections())

    def _repr_html_(self) -> str:
        from latprof.report.notebook import report_html

        return report_html(self)

    # -- content --------------------------------------------------------------------------------

    @property
    def limits(self) -> Thresholds:
        """The thresholds above which times stand out: those given, else the deadline."""
        if self.given_limits == Thresholds():
            return Thresholds(critical_ns=self.profile.sums.deadline_ns)
        return self.given_limits

    def headline(self) -> str:
        """Return one sentence: where the time goes."""
        if self.unstarted:
            name = self.profile.pipeline.name
            return f"{name}: the profiler was never started: use it in `with`, or call start()"
        return headline(self.profile)

    def sections(self) -> list[Section]:
        """Return the report's parts, in order."""
        told = summary(
            self.profile, origin=self.origin, overhead=self.overhead, limits=self.given_limits
        )
        parts = [Section("", (self.headline(), *told), key="summary")]
        if self.profile.frames:
            parts += [self._spans(), self._ranges()]
        if self.profile.order is not None and self.profile.frames:
            parts.append(self._order(self.profile.order))
        if self.profile.groups:
            parts.append(self._groups())
        if self.profile.sums.timeline is not None:
            parts.append(self._windows())
        if self.worst and self.profile.sums.worst.frames:
            parts.append(self._worst())
        parts.append(self._accounts())
        return parts

    def _causes_dict(self) -> dict[str, Any] | None:
        if self.profile.parts is None:
            return None
        try:
            return self.profile.causes.to_dict()
        except ProfileError as error:
            return {"not_available": str(error)}

    def _spans(self) -> Section:
        rows, times, doubtful = [], [], False
        for row in self.profile.rows():
            values = [row["mean"], None, row["min"]]
            cells = [short(row["span"]), percent(row["share"]), format_ns(row["mean"])]
            cells += [format_ns(row["std"]), format_ns(row["min"])]
            for q in TABLE_PERCENTILES:
                value = row[f"p{q:g}".replace(".", "_")]
                weak = value is not None and q > (row["resolves"] or 0)
                doubtful |= weak
                cells.append(format_ns(value) + ("?" if weak else ""))
                values.append(value)
            rows.append((*cells, format_ns(row["max"])))
            times.append((None, None, *values, row["max"]))
        percentiles = [f"p{q:g}" for q in TABLE_PERCENTILES]
        header = ("span", "share", "mean", "std", "min", *percentiles, "max")
        lines = [self._missing()]
        measuring = self.profile.mostly_measuring
        if measuring:
            lines.append(
                f"mostly the measuring itself, as a clock read takes {self.profile.stamp_ns} ns: "
                + ", ".join(measuring)
            )
        if doubtful:
            lines.append("? the frames do not suffice to know it: " + self._doubt())
        names = tuple(map(escape, self.profile.spans))
        return Section("Spans", tuple(lines), header, tuple(rows), tuple(times), "spans", names)

    def _doubt(self) -> str:
        """Say why the first percentile of end_to_end that is not known, or of any span, is not."""
        names = sorted(self.profile.spans, key=lambda name: name != "end_to_end")
        for name in names:
            for q in TABLE_PERCENTILES:
                known = self.profile[name].percentile(q)
                if known.value is not None and known.low is None:
                    return f"{name}: {known.note}"
        return ""

    def _missing(self) -> str:
        parts = []
        for what in ("missing", "negative"):
            found = {name: getattr(self.profile[name], what) for name in self.profile.spans}
            named = ", ".join(f"{name} {n:,}" for name, n in found.items() if n)
            parts.append(f"{what}: {named or 'none'}")
        excluded = self.profile.sums.excluded
        if excluded:
            named = ", ".join(f"{reason} {n:,}" for reason, n in excluded.items())
            parts.append(f"left out of share and other: {named}")
        return "; ".join(parts)

    def _ranges(self) -> Section:
        count = max(self.profile["end_to_end"].count, 1)
        ranges = filled_ranges(self.profile.ranges)
        rows = tuple(
            (range_name(low, high), f"{n:,}", percent(n / count), f"{n / count}")
            for low, high, n in ranges
        )
        # the smallest time of a range is above its lower edge
        times = tuple((low + 1, None, None, low + 1) for low, _, _ in ranges)
        return Section(
            "End to end, by range", (), ("range", "frames", "share", ""), rows, times, "ranges"
        )

    def _order(self, orders: OrderBySource) -> Section:
        lines = []
        if len(orders.by_source) > 1 and any(o.arrivals.lost for o in orders.by_source.values()):
            lines.append(
                "ids are looked at source by source: where sources share a counter none may be lost"
            )
        for source, order in list(orders.by_source.items())[:_MOST_ROWS]:
            sentence = order.sentence(self.profile.active_ns)
            lines.append(f"{short(source or NO_GROUP)}: {sentence}")
        return Section("Order and pace", tuple(lines), key="order")

    def _groups(self) -> Section:
        by = short(self.profile.by or "group")
        header = (by, "frames", "mean", "p50", "p99", "max", "bottleneck")
        groups = sorted(self.profile.groups.items(), key=lambda item: -item[1].frames)
        rows, times = [], []
        for name, group in groups[:_MOST_ROWS]:
            total = group["end_to_end"]
            p50, p99 = total.histogram.percentiles((50, 99))
            values = total.mean, p50, p99, total.max
            cells = [short(name), f"{group.frames:,}", *map(format_ns, values)]
            rows.append((*cells, short(group.bottleneck() or "-")))
            times.append((None, None, *values, None))
        more = len(groups) - len(rows)
        lines = (f"and {more:,} more",) if more > 0 else ()
        names = tuple(escape(name) for name, _ in groups[:_MOST_ROWS])
        title = f"By {header[0]}"
        return Section(title, lines, header, tuple(rows), tuple(times), "groups", names)

    def _windows(self) -> Section:
        sums = self.profile.sums
        rows = [row for row in timeline_rows(sums) if row["span"] == "end_to_end"]
        shown = rows[:_MOST_ROWS]
        cells = tuple(
            (
                format_utc(row["window_ns"]),
                f"{row['count']:,}",
                *(format_ns(row[key]) for key in ("mean", "p50", "p99", "max")),
            )
            for row in shown
        )
        times = tuple(
            (None, None, *(row[key] for key in ("mean", "p50", "p99", "max"))) for row in shown
        )
        lines = [f"p50 and p99 by window are within {COARSE_ERROR:.1%}"]
        if len(rows) > len(shown):
            lines.append(
                f"and {len(rows) - len(shown):,} more windows, all of them with --format json"
            )
        windows = sums.timeline
        if windows is not None and windows.width_ns != windows.base_ns:
            lines.append(
                f"windows of {format_ns(windows.base_ns)} were asked for: these are wider, as "
                f"there are at most {windows.most}"
            )
        width = "" if windows is None else f" by windows of {format_ns(windows.width_ns)}"
        header = ("begin", "frames", "mean", "p50", "p99", "max")
        return Section(f"End to end{width}", tuple(lines), header, cells, times, "windows")

    def _worst(self) -> Section:
        sums = self.profile.sums
        rows, times = [], []
        for frame in worst_frames(sums, self.worst):
            spans = sorted(stages_of(sums, frame).items(), key=lambda item: -item[1])
            most = [f"{name} {format_ns(ns)}" for name, ns in spans if ns > 0][:3]
            start = frame.marks["start"]
            rows.append(
                (
                    str(frame.frame_id),
                    short(frame.source or "-"),
                    format_utc(start),
                    format_ns(frame.end_to_end_ns),
                    ", ".join(most),
                )
            )
            times.append((None, None, None, frame.end_to_end_ns, None))
        header = ("frame", "source", "start", "end to end", "longest parts")
        return Section("Worst frames", (), header, tuple(rows), tuple(times), "worst")

    def _accounts(self) -> Section:
        a = self.profile.accounts
        dropped, rejected = sum(a.dropped.values()), sum(a.rejected.values())
        lines = [
            f"started {a.started:,} = in flight {a.in_flight:,} + finished {a.finished:,} "
            f"+ dropped {dropped:,} + rejected {rejected:,}",
            f"finished + dropped = folded {a.folded:,} + not yet folded {a.not_folded:,} "
            f"+ lost {a.lost:,} + torn {a.torn:,}",
        ]
        if self.profile.by_weight:
            lines.append(
                f"numbers of frames are estimates: {self.profile.by_weight:,} rows stand for "
                "several frames each, by their weight"
            )
        if a.sampled_out:
            lines.append(f"sampled out: {a.sampled_out:,}")
        for (reason, mark), n in sorted(self.profile.sums.dropped.items())[:_MOST_ROWS]:
            lines.append(f"dropped: {escape(reason)}, last mark {mark}: {n:,}")
        for what, counts in (("rejected", a.rejected), ("counted", a.notes)):
            lines += [f"{what}: {escape(reason)}: {n:,}" for reason, n in sorted(counts.items())]
        return Section("Accounts", tuple(lines), key="accounts")

    # -- formats --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON has; times are integer or float ns."""
        profile = self.profile
        sums = profile.sums
        stage = profile.bottleneck()
        missed = profile.deadline
        content: dict[str, Any] = {
            "format": 1,
            "pipeline": profile.pipeline.to_dict(),
            "headline": self.headline(),
            "frames": profile.frames,
            "first_start_ns": sums.first_ns,
            "last_end_ns": sums.last_ns,
            "time_range_ns": profile.time_range_ns,
            "active_ns": profile.active_ns,
            "throughput": profile.throughput,
            "sampled": profile.sampled,
            "bytes_per_second": profile.bytes_per_second,
            "stamp_ns": profile.stamp_ns or None,
            "mostly_measuring": profile.mostly_measuring,
            "mean_size_bytes": sums.size_bytes / sums.sized if sums.sized else None,
            "bottleneck": stage,
            "unclaimed": profile.unclaimed,
            "spans": profile.rows(),
            "attribution": {
                "frames": sums.attributed,
                "sums_ns": sums.shares,
                "excluded": dict(sums.excluded),
            },
            "ranges": [
                {"above_ns": low, "to_ns": high, "frames": n} for low, high, n in profile.ranges
            ],
            "deadline": None if missed is None else {**asdict(missed), "misses": missed.misses},
            "worst": [asdict(frame) for frame in worst_frames(sums, self.worst)],
            "windows": timeline_rows(sums),
            "order": None if profile.order is None else profile.order.results(profile.active_ns),
            "tail": self._tail(),
            "causes": self._causes_dict(),
            "variance_shares": profile.variance_shares,
            "accounts": profile.accounts.to_dict(),
            "recorders": profile.recorders.to_dict(),
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

    def _tail(self) -> dict[str, Any]:
        """Return share and mean of each stage in the slowest 1 % and in the middle frames."""
        tails = self.profile.sums.tails
        parts = {"slow": slice_of(tails, 99, 100), "middle": middle_of(self.profile.sums)}
        return {
            what: {"frames": part.frames}
            | {name: {"share": part.share(name), "mean": part.mean(name)} for name in part.sums}
            for what, part in parts.items()
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self) -> str:
        """Return the report as one page of HTML with pictures, to be opened, sent or printed."""
        from latprof.report.page import page

        return page(self)

    def to_markdown(self) -> str:
        """Return the report as Markdown, for a ticket or a merge request."""
        return "\n\n".join(markdown(section) for section in self.sections()) + "\n"
