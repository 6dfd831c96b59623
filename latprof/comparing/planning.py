"""Plans how many pairs of runs a comparison needs, from the power of the paired test."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from latprof.arrays import Floats
from latprof.comparing.runs import (
    Key,
    OfStatistic,
    Run,
    RunLike,
    added_up_notes,
    estimates_of,
    load_runs,
    parse_statistic,
)
from latprof.comparing.student import (
    MOST_FLIPPED_EXACTLY,
    check_share,
    sign_patterns,
    smallest_sign_flip_p,
    t_p_value,
    t_quantile,
)
from latprof.errors import ProfileError
from latprof.table import Column, Section, Table
from latprof.text import counted, quoted

__all__ = [
    "MOST_PAIRS",
    "POWER",
    "Plan",
    "PlannedLength",
    "pairs_needed",
    "plan",
    "plan_runs",
    "power_of",
    "verdict_power",
]

POWER = 0.9
"""The probability that the advised number of pairs finds the difference."""

MOST_PAIRS = 100_000

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Lengths of a run that a plan has a row for, as multiples of the length of the given runs."""

_DRAWS = 4_000
_SEED = 20_261_128


def power_of(effect: float, pairs: int, level: float) -> float:
    """Return the probability that a paired t test finds a difference.

    Parameters
    ----------
    effect
        The mean difference divided by the standard deviation of the differences.
    pairs
        Number of pairs, from 2 on.
    level
        Level of the two-sided test, such as 0.05.

    Notes
    -----
    The noncentral t distribution, integrated over the distribution of the sample's standard
    deviation (Owen 1968). The chance to reject in the wrong direction is left out.

    Examples
    --------
    >>> round(power_of(0.5, 34, 0.05), 2), round(power_of(0.8, 15, 0.05), 2)
    (0.81, 0.82)
    """
    df = pairs - 1
    limit = t_quantile(level, df)
    center, shift = math.sqrt(pairs) * abs(effect), 8 / math.sqrt(2 * df)
    s = np.linspace(max(1 - shift, 1e-6), 1 + shift, 2_001)
    log_density = (df - 1) * np.log(s) - df * s**2 / 2
    density = np.exp(log_density - log_density.max())
    beyond = _normal_cdf(center - limit * s)
    return float((density * beyond).sum() / density.sum())


@lru_cache(maxsize=4_096)
def pairs_needed(effect: float, level: float, power: float = POWER) -> int | None:
    """Return how many pairs find a difference with a probability of `power`.

    `effect` is as in `power_of`. The result is None if more than `MOST_PAIRS` are needed.

    Examples
    --------
    >>> pairs_needed(0.5, 0.05, 0.8), pairs_needed(0.0953 / 0.2121, 0.05)
    (34, 55)
    """
    effect = abs(effect)
    if effect == 0:
        return None
    low, high = 1, 2
    while power_of(effect, high, level) < power:
        low, high = high, high * 2
        if high > MOST_PAIRS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(effect, middle, level) < power:
            low = middle
        else:
            high = middle
    return high


def _normal_cdf(x: Floats) -> Floats:
    """Return the distribution function of the normal distribution, to 1e-7.

    Abramowitz and Stegun 1964, 26.2.17.
    """
    k = 1 / (1 + 0.231_641_9 * np.abs(x))
    terms = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
    powers = k[:, None] ** np.arange(1, 6)
    tail = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (powers @ np.array(terms))
    return np.asarray(np.where(x >= 0, 1 - tail, tail))


