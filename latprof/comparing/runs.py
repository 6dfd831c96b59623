"""Runs: one recording each of a program under one condition, and the statistics of each."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from latprof.analysis import analyze
from latprof.arrays import Ints
from latprof.comparing.by_run import parts_by_run
from latprof.errors import ProfileError
from latprof.fold.intervals import Z_95
from latprof.histogram import coarse_edges
from latprof.io.formats.foreign import ForeignFile
from latprof.io.member import Member
from latprof.profile.doubts import added_up
from latprof.profile.file import is_profile
from latprof.profile.load import load_profile
from latprof.profile.profile import Profile
from latprof.table import Shown
from latprof.text import clip, counted, escape, listed, quoted, shown_path
from latprof.trace import Trace
from latprof.units import format_quantity

__all__ = [
    "HIGHER_IS_BETTER",
    "MISSES",
    "STATISTIC",
    "THROUGHPUT",
    "Estimate",
    "Key",
    "OfStatistic",
    "Run",
    "RunLike",
    "added_up_notes",
    "condition_notes",
    "estimates_of",
    "few_frames_notes",
    "load_run",
    "load_runs",
    "parse_statistic",
    "repeated_notes",
    "statistic_of",
]

THROUGHPUT, MISSES = "throughput", "misses"
HIGHER_IS_BETTER = (THROUGHPUT,)

LOAD_CHANGE = 0.1  # change of the throughput, as a part, above which the load is noted to differ

_FEWEST_BATCHES = 32

STATISTIC = rf"mean|{THROUGHPUT}|{MISSES}|p\d+(?:\.\d+)?"  # a regular expression
_FORM = re.compile(rf"(?:(?P<span>.+)\.)?(?P<name>{STATISTIC})")

Key = tuple[str, str]
"""A span and a statistic of it: ``("decode", "p99")``."""

RunLike = Trace | Profile | ForeignFile | str | os.PathLike[str]
"""The forms of a run: a trace, a profile, or a path of either. A folder may be several runs."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of one run, in ns (or a rate), and its standard error within the run.

    `log_error` is the standard error of the logarithm of the value, from frames that depend on each
    other, or None if the run does not allow one. `low` and `high` are the 95 % interval, or None;
    `note` says why there is none.
    """

    value: float
    log_error: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


class OfStatistic(Shown):
    """A result about one statistic of several runs, or of several hosts."""

    key: Key
    doubts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The result, in one sentence."""
        raise NotImplementedError

    def head(self) -> dict[str, Any]:
        """Return the first entries for JSON: format, sentence, span, statistic and doubts."""
        span, statistic = self.key
        about = {"format": 1, "sentence": self.sentence, "span": span, "statistic": statistic}
        return about | {"doubts": list(self.doubts)}


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One recording of one program under one condition.

    Attributes
    ----------
    name
        Its path, or its place among the runs given.
    profile
        The statistics of its frames.
    source
        The trace or the files that have the frames, or None if only the profile is known.
    note
        Why it may be several runs, or an empty text.
    """

    name: str
    profile: Profile
    source: Trace | Sequence[Member] | None = None
    note: str = ""
    _known: dict[Key, Estimate | None] = field(default_factory=dict, repr=False)

    def statistic(self, key: Key) -> Estimate | None:
        """Return a statistic of the run, or None if it has none."""
        if key not in self._known:
            self._known[key] = statistic_of(self.profile, key)
        return self._known[key]

    def keys(self, percentiles: Sequence[float]) -> list[Key]:
        """Return the statistics that can be compared."""
        names = ["mean", *(f"p{q:g}" for q in percentiles)]
        keys = [(span, name) for span in self.profile.spans for name in names]
        rates = [THROUGHPUT] + [MISSES] * (self.profile.deadline is not None)
        return [*keys, *(("end_to_end", name) for name in rates)]

    @property
    def begin_ns(self) -> int | None:
        """The first start of the frames in UTC ns, or None without frames."""
        return self.profile.sums.first_ns


def load_runs(
    given: "RunLike | Iterable[RunLike]", side: str, *, by: str | None = None
) -> list[Run]:
    """Return the runs of one `side` (a name for errors); traces are analyzed by the column `by`.

    A folder or a glob may be several runs: see `parts_by_run`.

    Raises
    ------
    ProfileError
        Something that is neither a trace, a profile nor a path; no run; a run without finished
        frames.
    TraceError
        A file that is missing or is not a trace.
    """
    one = isinstance(given, Trace | Profile | ForeignFile | str | os.PathLike)
    try:
        items: list[Any] = [given] if one else list(given)  # type: ignore[arg-type]
    except TypeError:
        items = [given]
    if not items:
        raise ProfileError(f"{side} must have at least one run, got none; give traces or profiles")
    return [run for i, item in enumerate(items) for run in _load(item, f"{side} {i + 1}", by)]


def load_run(item: Any, name: str) -> Run:
    """Return the run of one file, trace or profile.

    Raises
    ------
    ProfileError, TraceError
        As for `load_runs`.
    """
    runs = _load(item, name, None)
    if len(runs) > 1:
        raise ProfileError(f"{escape(name)} must be of one run, got {len(runs)}; record each apart")
    return runs[0]


def _load(item: Any, name: str, by: str | None) -> list[Run]:
    """Return a trace, a profile or a path as one run or, of a folder or a glob, several."""
    if isinstance(item, Profile):
        runs = [Run(name, item)]
    elif isinstance(item, Trace):
        runs = [Run(name, analyze(item, by=by), item)]
    elif isinstance(item, str | os.PathLike | ForeignFile):
        path = item.path if isinstance(item, ForeignFile) else item
        if is_profile(path):
            runs = [Run(shown_path(path), load_profile(item))]
        else:
            found = parts_by_run(item)
            runs = [
                Run(each.name, each.profile(by), each.members or None, each.note) for each in found
            ]
            if len(runs) == 1:
                runs[0] = replace(runs[0], name=shown_path(path))
    else:
        raise ProfileError(
            f"a run must be a Trace, a Profile or a path, got {quoted(item)}; "
            "give each recording as one of these"
        )
    for run in runs:
        if not run.profile.frames:
            raise ProfileError(
                f"{escape(run.name)} must have finished frames, got none; check that the run "
                "recorded"
            )
    return runs


def parse_statistic(given: "str | Key") -> Key:
    """Return the span and the statistic that ``"decode.p99"`` means, or a pair of both.

    Raises
    ------
    ProfileError
        `given` is neither.

    Examples
    --------
    >>> parse_statistic("decode.p99"), parse_statistic("mean"), parse_statistic(("decode", "p50"))
    (('decode', 'p99'), ('end_to_end', 'mean'), ('decode', 'p50'))
    """
    names = (given,) if isinstance(given, str) else given
    known = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    found = _FORM.fullmatch(".".join(names)) if known else None
    if found is None:
        raise ProfileError(
            "statistic must be SPAN.STATISTIC, such as decode.p99 or end_to_end.mean, got "
            f"{quoted(given)}"
        )
    return found["span"] or "end_to_end", found["name"]


def estimates_of(runs: Sequence[Run], key: Key) -> list[Estimate]:
    """Return a statistic of each run.

    Raises
    ------
    ProfileError
        A run does not have it.
    """
    found = []
    for run in runs:
        estimate = run.statistic(key)
        if estimate is None:
            raise ProfileError(
                f"statistic must be one that all runs have, got {quoted('.'.join(key))}, which "
                f"{escape(run.name)} lacks; its spans are {', '.join(run.profile.spans)}"
            )
        found.append(estimate)
    return found


def repeated_notes(runs: Sequence[Run]) -> list[str]:
    """Return a sentence on the first two runs that share a recording, or an empty list."""
    seen: dict[str, str] = {}
    for run in runs:
        for recording in run.profile.recordings:
            if recording in seen:
                return [
                    f"{seen[recording]} and {run.name} are of one recording: how they differ does "
                    "not show how runs differ"
                ]
            seen[recording] = run.name
    return []


def added_up_notes(runs: Sequence[Run]) -> list[str]:
    """Return a sentence for each run that consists of several recordings; a count after three."""
    several = [run for run in runs if added_up(run.profile)]
    notes = [run.note for run in runs if run.note][:3]
    notes += [
        f"{run.name} is taken as one run and has {len(run.profile.recordings):,} recordings; if "
        "each is a run, give its files one by one"
        for run in several[:3]
    ]
    return notes if len(several) <= 3 else [*notes, f"so have {len(several) - 3:,} more runs"]


def few_frames_notes(runs: Sequence[Run], keys: Sequence[Key]) -> list[str]:
    """Return a sentence on percentiles that have no interval in a run, or an empty list."""
    doubtful: dict[str, Run] = {}
    for span, name in keys:
        for run in runs if name.startswith("p") else ():
            estimate = run.statistic((span, name))
            if estimate is not None and estimate.low is None:
                doubtful.setdefault(f"{span}.{name}", run)
    if not doubtful:
        return []
    first = next(iter(doubtful))
    most = f" and {counted(len(doubtful) - 1, 'other row')}" if len(doubtful) > 1 else ""
    return [
        f"too few frames in {doubtful[first].name} for an interval of {first}{most}: record longer "
        "runs, or compare a lower percentile"
    ]


def statistic_of(profile: Profile, key: Key) -> Estimate | None:
    """Return a statistic of a profile, or None if it has none."""
    span, name = key
    if name == THROUGHPUT:
        value = profile.throughput
        return None if value is None else Estimate(value)
    if name == MISSES:
        deadline = profile.deadline
        ratio = None if deadline is None else deadline.ratio
        return None if ratio is None else Estimate(ratio)
    if span not in profile.spans:
        return None
    found = profile[span]
    if name == "mean":
        mean = found.mean
        return None if mean is None else _mean_estimate(mean, found.batches)
    known = found.percentile(float(name[1:]))
    if known.value is None or known.is_lower_bound:
        return None
    error = None
    if known.low and known.high:
        error = (math.log(known.high) - math.log(known.low)) / (2 * Z_95)
    return Estimate(float(known.value), error, known.low, known.high, known.note)


def _mean_estimate(mean: float, batches: Ints) -> Estimate:
    error = _mean_log_error(batches, mean)
    if error is None:
        return Estimate(mean, note=f"fewer than {_FEWEST_BATCHES} time batches; record longer")
    reach = math.exp(Z_95 * error)
    return Estimate(mean, error, mean / reach, mean * reach)


def _mean_log_error(batches: Ints, mean: float) -> float | None:
    """Return the standard error of the logarithm of a mean, from the means of time batches.

    Frames of one batch may depend on each other, those of different batches hardly do (batch means:
    Law, "Simulation Modeling and Analysis", chapter 9). The values of a batch are known by bin, to
    1.6 %.
    """
    filled = batches[batches.any(axis=1)]
    if len(filled) < _FEWEST_BATCHES or mean <= 0:
        return None
    low, high = (edge[: filled.shape[1]].astype(np.float64) for edge in coarse_edges())
    sizes = filled.sum(axis=1)
    totals = filled @ ((low + high) / 2)
    center = totals.sum() / sizes.sum()
    if center <= 0:
        return None
    w = len(filled)
    spread = ((totals - sizes * center) ** 2).sum() * w / (w - 1)
    return float(math.sqrt(spread) / sizes.sum() / center)


def condition_notes(base: Sequence[Run], head: Sequence[Run]) -> list[str]:
    """Return a sentence for each condition that differs between the two sides."""
    notes = []
    kinds = {run.profile.pipeline for run in (*base, *head)}
    if len(kinds) > 1:
        shared = set.intersection(*({*run.profile.spans} for run in (*base, *head)))
        names = _names({kind.name for kind in kinds})
        notes.append(
            f"the pipelines differ ({names}): only spans of the same name are compared, "
            f"{_names(shared)}"
        )
    rates = [_throughput(side) for side in (base, head)]
    if None not in rates:
        before, after = float(rates[0] or 0), float(rates[1] or 0)
        if before and abs(after / before - 1) > LOAD_CHANGE:
            notes.append(
                f"the load differs: {format_quantity(before)} and {format_quantity(after)} frames/s"
                " (of a program that waits for its own results, this is an effect of the change)"
            )
    for what, found in (
        ("the sampling rates", lambda run: {f"{rate:g}" for rate in run.profile.rates}),
        ("the machines", lambda run: {each.host for each in run.profile.recorders.written}),
        ("the versions of Python", lambda run: {r.python for r in run.profile.recorders.written}),
        ("the versions of latprof", lambda run: {r.latprof for r in run.profile.recorders.written}),
        ("the stamping cores", lambda run: {each.core for each in run.profile.recorders.written}),
    ):
        sides = [set().union(*map(found, side)) - {""} for side in (base, head)]
        if sides[0] and sides[1] and sides[0] != sides[1]:
            notes.append(f"{what} differ: {_names(sides[0])} and {_names(sides[1])}")
    return notes


def _throughput(side: Sequence[Run]) -> float | None:
    rates = [run.profile.throughput for run in side]
    known = [rate for rate in rates if rate]
    return float(np.exp(np.mean(np.log(known)))) if len(known) == len(rates) else None


def _names(names: Iterable[str], most: int = 6) -> str:
    return listed([clip(name, 40) for name in sorted(names)], most)
