"""The report: a profile as a person reads it, in text, Markdown or JSON.

A report is a list of sections (a headline, lines, or a table of strings); each format only lays
them out. Names that came from a file are escaped here, once, for all of them.
"""

import json
from dataclasses import asdict
from typing import Any

from latprof.errors import ProfileError
from latprof.layout import Section, filled_ranges, markdown, percent, range_name, short, text
from latprof.ordering.orders import Orders
from latprof.profile import NO_GROUP, Profile
from latprof.profiles.answers import COARSE_ERROR, middle_of, stages_of, timeline_rows, worst_frames
from latprof.profiles.spanprofile import TABLE_PERCENTILES, slice_of
from latprof.units import escape, format_bytes, format_ns, format_quantity, format_utc

__all__ = ["Report", "Section", "range_name"]

_MOST_ROWS = 20


class Report:
    """A profile as a person reads it.

    ``str(report)`` is plain text of at most 100 columns; `to_markdown` and `to_json` are for
    other readers. `origin` says where the profile comes from; `worst` is how many of the slowest
    frames are shown; `overhead` tells what the profiling of them costs.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> print(str(Report(Profile(AUDIO))).splitlines()[0])
    audio: no frame has finished
    """

    def __init__(
        self, profile: Profile, *, origin: str = "", worst: int = 0, overhead: str = ""
    ) -> None:
        self.profile = profile
        self.origin = origin
        self.overhead = overhead
        self.worst = worst

    def __repr__(self) -> str:
        return f"<Report of {self.profile!r}>"

    def __str__(self) -> str:
        return "\n\n".join(text(section) for section in self.sections())

    def _repr_html_(self) -> str:
        from latprof.display import report_html

        return report_html(self)

    # -- content --------------------------------------------------------------------------------

    def headline(self) -> str:
        """Return one sentence: where the time goes."""
        profile = self.profile
        name = profile.pipeline.name
        outside = profile.accounts.notes.get("outside the time range")
        if profile.frames == 0 and outside:
            return f"{name}: no frame is in the time range, {outside:,} are outside of it"
        if profile.frames == 0:
            return f"{name}: no frame has finished"
        total = profile["end_to_end"]
        if total.mean is None:
            return f"{name}: no frame has both start and end"
        if profile.unclaimed is not None:
            return f"{name}: {profile.unclaimed}"
        stage = profile.bottleneck()
        if stage is None or profile[stage].mean is None:
            return f"{name}: {format_ns(total.mean)} mean end to end; no frame has a whole stage"
        slowest = profile[stage]
        part = "" if slowest.share is None else f", {slowest.share:.0%} of end to end"
        return f"{name}: the bottleneck is {stage}, {format_ns(slowest.mean)} mean{part}"

    def sections(self) -> list[Section]:
        """Return the report's parts, in order."""
        parts = [Section("", (self.headline(), *self._summary()))]
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

    def _summary(self) -> list[str]:
        profile = self.profile
        lines = [f"read from {escape(self.origin)}"] if self.origin else []
        if profile.time_range_ns is None or profile.sums.first_ns is None:
            return lines
        pace = [f"{profile.frames:,} frames in {format_ns(profile.time_range_ns)}"]
        if profile.throughput is not None:
            scaled = " (scaled up from the sampled frames)" if profile.sampled else ""
            over = ""
            if profile.active_ns != profile.time_range_ns:
                over = f" over {format_ns(profile.active_ns)} of recording"
            pace.append(f"{format_quantity(profile.throughput)} frames/s{over}{scaled}")
        if profile.sums.sized:
            pace.append(f"{format_bytes(profile.sums.size_bytes / profile.sums.sized)} a frame")
        if profile.bytes_per_second is not None:
            pace.append(f"{format_bytes(profile.bytes_per_second)}/s")
        total = profile["end_to_end"]
        lines.append(", ".join(pace) + f", since {format_utc(profile.sums.first_ns)}")
        lines.append(
            f"end to end: {format_ns(total.mean)} mean, {format_ns(total.max)} at most"
            + ("" if total.peak_frame is None else f" (frame {total.peak_frame})")
        )
        known = [total.percentile(q) for q in (99, 90, 50)]
        best = next((p for p in known if p.low is not None), None)
        if best is not None:
            lines.append(
                f"p{best.q:g}: {format_ns(best.value)}, with 95 % confidence from "
                f"{format_ns(best.low)} to {format_ns(best.high)}"
                f" ({profile.frames:,} frames worth {best.effective:,.0f} independent ones)"
            )
        asides = self._response(), self._deadline(), self._disagreement(), self._causes()
        cost = [self.overhead] if self.overhead else []
        return [*lines, *(line for part in asides for line in part), *cost]

    def _response(self) -> list[str]:
        """Say what frames took from when they should have started, where that is another time."""
        profile = self.profile
        total = profile["end_to_end"]
        if "response" not in profile.spans:
            return []
        response = profile["response"]
        if response.mean is None or response.histogram == total.histogram:
            return []
        late = [q for q in (50, 99) if response.histogram.value_at(q) is not None]
        told = ", ".join(
            f"p{q} {format_ns(response.histogram.value_at(q))} instead of "
            f"{format_ns(total.histogram.value_at(q))}"
            for q in late
        )
        early = response.negative
        misfit = (
            f"; {early:,} frames ended before they were due: the period does not fit"
            if early > response.count
            else ""
        )
        return [
            f"from when they should have started (response): {format_ns(response.mean)} mean, "
            f"{format_ns(response.max)} at most; {told}{misfit}"
        ]

    def _deadline(self) -> list[str]:
        missed = self.profile.deadline
        if missed is None:
            return []
        line = (
            f"deadline {format_ns(missed.deadline_ns)}: {missed.misses:,} of {missed.frames:,} "
            f"frames missed it ({missed.late:,} late, {missed.dropped:,} dropped)"
        )
        if missed.by_stage:
            blamed = sorted(missed.by_stage.items(), key=lambda item: -item[1])
            named = ", ".join(f"{name} {n:,}" for name, n in blamed)
            line += f"; of the late ones by the stage that took most more than usual: {named}"
        return [line]

    def _disagreement(self) -> list[str]:
        """Say when the slow frames or the variance tell of another stage than the mean does."""
        profile = self.profile
        mean = profile.bottleneck()
        words = {"p99": "by p99", "tail": "in the slowest 1 %", "variance": "by variance"}
        said: dict[str, list[str]] = {}
        for why, word in words.items() if mean is not None else ():
            name = profile.bottleneck(why)
            if name not in (mean, None):
                said.setdefault(str(name), []).append(word)
        apart = [f"{' and '.join(parts)} it is {name}" for name, parts in said.items()]
        return [f"{mean} is slowest by mean, but {'; '.join(apart)}"] if apart else []

    def _causes(self) -> list[str]:
        """Say which stage is the cause, where that is another one than the slowest by mean."""
        if self.profile.parts is None:
            return []
        try:
            found = self.profile.causes
        except ProfileError as error:
            return [str(error)]
        return [found.sentence] if found.cause not in (self.profile.bottleneck(), None) else []

    def _causes_dict(self) -> dict[str, Any] | None:
        if self.profile.parts is None:
            return None
        try:
            return self.profile.causes.to_dict()
        except ProfileError as error:
            return {"not_available": str(error)}

    def _spans(self) -> Section:
        rows, doubtful = [], False
        for row in self.profile.rows():
            cells = [short(row["span"]), percent(row["share"]), format_ns(row["mean"])]
            cells += [format_ns(row["std"]), format_ns(row["min"])]
            for q in TABLE_PERCENTILES:
                value = row[f"p{q:g}".replace(".", "_")]
                weak = value is not None and q > (row["resolves"] or 0)
                doubtful |= weak
                cells.append(format_ns(value) + ("?" if weak else ""))
            rows.append((*cells, format_ns(row["max"])))
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
        return Section("Spans", tuple(lines), header, tuple(rows))

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
        rows = tuple(
            (range_name(low, high), f"{n:,}", percent(n / count), f"{n / count}")
            for low, high, n in filled_ranges(self.profile.ranges)
        )
        return Section("End to end, by range", (), ("range", "frames", "share", ""), rows)

    def _order(self, orders: Orders) -> Section:
        lines = []
        for source, order in list(orders.by_source.items())[:_MOST_ROWS]:
            ids, pace, jitter = order.arrivals, order.period, order.jitter
            flight = order.in_flight(self.profile.active_ns)
            parts = [f"ids {ids.note}"]
            if ids.gaps is not None:
                parts = [
                    f"{ids.lost:,} ids lost in {ids.gaps:,} gaps (at most {ids.longest_loss:,} in "
                    f"a row), {ids.reordered:,} reordered, {ids.duplicates:,} twice"
                ]
            if pace.mean is not None:
                parts.append(f"a frame each {format_ns(pace.mean)} (std {format_ns(pace.std)})")
            if jitter.last is not None:
                parts.append(f"jitter {format_ns(jitter.last)} (at most {format_ns(jitter.peak)})")
            if flight.mean is not None:
                most = "" if flight.peak is None else f" ({flight.peak:,} at most)"
                parts.append(f"{format_quantity(flight.mean)} in flight{most}")
            missed = order.deadline
            if missed is not None and missed.misses:
                parts.append(f"{missed.longest_run:,} missed deadlines in a row at most")
            lines.append(f"{short(source or NO_GROUP)}: {'; '.join(parts)}")
        if len(orders.by_source) > 1 and any(o.arrivals.lost for o in orders.by_source.values()):
            lines.append(
                "ids are looked at source by source: where sources share a counter none may be lost"
            )
        return Section("Order and pace", tuple(lines))

    def _groups(self) -> Section:
        by = short(self.profile.by or "group")
        header = (by, "frames", "mean", "p50", "p99", "max", "bottleneck")
        groups = sorted(self.profile.groups.items(), key=lambda item: -item[1].frames)
        rows = []
        for name, group in groups[:_MOST_ROWS]:
            total = group["end_to_end"]
            times = [total.mean, total.histogram.value_at(50), total.histogram.value_at(99)]
            cells = [short(name), f"{group.frames:,}", *map(format_ns, [*times, total.max])]
            rows.append((*cells, short(group.bottleneck() or "-")))
        more = len(groups) - len(rows)
        lines = (f"and {more:,} more",) if more > 0 else ()
        return Section(f"By {header[0]}", lines, header, tuple(rows))

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
        return Section(f"End to end{width}", tuple(lines), header, cells)

    def _worst(self) -> Section:
        sums = self.profile.sums
        rows = []
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
        header = ("frame", "source", "start", "end to end", "longest parts")
        return Section("Worst frames", (), header, tuple(rows))

    def _accounts(self) -> Section:
        a = self.profile.accounts
        dropped, rejected = sum(a.dropped.values()), sum(a.rejected.values())
        lines = [
            f"started {a.started:,} = in flight {a.in_flight:,} + finished {a.finished:,} "
            f"+ dropped {dropped:,} + rejected {rejected:,}",
            f"finished + dropped = folded {a.folded:,} + not yet folded {a.not_folded:,} "
            f"+ lost {a.lost:,} + torn {a.torn:,}",
        ]
        if a.sampled_out:
            lines.append(f"sampled out: {a.sampled_out:,}")
        for (reason, mark), n in sorted(self.profile.sums.dropped.items())[:_MOST_ROWS]:
            lines.append(f"dropped: {escape(reason)}, last mark {mark}: {n:,}")
        for what, counts in (("rejected", a.rejected), ("counted", a.notes)):
            lines += [f"{what}: {escape(reason)}: {n:,}" for reason, n in sorted(counts.items())]
        return Section("Accounts", tuple(lines))

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

    def to_markdown(self) -> str:
        """Return the report as Markdown, for a ticket or a merge request."""
        return "\n\n".join(markdown(section) for section in self.sections()) + "\n"