# -- plans ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedLength:
    """How many pairs of runs of one length are needed.

    Attributes
    ----------
    length
        As a multiple of the mean length of the given runs.
    frames, seconds
        Frames and time of a run of this length; `seconds` is None if the time of a run is unknown.
    spread
        Standard deviation of the difference between the runs of a pair, as a part of the value.
    pairs
        Pairs that find the difference with the wanted probability, or None if too many are needed.
    """

    length: float
    frames: int
    seconds: float | None
    spread: float
    pairs: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Plan(OfStatistic):
    """The numbers of pairs that find a difference, by length of a run; `plan` returns it.

    Attributes
    ----------
    key
        Span and statistic.
    detect
        The change to be found, as a part.
    power, confidence
        The probability to find it, and that of the intervals.
    runs
        How many runs the plan is made from.
    within, between
        Standard deviation of the statistic, as a part of its value: within a run, and from run to
        run without that. None if unknown: `within` if runs are too short, `between` of one run.
    rows
        A `PlannedLength` for each length; only for that of the given runs if `within` is not known.
    doubts
        Sentences on runs that consist of several recordings.
    """

    key: Key
    detect: float
    power: float
    confidence: float
    runs: int
    within: float | None
    between: float | None
    rows: tuple[PlannedLength, ...]
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Plan for {'.'.join(self.key)}: {self.detect:+.1%}>"

    @property
    def sentence(self) -> str:
        """The number of pairs of the given length, in one sentence."""
        row = next(row for row in self.rows if row.length == 1)
        name = ".".join(self.key)
        if self.within is None and self.between is None:
            return "how many pairs are needed is unknown: one run, too short to know its variation"
        if row.pairs is None:
            return f"a change of {name} by {self.detect:+.1%} is not found by {MOST_PAIRS:,} pairs"
        at_least = "at least " if self.between is None else ""
        return (
            f"{at_least}{counted(row.pairs, 'pair')} of runs as long as these find a change of "
            f"{name} by {self.detect:+.1%} with a probability of {self.power:.0%}"
        )

    def sections(self) -> list[Section]:
        """Return what is shown: the sentence, the variation, a row for each length."""
        lines = []
        if self.between is None:
            lines.append(
                "the variation from run to run is unknown from one run, so more pairs are needed; "
                "give several runs of the same code"
            )
        else:
            lines.append(
                f"variation from run to run {self.between:.1%}, from {counted(self.runs, 'run')}"
            )
        if self.within is None:
            lines.append(
                "the variation within a run is unknown as the runs are too short, so there is no "
                "plan for other lengths"
            )
        else:
            lines.append(f"variation within a run {self.within:.1%}")
        columns = (
            Column("length", "quantity"),
            Column("frames a run", "count"),
            Column("time a run", "time"),
            Column("spread of a pair", "share"),
            Column("pairs", "count"),
            Column("time in all", "time"),
        )
        rows = []
        for row in self.rows:
            ns = None if row.seconds is None else row.seconds * 1e9
            total = None if ns is None or row.pairs is None else 2 * ns * row.pairs
            rows.append([row.length, row.frames, ns, row.spread, row.pairs, total])
        return [
            Section(self.sentence, tuple(lines), doubts=self.doubts),
            Section("", table=Table(columns, rows)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return self.head() | {
            "detect": self.detect,
            "power": self.power,
            "confidence": self.confidence,
            "runs": self.runs,
            "within": self.within,
            "between": self.between,
            "lengths": [asdict(row) for row in self.rows],
        }


def plan(
    runs: "RunLike | Iterable[RunLike]",
    *,
    detect: float = 0.05,
    statistic: "str | Key" = "end_to_end.p99",
    power: float = 0.8,
    confidence: float = 0.95,
) -> Plan:
    """Return how many pairs of runs find a change, for several lengths of a run.

    Parameters
    ----------
    runs
        Runs of the same code: traces, profiles or paths of either.
    detect
        The change to be found, as a part: 0.05 for 5 %.
    statistic
        Span and statistic, ``"decode.mean"`` or ``("decode", "mean")``.
    power
        The probability with which the change is to be found.
    confidence
        Confidence of the intervals of the comparison.

    Raises
    ------
    ProfileError
        The runs do not have the statistic, or another argument is invalid.
    TraceError
        A file is missing or is not a trace.

    Notes
    -----
    The variance of a logarithm over runs is the sum of two: that within a run, which falls with the
    length of the run, and that from run to run, which does not (Kalibera and Jones 2013).
    """
    for name, value in (("detect", detect), ("power", power), ("confidence", confidence)):
        check_share(name, value)
    return plan_runs(load_runs(runs, "run"), detect, parse_statistic(statistic), power, confidence)


def plan_runs(
    known: Sequence[Run], detect: float, statistic: Key, power: float, confidence: float
) -> Plan:
    """Plan from loaded runs: see `plan`."""
    estimates = estimates_of(known, statistic)
    values = [each.value for each in estimates]
    if min(values) <= 0:
        raise ProfileError(
            f"statistic must be above 0 in all runs, got {quoted('.'.join(statistic))} with "
            f"{min(values):g} in one run; use end_to_end.mean"
        )
    inside = [each.log_error**2 for each in estimates if each.log_error is not None]
    within = float(np.mean(inside)) if len(inside) == len(known) else None
    between: float | None = None
    if len(known) > 1:
        between = max(float(np.var(np.log(values), ddof=1)) - (within or 0.0), 0.0)
    frames, seconds = _mean_size(known)
    fewest = None if within is None and between is None else 2
    rows = []
    # without the variation within a run, nothing is known of runs of other lengths
    for length in LENGTHS if within is not None else (1.0,):
        spread = math.sqrt(2 * ((between or 0.0) + (within or 0.0) / length))
        rows.append(
            PlannedLength(
                length,
                round(frames * length),
                None if seconds is None else seconds * length,
                spread,
                _pairs(math.log1p(detect) / spread, 1 - confidence, power) if spread else fewest,
            )
        )
    return Plan(
        statistic,
        detect,
        power,
        confidence,
        len(known),
        None if within is None else math.sqrt(within),
        None if between is None else math.sqrt(between),
        tuple(rows),
        tuple(added_up_notes(known)),
    )


def _mean_size(runs: Sequence[Run]) -> tuple[float, float | None]:
    """Return the mean number of frames of a run and its mean length in seconds."""
    lengths = [run.profile.active_ns for run in runs]
    known = [ns for ns in lengths if ns]
    seconds = float(np.mean(known)) / 1e9 if len(known) == len(runs) else None
    return float(np.mean([run.profile.frames for run in runs])), seconds


def _pairs(effect: float, level: float, power: float) -> int | None:
    """Return how many pairs are needed if a sign-flip test of few pairs must agree, or None."""
    needed = pairs_needed(effect, level, power)
    while needed is not None and needed <= MOST_FLIPPED_EXACTLY:
        if verdict_power(effect, needed, level) >= power:
            break
        needed += 1
    return needed


def verdict_power(effect: float, pairs: int, level: float) -> float:
    """Return the probability that a comparison says ``worse``.

    With few pairs the sign-flip test must agree with the t test, so both are simulated together.
    Parameters are those of `power_of`.
    """
    if pairs > MOST_FLIPPED_EXACTLY or smallest_sign_flip_p(pairs) >= level:
        return power_of(effect, pairs, level)
    draws = np.random.default_rng(_SEED).standard_normal((_DRAWS, pairs)) + effect
    t = draws.mean(axis=1) / draws.std(axis=1, ddof=1) * math.sqrt(pairs)
    sums = np.abs(draws @ sign_patterns(pairs).T)
    flips = (sums >= np.abs(draws.sum(axis=1))[:, None] * (1 - 1e-12)).mean(axis=1)
    return float(((t_p_value(t, pairs - 1) <= level) & (t > 0) & (flips <= level)).mean())
