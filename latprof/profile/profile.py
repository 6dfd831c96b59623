"""The profile: the result of folding a trace, and the questions that it answers.

A profile holds `Sums` of all frames, or of each group. Profiles of parts merge into the profile
of the whole. Its size does not grow with the number of frames.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.accounts import union
from latprof.colors import colors
from latprof.errors import ProfileError
from latprof.fold.worst import WorstFrame
from latprof.io.formats.columns import NUMBERED, UNITS
from latprof.profile import answers
from latprof.profile.build import FoldedFrames
from latprof.profile.doubts import Doubt, doubts_of
from latprof.profile.span import (
    TABLE_PERCENTILES,
    SpanProfile,
    check_integer,
    check_percentile,
    check_percentiles,
    percentile_key,
    within_bins,
)
from latprof.profile.tables import sections_of
from latprof.sequence.order import OrderResults
from latprof.table import Section, Shown, data_frame, html
from latprof.text import counted, quoted

if TYPE_CHECKING:
    import pandas as pd

    from latprof.queueing.causes import Causes

__all__ = ["Profile"]

WHYS = ("mean", "p99", "tail", "variance", "cause")


class Profile(FoldedFrames, Shown):
    """The statistics of the frames of a pipeline, as a whole and by group.

    Parameters
    ----------
    pipeline
        What the marks mean.
    by
        ``"source"``, ``"outcome"`` or a tag: each of its values gets a profile as well.
    edges_ns
        Upper edges of ranges of end_to_end. The frames in each range are counted exactly.
    every
        Width of the windows of `timeline`, ``"1s"``; it doubles if there are more than 512.
    deadline
        ``"20ms"``: frames that take longer are counted exactly, see `deadline`.
    order
        Keep the numbers that depend on the order of frames: see `order_results`. Batches must then
        be added in order of time.
    id_bits
        Number of bits after which ids start again, 16 for RTP; 64 if they never do.

    Raises
    ------
    ProfileError
        An argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Profile
    >>> from latprof.frames import Columns
    >>> profile = Profile(Pipeline.chain("mic", "decode", "play"))
    >>> ids = np.arange(2, dtype=np.uint64)
    >>> start = np.array([0, 20_000])
    >>> marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1000}
    >>> profile.add(Columns(ids, marks))
    >>> profile["decode"].mean, profile["play"].max, profile.bottleneck()
    (700.0, 300, 'decode')
    """

    def __repr__(self) -> str:
        return f"<Profile of {self.pipeline.name}: {counted(self.frames, 'frame')}>"

    def sections(self) -> list[Section]:
        """Return what `print` and notebooks show: the bottleneck, all spans, the groups."""
        return sections_of(self)

    def _repr_html_(self) -> str:
        return html(self.sections(), colors(self.pipeline))

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the profile to a small file, for `latprof.load_profile` or ``latprof merge``.

        Raises
        ------
        ProfileError
            The file cannot be written.
        """
        from latprof.profile.file import write_profile

        write_profile(path, self)

    # -- all frames -----------------------------------------------------------------------------

    def order_results(self) -> dict[str, OrderResults]:
        """Return the numbers that depend on the order of frames, by source; "" if without source.

        It is empty if the profile was folded without `order`.
        """
        without_ids = "the file has none" if NUMBERED in self.reading else ""
        return {} if self.order is None else self.order.results(self.active_ns, without_ids)

    @property
    def time_range_ns(self) -> int | None:
        """Time from the first start to the last end of the finished frames, ns."""
        if self.untimed or self.sums.first_ns is None or self.sums.last_ns is None:
            return None
        return self.sums.last_ns - self.sums.first_ns

    @property
    def active_ns(self) -> int | None:
        """Time of recording, ns: the union of the recorded segments, or else the time range."""
        if self.untimed or self.undeclared or not self.segments:
            return self.time_range_ns
        return sum(end - begin for begin, end in union(self.segments))

    @property
    def sampled(self) -> bool:
        """Whether some frames were left out by sampling."""
        return any(rate < 1 for rate in self.rates)

    @property
    def throughput(self) -> float | None:
        """Finished frames per second of active time; divided by the rate if sampled."""
        if not self.active_ns or self.active_ns < 0:
            return None
        return sum(n / rate for rate, n in self.rates.items()) / (self.active_ns / 1e9)

    @property
    def bytes_per_second(self) -> float | None:
        """Known sizes of finished frames per second of active time; scaled up if sampled."""
        per_second = self.throughput
        if per_second is None or not self.sums.sized:
            return None
        return per_second * self.sums.size_bytes / self.frames

    @property
    def mostly_measuring(self) -> list[str]:
        """Spans with a mean below ten times the cost of a stamp, if that cost was recorded."""
        means = ((name, self[name].mean) for name in self.spans if name != "other")
        return [name for name, mean in means if mean is not None and mean < 10 * self.stamp_ns]

    @property
    def doubts(self) -> list[Doubt]:
        """Why numbers may be wrong, such as clocks that disagree; the most severe comes first."""
        return doubts_of(self)

    @property
    def deadline(self) -> answers.Deadline | None:
        """The misses of the declared deadline, or None if none was declared."""
        return answers.deadline(self.sums)

    @property
    def ranges(self) -> list[tuple[int, int | None, int]]:
        """Exact counts of end_to_end by range: (above ns, up to and including ns, frames).

        The upper edge of the last range is None. The list is empty for a histogram of another tool,
        which has edges of its own.
        """
        return answers.ranges(self.sums) if self.bins is None else []

    @property
    def unclaimed(self) -> str | None:
        """A sentence on the time of `other`, if it is larger than every stage; otherwise None."""
        return answers.unclaimed(self.sums) if self.bins is None else None

    # -- spans ----------------------------------------------------------------------------------

    @property
    def spans(self) -> tuple[str, ...]:
        """Names of the spans: stages, sides, ``other``, totals."""
        return tuple(self.sums.spans)

    def __getitem__(self, name: str) -> SpanProfile:
        """Return one span.

        Raises
        ------
        ProfileError
            The pipeline has no span of that name.
        """
        sums = self.sums
        if not isinstance(name, str) or name not in sums.spans:
            raise ProfileError(
                f"a span of pipeline {self.pipeline.name!r} must be one of "
                f"{', '.join(self.spans)}, got {quoted(name)}"
            )
        kind = "other" if name == "other" else self.pipeline.span(name).kind
        total = sums.shares["end_to_end"]
        share = sums.shares[name] / total if name in sums.shares and total else None
        found = SpanProfile.of(name, kind, sums.spans[name], share, sums.batches.counts(name))
        return found if self.bins is None else within_bins(found, self.bins)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict for each span, times in ns, None if unknown."""
        return [self[name].row() for name in self.spans]

    def table(self, *, groups: bool = False, unit: str = "ns") -> "pd.DataFrame":
        """Return a DataFrame indexed by span; times are plain numbers.

        Parameters
        ----------
        groups
            Return a row for each group and span; the group is the first index level.
        unit
            Unit of the times: ``"ns"``, ``"us"``, ``"ms"`` or ``"s"``.

        Raises
        ------
        ProfileError
            The unit is unknown.
        """
        if not isinstance(unit, str) or unit not in UNITS:
            raise ProfileError(f"unit must be one of {', '.join(UNITS)}, got {quoted(unit)}")
        if groups:
            import pandas as pd

            parts = {name: group.table(unit=unit) for name, group in sorted(self.groups.items())}
            return pd.concat(parts, names=[self.by or "group"]) if parts else self.table().iloc[:0]
        left_out = ("kind", "most_negative", "resolution", "intervals")
        rows = [{k: x for k, x in row.items() if k not in left_out} for row in self.rows()]
        types = dict.fromkeys(("count", "missing", "negative"), "int64")
        frame = data_frame(rows, "span", types | {"span": None, "peak_frame": "UInt64"})
        if unit != "ns":
            times = ["mean", "std", "min", *map(percentile_key, TABLE_PERCENTILES), "max"]
            frame[times] /= UNITS[unit]
        return frame

    # -- where the time goes --------------------------------------------------------------------

    def bottleneck(self, why: str = "mean") -> str | None:
        """Return the name of the stage that takes longest, or None if no frame has a stage.

        Parameters
        ----------
        why
            ``"mean"``: the highest mean; ``"p99"``: the highest 99th percentile; ``"tail"``: the
            largest share of the slowest 1 % of the frames; ``"variance"``: the largest share of
            the variance of end_to_end; ``"cause"``: the stage that the others wait for, see
            `causes`. Sides are not considered. Of equal stages the first one is returned.

        Raises
        ------
        ProfileError
            `why` is unknown, or is ``"cause"`` and the causes were not folded or are not available.
        """
        stages = [stage.name for stage in self.pipeline.stages]
        values: dict[str, float | None] = {}
        if why == "cause":
            return self.causes.cause
        if why == "mean":
            values = {name: self[name].mean for name in stages}
        elif why == "p99":
            values = {name: self[name].histogram.value_at(99) for name in stages}
        elif why == "tail":
            slow = answers.slice_of(self.sums.tails, 99, 100)
            values = {name: slow.share(name) for name in stages}
        elif why == "variance":
            shares = self.variance_shares
            values = {name: shares.get(name) for name in stages}
        else:
            raise ProfileError(f"why must be one of {', '.join(WHYS)}, got {quoted(why)}")
        known = {name: value for name, value in values.items() if value is not None}
        return max(known, key=known.__getitem__, default=None)

    @property
    def causes(self) -> "Causes":
        """Which frames waited for which, and the stage that is the cause, as in `latprof.causes`.

        They are computed from all frames, even if there are groups, as groups share stations.

        Raises
        ------
        ProfileError
            The profile was not folded with causes, or frames are sampled or lost.
        """
        if self.cause_sums is None:
            raise ProfileError(
                "causes were not folded; use analyze(..., causes=True), and ask the whole profile, "
                "not a group of it"
            )
        from latprof.queueing.causes import causes_of  # a program that records needs none

        return causes_of(self.cause_sums)

    @property
    def variance_shares(self) -> dict[str, float]:
        """The part of the variance of end_to_end by stage, and ``other``; they add up to 1.

        A part is cov(stage, end_to_end) / var(end_to_end), and negative if the stage is fast when
        frames are slow. The dict is empty if end_to_end does not vary, or if values are known only
        in bins.
        """
        return answers.variance_shares(self.sums) if self.bins is None else {}

    def slices(self, q: float = 99) -> dict[str, answers.Slice]:
        """Return slices of frames: "all", "middle", and "slow" ones above percentile `q`.

        All slices are empty if values are known only in bins.

        Raises
        ------
        ProfileError
            `q` is not a number from 0 to 100.
        """
        return self._slices(check_percentile(q))

    def _slices(self, q: float) -> dict[str, answers.Slice]:
        if self.bins is not None:
            return dict.fromkeys(("all", "middle", "slow"), answers.Slice(0, {}))
        tails, middle = self.sums.tails, answers.middle_of(self.sums)
        slow = answers.slice_of(tails, q, 100)
        return {"all": answers.slice_of(tails, 0, 100), "middle": middle, "slow": slow}

    def tail(self, q: float = 99) -> "pd.DataFrame":
        """Return where the time goes in the slow frames, compared to the middle ones.

        Parameters
        ----------
        q
            Frames above this percentile (0 to 100) of end_to_end are the slow ones.

        Returns
        -------
        DataFrame
            By stage and other: share and mean (ns) in slow and in middle frames (40th to 60th
            percentile), and the numbers of those frames.

        Raises
        ------
        ProfileError
            `q` is not a number from 0 to 100.
        """
        slices = self._slices(check_percentile(q))  # here, so that it warns the caller's line
        parts, rows = {what: slices[what] for what in ("slow", "middle")}, []
        for name in slices["slow"].sums:
            row: dict[str, Any] = {"span": name}
            for what, part in parts.items():
                row |= {f"{what}_share": part.share(name), f"{what}_mean": part.mean(name)}
                row[f"{what}_frames"] = part.frames
            rows.append(row)
        return data_frame(
            rows, "span", {"span": None, "slow_frames": "int64", "middle_frames": "int64"}
        )

    # -- single frames --------------------------------------------------------------------------

    def slowest(self, n: int) -> list[WorstFrame]:
        """Return the n slowest frames; an empty list if values are known only in bins.

        Raises
        ------
        ProfileError
            `n` is not an integer from 0 to 100, the number of frames that a profile keeps.
        """
        found = answers.worst_frames(self.sums, n)
        return found if self.bins is None else []

    def worst(self, n: int = 10) -> "pd.DataFrame":
        """Return the n slowest frames with all their stages, times in ns.

        Raises
        ------
        ProfileError
            `n` is not an integer from 0 to 100, the number of frames that a profile keeps.
        """
        totals = [total.name for total in self.pipeline.totals]
        spans = [*totals, *(stage.name for stage in self.pipeline.stages), "other"]
        rows: list[dict[str, Any]] = []
        for frame in self.slowest(n):
            times: dict[str, int | None] = {**answers.stages_of(self.sums, frame)}
            times |= {"end_to_end": frame.end_to_end_ns, "response": frame.response_ns}
            start = np.datetime64(frame.marks["start"], "ns")
            row = {"frame_id": frame.frame_id, "source": frame.source, "start": start}
            rows.append(row | {name: times.get(name) for name in spans})
        types = {"frame_id": "uint64", "source": "object", "start": "datetime64[ns]"}
        return data_frame(rows, "frame_id", types | dict.fromkeys(spans, "Int64"))

    def exemplars(self) -> list[tuple[int, int, int]]:
        """Return a frame for each range of end_to_end that has one, 32 ranges an octave.

        Each item is (smallest value, largest value, id of a frame in between), values in ns.
        """
        return answers.exemplars(self.sums)

    # -- windows of time ------------------------------------------------------------------------

    def timeline(self) -> "pd.DataFrame":
        """Return count, mean, percentiles (within 1.6 %) and maximum by window and span, in ns.

        The windows are indexed by their begin (UTC).

        Raises
        ------
        ProfileError
            The profile was folded without windows.
        """
        import pandas as pd

        if self.sums.timeline is None:
            raise ProfileError(
                "a timeline needs windows, which were not folded; use analyze(..., every='1s')"
            )
        numbers = ("count", "mean", *(f"p{q}" for q in answers.TIMELINE_PERCENTILES), "max")
        names = ["window_ns", "span", *numbers]
        frame = pd.DataFrame(answers.timeline_rows(self.sums), columns=names)
        begins = pd.to_datetime(frame.pop("window_ns").astype("int64"), unit="ns")
        frame.insert(0, "window", begins)
        return frame.set_index(["window", "span"])

    def windows(
        self, span: str = "end_to_end", qs: Sequence[float] = (50, 99)
    ) -> answers.WindowNumbers:
        """Return a span by window of time as arrays, or by time batch if there are no windows.

        Raises
        ------
        ProfileError
            The pipeline has no such span, or `qs` are not percentiles.
        """
        return answers.window_numbers(self.sums, self[span].name, check_percentiles(qs))

    def heat(self, span: str = "end_to_end", *, most: int = 100) -> answers.Heat:
        """Return counts of a span by window of time and latency, in at most `most` ranges.

        Raises
        ------
        ProfileError
            The pipeline has no span of that name, or `most` is not an integer from 1 on.
        """
        name, most = self[span].name, check_integer("most", most, 1, 10**6)
        return answers.heat_of(self.sums, name, most=most)

    def stretches(self) -> list[answers.Stretch]:
        """Return the stretches of time without finished frames, each with its reason."""
        known = self.segments if self.segments and not self.undeclared else None
        return answers.stretches(self.sums, known, lost=self.accounts.lost)
