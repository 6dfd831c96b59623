"""Divides a difference of end_to_end among its stages, and between mix and latency.

Stages and ``other`` add up to end_to_end in each frame, and so do their means. The part of the mix
of sources or tags is found by reweighting (DiNardo, Fortin and Lemieux 1996): it is the difference
between base and base with the mix of head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latprof.comparing.differences import Row
from latprof.comparing.runs import Run
from latprof.errors import ProfileError
from latprof.profile.answers import slice_of
from latprof.profile.profile import Profile
from latprof.text import quoted
from latprof.units import format_ns

__all__ = ["Mix", "largest_part", "mix_of", "stage_contributions"]

WORTH_NAMING = 0.3  # part of a difference from which on a stage is named in the sentence


def stage_contributions(
    base: Sequence[Run], head: Sequence[Run], statistic: str
) -> dict[str, float]:
    """Return the part of each stage and of ``other`` in the difference of end_to_end, ns.

    Parts are differences (head minus base) of means over the attribution set, averaged over the
    runs of each side. For a percentile they are of the frames around it: for p99 of those from
    p98.5 to p99.5.

    Raises
    ------
    ProfileError
        The pipelines of the runs differ, or the statistic is unknown.
    """
    runs = (*base, *head)
    if len({run.profile.pipeline for run in runs}) > 1:
        raise ProfileError(
            "contributions must be of runs of one pipeline, got several pipelines; compare the "
            "spans of the same name in table()"
        )
    before, after = (
        _mean_parts([_parts_of(run.profile, statistic) for run in side]) for side in (base, head)
    )
    return {name: after[name] - before[name] for name in before}


def _parts_of(profile: Profile, statistic: str) -> dict[str, float]:
    """Return the mean of each stage, and of ``other``, in the frames around a statistic."""
    tails = profile.sums.tails
    low, high = 0.0, 100.0
    if statistic != "mean":
        try:
            q = float(statistic.removeprefix("p"))
        except ValueError:
            q = -1.0
        if not statistic.startswith("p") or not 0 <= q <= 100:
            raise ProfileError(
                f"statistic must be 'mean' or a percentile such as 'p99', got {quoted(statistic)}"
            )
        half = (100 - q) / 2 if q >= 50 else q / 2
        low, high = q - half, q + half
    chosen = slice_of(tails, low, high)
    if not chosen.frames:  # of few frames none may be between
        chosen = slice_of(tails, 0, 100)
    return {name: chosen.mean(name) or 0.0 for name in tails.sums}


def _mean_parts(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in parts) / len(parts) for name in parts[0]}


def largest_part(base: Sequence[Run], head: Sequence[Run], row: Row) -> str:
    """Return text on the stage with the largest part of a difference, empty if none stands out."""
    if row.span != "end_to_end" or row.kind != "time":
        return ""
    try:
        parts = stage_contributions(base, head, row.statistic)
    except ProfileError:
        return ""
    sign = 1 if row.difference > 0 else -1
    name = max(parts, key=lambda each: sign * parts[each])
    if sign * parts[name] < WORTH_NAMING * abs(row.difference):
        return ""
    shown = "time that no stage claims" if name == "other" else name
    size = abs(parts[name])
    more = "of it" if size <= abs(row.difference) else "more"
    return f"; {shown} takes {format_ns(size)} {more if sign > 0 else 'less'}"


@dataclass(frozen=True, slots=True)
class Mix:
    """A difference of the mean of end_to_end, divided between the mix of groups and latency; ns.

    Attributes
    ----------
    by
        The column that the frames are grouped by.
    mix
        The part of the mix: the mean with head's mix and base's latencies, minus that of base.
    within
        The part of latency: by group the difference of its means, times its share of head's frames.
    """

    by: str
    mix: float
    within: dict[str, float]

    @property
    def sentence(self) -> str:
        """Both parts, in one sentence."""
        mix, within = format_ns(round(self.mix)), format_ns(round(sum(self.within.values())))
        return f"of the mean, {mix} is from another mix of {self.by}, {within} from its latencies"

    @property
    def difference(self) -> float:
        """The whole difference: the mix and all groups together."""
        return self.mix + sum(self.within.values())


def mix_of(base: Sequence[Run], head: Sequence[Run]) -> Mix | None:
    """Return a change of the mean, divided between the shares of groups and their means.

    The result is None unless all runs are grouped by the same column (``analyze(...,
    by="source")``). Groups that one side lacks count as a change of the mix.
    """
    by = {run.profile.by for run in (*base, *head)}
    if len(by) != 1 or None in by:
        return None
    before, after = _weights(base), _weights(head)
    both = {name for name in before if name in after}
    within = {name: after[name][0] * (after[name][1] - before[name][1]) for name in sorted(both)}
    total = sum(w * m for w, m in after.values()) - sum(w * m for w, m in before.values())
    return Mix(str(by.pop()), total - sum(within.values()), within)


def _weights(side: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """Return the share of the frames and the mean of end_to_end by group, over all runs."""
    counts: dict[str, int] = {}
    totals: dict[str, int] = {}
    for run in side:
        for name, group in run.profile.groups.items():
            span = group["end_to_end"]
            counts[name] = counts.get(name, 0) + span.count
            totals[name] = totals.get(name, 0) + span.total
    every = sum(counts.values())
    return {name: (n / every, totals[name] / n) for name, n in counts.items() if n}
