"""The profile: what folding a trace gives, and the questions that it answers.

A profile holds `Sums` for the whole and for each group. Profiles of parts merge into the profile
of the whole. Nothing in it grows with the number of frames.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latprof.accounts import Accounts
from latprof.errors import ProfileError
from latprof.palette import colors
from latprof.profile import answers, tables
from latprof.profile.build import NO_GROUP, Gathered, duration
from latprof.profile.span import TABLE_PERCENTILES, Slice, SpanProfile, slice_of
from latprof.profile.windows import Heat, Stretch, WindowNumbers, heat_of, stretches, window_numbers
from latprof.table import html, text
from latprof.text import counted
from latprof.units import format_ns

if TYPE_CHECKING:
    import pandas as pd

    from latprof.queueing.causes import Causes

__all__ = ["NO_GROUP", "Accounts", "Profile", "duration", "merge"]

WHYS = ("mean", "p99", "tail", "variance", "cause")


class Profile(Gathered):
    """What is known of the frames of a pipeline, as a whole and by group.

    Parameters
    ----------
    pipeline
        What the marks mean.
    by
        ``"source"``, ``"outcome"`` or a tag: a profile is kept for each of its values as well.
    edges_ns
        Upper edges of ranges to be counted exactly for end_to_end.
    every
        Width of the windows of `timeline`, ``"1s"``; they double when there are more than 512.
    deadline
        ``"20ms"``: frames that take longer are counted exactly, see `deadline`.
    order
        Keep what depends on the order of frames, see `order`: batches come in order of time.
    id_bits
        How many bits of an id count before it starts again, 16 for RTP; 64: it never does.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof.frames import Columns
    >>> from latprof.pipeline import Pipeline
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

    def __str__(self) -> str:
        return text(tables.sections(self))

    def _repr_html_(self) -> str:
        return html(tables.sections(self), colors(self.pipeline))

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the profile to a small file, for `latprof.load_profile` or ``latprof merge``.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        from latprof.profile.file import save_profile

        save_profile(self, path)

    # -- reading --------------------------------------------------------------------------------

    @property
    def time_range_ns(self) -> int | None:
        """From the first start to the last end of the finished frames, ns."""
        if self.sums.first_ns is None or self.sums.last_ns is None:
            return None
        return self.sums.last_ns - self.sums.first_ns

    @property
    def active_ns(self) -> int | None:
        """How long was recorded: the union of the recorded segments, else the time range."""
        if self.undeclared or not self.segments:
            return self.time_range_ns
        active, reached = 0, min(self.segments)[0]
        for begin, end in sorted(self.segments):
            active += max(0, end - max(begin, reached))
            reached = max(reached, end)
        return active

    @property
    def sampled(self) -> bool:
        """Whether some frames were left out by sampling."""
        return any(rate < 1 for rate in self.rates)

    @property
    def throughput(self) -> float | None:
        """Finished frames per second of active time; scaled up by 1 / rate where sampled."""
        if not self.active_ns or self.active_ns < 0:
            return None
        return sum(n / rate for rate, n in self.rates.items()) / (self.active_ns / 1e9)

    @property
    def bytes_per_second(self) -> float | None:
        """Known sizes of finished frames per second of active time; scaled up where sampled."""
        pace = self.throughput
        if pace is None or not self.sums.sized:
            return None
        return pace * self.sums.size_bytes / self.frames

    @property
    def mostly_measuring(self) -> list[str]:
        """Spans whose mean is under ten times the cost of a stamp, where that was recorded."""
        if not self.stamp_ns:
            return []
        means = ((name, self[name].mean) for name in self.spans if name != "other")
        return [name for name, mean in means if mean is not None and mean < 10 * self.stamp_ns]

    @property
    def spans(self) -> tuple[str, ...]:
        """Names of the spans: stages, sides, ``other``, totals."""
        return tuple(self.sums.spans)

    def __getitem__(self, name: str) -> SpanProfile:
        """Return one span.

        Raises
        ------
        ProfileError
            There is no span of that name.
        """
        sums = self.sums.spans.get(name)
        if sums is None:
            raise ProfileError(
                f"no span {name!r} in pipeline {self.pipeline.name!r}: use one of "
                f"{', '.join(self.spans)}"
            )
        kind = "other" if name == "other" else self.pipeline.span(name).kind
        share = None
        whole = self.sums.shares["end_to_end"]
        if name in self.sums.shares and whole:
            share = self.sums.shares[name] / whole
        return SpanProfile(name, kind, sums, share, self.sums.batches.counts(name))

    def bottleneck(self, why: str = "mean") -> str | None:
        """Return the name of the stage that takes longest; None where no frame has a stage.

        Parameters
        ----------
        why
            ``"mean"``: the highest mean; ``"p99"``: the highest 99th percentile; ``"tail"``: the
            largest share of the slowest 1 % of the frames; ``"variance"``: the largest share of
            end_to_end's variance; ``"cause"``: the stage that the others wait for, see `causes`.
            Sides never win, and of equal stages the first does.

        Raises
        ------
        ProfileError
            Another `why`; ``"cause"`` where that was not asked for, or is not available.
        """
        if why not in WHYS:
            raise ProfileError(f"why={why!r} is unknown: use one of {', '.join(WHYS)}")
        if why == "cause":
            return self.causes.cause
        values: dict[str, float | None] = {}
        for stage in self.pipeline.stages:
            span = self[stage.name]
            if why == "mean":
                values[stage.name] = span.mean
            elif why == "p99":
                values[stage.name] = span.histogram.value_at(99)
        if why == "tail":
            slow = slice_of(self.sums.tails, 99, 100)
            values = {stage.name: slow.share(stage.name) for stage in self.pipeline.stages}
        elif why == "variance":
            shares = self.variance_shares
            values = {stage.name: shares.get(stage.name) for stage in self.pipeline.stages}
        known = {name: value for name, value in values.items() if value is not None}
        return max(known, key=known.__getitem__, default=None)

    @property
    def causes(self) -> "Causes":
        """Who waited for whom, and which stage is the cause: as `latprof.causes` finds it.

        Over all frames, groups or not: stations are shared by them.

        Raises
        ------
        ProfileError
            The profile was not folded with causes, or frames are sampled or lost.
        """
        if self.parts is None:
            raise ProfileError(
                "causes were not folded: use analyze(..., causes=True), and ask the whole profile, "
                "not a group of it"
            )
        return self.parts.causes()

    @property
    def variance_shares(self) -> dict[str, float]:
        """Each stage's, and other's, part of end_to_end's variance: they add up to 1.

        cov(stage, end_to_end) / var(end_to_end): negative for a stage that is quick when frames
        are slow. Empty where end_to_end does not vary.
        """
        variance = sum(self.sums.covariances.values())
        if not variance > 0:
            return {}
        return {name: value / variance for name, value in self.sums.covariances.items()}

    def tail(self, q: float = 99) -> "pd.DataFrame":
        """Return where the time goes in the slow frames, beside the middle ones.

        Parameters
        ----------
        q
            Frames slower than this percentile (0 to 100) of end_to_end are the slow ones.

        Returns
        -------
        DataFrame
            By stage and other: share and mean (ns) in slow and in middle frames (40th to 60th
            percentile), and how many frames those are.

        Raises
        ------
        ProfileError
            `q` is no number from 0 to 100.
        """
        return answers.tail_table(self.sums, q)

    @property
    def deadline(self) -> answers.Deadline | None:
        """What became of the deadline that was declared; None: none was."""
        return answers.deadline(self.sums)

    def timeline(self) -> "pd.DataFrame":
        """Return count, mean, percentiles (within 1.6 %) and maximum by window and span, in ns.

        Raises
        ------
        ProfileError
            No windows were asked for.
        """
        if self.sums.timeline is None:
            raise ProfileError("no windows were folded: analyze with every='1s', say")
        return answers.timeline_table(self.sums)

    def windows(self, span: str = "end_to_end", qs: Sequence[float] = (50, 99)) -> WindowNumbers:
        """Return a span by window of time as arrays, or by time batch where no windows were folded.

        Raises
        ------
        ProfileError
            No such span, no such percentile.
        """
        return window_numbers(self.sums, self[span].name, qs)

    def heat(self, span: str = "end_to_end", *, most: int = 100) -> Heat:
        """Return how many frames took how long by window of time, in `most` ranges at most.

        Raises
        ------
        ProfileError
            There is no span of that name.
        """
        return heat_of(self.sums, self[span].name, most=most)

    def stretches(self) -> list[Stretch]:
        """Return the stretches of time without finished frames, and why there are none."""
        known = self.segments if self.segments and not self.undeclared else None
        return stretches(self.sums, known, lost=self.accounts.lost)

    def slices(self, q: float = 99) -> dict[str, Slice]:
        """Return all frames, the middle ones and those slower than percentile `q`, by stage.

        Raises
        ------
        ProfileError
            `q` is no number from 0 to 100.
        """
        tails = self.sums.tails
        whole, middle = slice_of(tails, 0, 100), answers.middle_of(self.sums)
        return {"all": whole, "middle": middle, "slow": slice_of(tails, q, 100)}

    def worst(self, n: int = 10) -> "pd.DataFrame":
        """Return the n slowest frames with their whole breakdown, times in ns.

        Raises
        ------
        ProfileError
            `n` is not from 0 to 100: a profile keeps no more.
        """
        return answers.worst_table(self.sums, n)

    def exemplars(self) -> list[tuple[int, int, int]]:
        """Return a real frame for each filled range of end_to_end, 32 ranges an octave.

        Each is smallest value, largest value (ns), and the id of a frame in between.
        """
        return answers.exemplars(self.sums)

    @property
    def unclaimed(self) -> str | None:
        """A sentence when `other` is larger than every stage: where that time lies; else None."""
        shares = self.sums.shares
        largest = max((shares[stage.name] for stage in self.pipeline.stages), default=0)
        if shares["other"] <= largest:
            return None
        mean = shares["other"] / self.sums.attributed
        part = shares["other"] / shares["end_to_end"]
        text = f"{format_ns(mean)} of each frame ({part:.0%}) is claimed by no stage"
        gaps = self.sums.gaps
        begin, end = max(gaps, key=gaps.__getitem__, default=("", ""))
        if begin and gaps[begin, end] > shares["other"] - sum(gaps.values()):
            return f"{text}: most of it lies between the marks {begin} and {end}"
        lacking = [stage.name for stage in self.pipeline.stages if self[stage.name].missing]
        return f"{text}: marks are missing, and so the time of {', '.join(lacking)}"

    @property
    def ranges(self) -> list[tuple[int, int | None, int]]:
        """End_to_end counts by range: (above ns, up to and with ns or None, frames), exact."""
        edges = (0, *self.sums.edges_ns)
        upto = (0, *self.sums.at_most)
        count = self["end_to_end"].count
        rows: list[tuple[int, int | None, int]] = [
            (edges[i], edges[i + 1], upto[i + 1] - upto[i]) for i in range(len(edges) - 1)
        ]
        return [*rows, (edges[-1], None, count - upto[-1])]

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain values: a dict a span, times in ns, None where unknown."""
        table = []
        for name in self.spans:
            span = self[name]
            row: dict[str, Any] = {
                "span": name,
                "kind": span.kind,
                "count": span.count,
                "missing": span.missing,
                "negative": span.negative,
                "mean": span.mean,
                "std": span.std,
                "min": span.min,
            }
            for q in TABLE_PERCENTILES:
                row[f"p{q:g}".replace(".", "_")] = span.histogram.value_at(q)
            row |= {
                "max": span.max,
                "peak_frame": span.peak_frame,
                "share": span.share,
                "resolves": span.resolves,
                "intervals": [
                    {"q": q, "low": known.low, "high": known.high, "note": known.note}
                    | {"effective_frames": known.effective}
                    for q in TABLE_PERCENTILES
                    for known in (span.percentile(q),)
                ],
            }
            table.append(row)
        return table

    def table(self, *, groups: bool = False) -> "pd.DataFrame":
        """Return a DataFrame indexed by span; times are plain numbers in ns.

        Parameters
        ----------
        groups
            A row for each group and span: the group is the first index level.
        """
        import pandas as pd

        if groups:
            parts = {name: group.table() for name, group in sorted(self.groups.items())}
            return pd.concat(parts, names=[self.by or "group"]) if parts else self.table().iloc[:0]
        types: dict[str, Any] = dict.fromkeys(("count", "missing", "negative"), "int64")
        types["peak_frame"] = "UInt64"
        rows = self.rows()
        frame = pd.DataFrame(
            {
                key: pd.array([row[key] for row in rows], dtype=types.get(key, "float64"))
                for key in rows[0]
                if key not in ("span", "kind", "intervals")
            },
            index=pd.Index([row["span"] for row in rows], name="span"),
        )
        return frame


def merge(profiles: Sequence[Profile]) -> Profile:
    """Return the profile of all the frames of several profiles, in whatever order they come.

    Raises
    ------
    ProfileError
        None is given, something that is no profile, or two do not fit.
    """
    if not isinstance(profiles, Sequence):
        raise ProfileError(
            f"merge takes a list of profiles, not {type(profiles).__name__}: write merge([a, b])"
        )
    if not profiles:
        raise ProfileError("merge of no profiles: give at least one")
    for profile in profiles:
        if not isinstance(profile, Profile):
            raise ProfileError(
                f"merge takes profiles, not {type(profile).__name__}: analyze makes one of a trace"
            )
    merged = profiles[0].copy()
    for profile in profiles[1:]:
        merged.take(profile)
    return merged
