"""Compares the hosts of a fleet: which of them differ by more than chance explains."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latprof.accounts import REPEATED
from latprof.comparing.by_host import Recordings, recordings_by_host
from latprof.comparing.outliers import FEWEST_VALUES, Population, benjamini_hochberg
from latprof.comparing.runs import (
    MISSES,
    THROUGHPUT,
    Estimate,
    Key,
    OfStatistic,
    RunLike,
    parse_statistic,
    statistic_of,
)
from latprof.errors import LatprofError, ProfileError
from latprof.fold.intervals import Z_95
from latprof.profile.doubts import COUNTED
from latprof.profile.profile import Profile
from latprof.table import Cell, Column, Section, Table, data_frame
from latprof.text import clip, counted, listed, quoted, shown_path
from latprof.units import format_change, format_ns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FASTER", "NOT_JUDGED", "SLOWER", "USUAL", "Fleet", "HostResult", "fleet", "shown_host"]

SLOWER, FASTER, USUAL, NOT_JUDGED = "slower", "faster", "as others", "not judged"

UNKNOWN = "(unknown)"
"""The host of recordings that do not name one."""

MOST_SHOWN = 20  # hosts in a table of text
_NAMED = 3  # hosts in a sentence
_SHOWN = 30  # characters of a name in a table


# -- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostResult:
    """A statistic of the frames of one host, in ns.

    Attributes
    ----------
    host
        Its name; "(unknown)" for recordings that name none.
    recordings, frames
        How many profiles and traces it has, and how many finished frames are in them.
    value, low, high
        The statistic and its 95 % interval, from the host's own frames; None if unknown.
    ratio
        ``value`` divided by that of a typical host; None if that is unknown.
    deviation
        Distance from the typical host on a logarithmic scale, in standard deviations: those of the
        usual differences between hosts and of the host's own error together. None if not judged.
    p_value
        Adjusted for the false discovery rate; None if not judged.
    verdict
        ``"slower"``, ``"faster"``, ``"as others"`` or ``"not judged"``.
    note
        Why the host is not judged.
    """

    host: str
    recordings: int
    frames: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    deviation: float | None = None
    p_value: float | None = None
    verdict: str = NOT_JUDGED
    note: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Fleet(OfStatistic):
    """A statistic by host, and the hosts that differ; `fleet` returns it.

    Attributes
    ----------
    key
        Span and statistic.
    hosts
        A `HostResult` for each host: those that differ, then the others from the largest deviation
        to the smallest, then those that are not judged.
    typical
        The statistic of a typical host in ns; None if there are too few hosts.
    spread
        Standard deviation between hosts, as a part of the typical value, without the error of each
        host's own frames. None if there are too few hosts.
    found_from
        A single host is found if its value is this many times the typical one. None if there are
        too few hosts.
    false_discovery_rate
        As given to `fleet`: the part of the named hosts that is expected to be there by chance.
    doubts
        Sentences on why the answer may be wrong.
    """

    key: Key
    hosts: tuple[HostResult, ...]
    typical: float | None
    spread: float | None
    found_from: float | None
    false_discovery_rate: float
    doubts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Fleet of {counted(len(self.hosts), 'host')}: {'.'.join(self.key)}>"

    @property
    def differing(self) -> tuple[HostResult, ...]:
        """The hosts that differ, from the largest deviation to the smallest."""
        return tuple(each for each in self.hosts if each.verdict in (SLOWER, FASTER))

    @property
    def judged(self) -> tuple[HostResult, ...]:
        """The hosts that are compared with the others."""
        return tuple(each for each in self.hosts if each.verdict != NOT_JUDGED)

    @property
    def sentence(self) -> str:
        """Which hosts differ, in one sentence."""
        name, judged, found = ".".join(self.key), len(self.judged), self.differing
        if not judged:
            usable = sum(each.low is not None for each in self.hosts if each.host != UNKNOWN)
            return (
                f"comparing hosts by {name} needs {FEWEST_VALUES} hosts with an interval, got "
                f"{usable}"
            )
        if not found:
            return f"no host of {judged:,} differs in {name} by more than chance explains"
        named = [f"{shown_host(each.host)} ({format_change(each.ratio)})" for each in found]
        verb = "differs" if len(found) == 1 else "differ"
        return f"{len(found):,} of {judged:,} hosts {verb} in {name}: {listed(named, _NAMED)}"

    def table(self) -> "pd.DataFrame":
        """Return a DataFrame indexed by host, with the fields of `HostResult`; times in ns."""
        types = {"host": None, "recordings": "int64", "frames": "int64"}
        types |= {"verdict": "object", "note": "object"}
        return data_frame([asdict(each) for each in self.hosts], "host", types)

    def sections(self, *, most: int = MOST_SHOWN) -> list[Section]:
        """Return what is shown: the sentence, the typical host, the hosts that deviate most.

        Parameters
        ----------
        most
            Largest number of hosts in the table; a line below it sums up the others.
        """
        judged = self.judged
        parts = [Section(self.sentence, tuple(self._usual()), key="summary", doubts=self.doubts)]
        rows = judged or self.hosts
        lines = [*_others(judged[most:]), *self._not_judged()]
        table = _table(self.key[1], rows[:most])
        return [*parts, Section("Hosts", tuple(lines), table, key="hosts")]

    def _usual(self) -> Iterator[str]:
        """Yield lines on the typical host and on the differences that would be found."""
        if self.typical is None or self.spread is None or self.found_from is None:
            return
        yield (
            f"typical host: {format_ns(self.typical)}; hosts vary around it by "
            f"{self.spread * 100:.2g} % (standard deviation, without the error of their own frames)"
        )
        yield (
            f"false discovery rate {self.false_discovery_rate * 100:.3g} %: that part of the "
            "hosts named is expected to be there by chance; a single host is found if it is "
            f"{(self.found_from - 1) * 100:.2g} % slower"
        )

    def _not_judged(self) -> Iterator[str]:
        """Yield a line for each reason why hosts are not judged, with the note of the first one."""
        reasons: dict[str, list[HostResult]] = {}
        for each in self.hosts:
            if each.note:
                reasons.setdefault(each.note.partition(":")[0], []).append(each)
        for hosts in reasons.values():
            named = listed([shown_host(each.host) for each in hosts], _NAMED)
            yield f"{counted(len(hosts), 'host')} not judged: {named}; {hosts[0].note}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON can hold."""
        return self.head() | {
            "typical": self.typical,
            "spread": self.spread,
            "found_from": self.found_from,
            "false_discovery_rate": self.false_discovery_rate,
            "differing": [each.host for each in self.differing],
            "hosts": [asdict(each) for each in self.hosts],
        }


def shown_host(name: str) -> str:
    r"""Return the name of a host as a table shows it: escaped, without the middle if it is long.

    Examples
    --------
    >>> print(shown_host("web-7"), shown_host("web\n7"), shown_host("a" * 90 + ".example.org"))
    web-7 web\n7 aaaaaaaaaaaaa...a.example.org
    """
    return shown_path(name, _SHOWN)


def _table(statistic: str, hosts: Sequence[HostResult]) -> Table:
    """Return a table with a row for each host; with numbers of recordings unless all are 1."""
    several = any(each.recordings > 1 for each in hosts)
    columns = (
        Column("host", "text"),
        *([Column("recordings", "count")] if several else []),
        Column("frames", "count"),
        Column(statistic, "time"),
        Column("interval"),
        Column("to typical"),
        Column("adjusted p"),
        Column("verdict"),
    )
    return Table(columns, [_row(each, several) for each in hosts])


def _row(each: HostResult, several: bool) -> list[Any]:
    """Return the cells of a host."""
    interval = "-"
    if each.low is not None and each.high is not None:
        interval = f"{format_ns(each.low)} to {format_ns(each.high)}"
    return [
        shown_host(each.host),
        *([each.recordings] if several else []),
        each.frames,
        each.value,
        interval,
        "-" if each.ratio is None else f"{each.ratio - 1:+.1%}",
        "-" if each.p_value is None else _p_value(each.p_value),
        Cell(each.verdict, level={SLOWER: "critical", FASTER: "warning"}.get(each.verdict, "")),
    ]


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _others(hosts: Sequence[HostResult]) -> Iterator[str]:
    """Yield a line on the judged hosts that are not in the table, and how far from typical."""
    ratios = [each.ratio for each in hosts if each.ratio is not None]
    if ratios:
        found = sum(each.verdict != USUAL for each in hosts)
        differing = f", of which {found:,} differ" if found else ""
        yield (
            f"{counted(len(hosts), 'more host')}{differing}, from {min(ratios) - 1:+.1%} to "
            f"{max(ratios) - 1:+.1%}; JSON and table() have all"
        )


def fleet(
    recordings: "RunLike | Iterable[RunLike]",
    *,
    statistic: "str | Key" = "end_to_end.p99",
    false_discovery_rate: float = 0.05,
) -> Fleet:
    """Return a statistic by host, and the hosts that differ by more than chance explains.

    The recordings of a host are merged first. On a logarithmic scale, the values of most hosts are
    taken to be normally distributed around a common centre. Their spread has two parts: how much
    hosts usually differ, and the error of each host's own frames, which allows for frames that are
    slow together (see `latprof.comparing.outliers`). A host differs if its distance from the centre
    is larger than both explain. All hosts are tested at once, at the given false discovery rate
    (Benjamini and Hochberg 1995). If fewer than 8 hosts have an interval, none is judged; if a
    fifth of them are apart from the others, only large differences are found.

    Parameters
    ----------
    recordings
        Profiles, traces, or paths of either, also folders and globs; thousands of saved profiles
        are read host by host. The host is the one on which they were recorded.
    statistic
        The mean or a percentile of a span: ``"decode.mean"``, ``("end_to_end", "p99")``.
    false_discovery_rate
        The part of the named hosts that may be there by chance, above 0 and below 1.

    Raises
    ------
    ProfileError
        No recordings, a statistic that a host does not have, profiles of one host that do not fit,
        or an invalid argument.
    TraceError
        A file is missing or is not a trace.

    Examples
    --------
    >>> import numpy as np
    >>> from latprof import Pipeline, Trace, fleet
    >>> mic = Pipeline("mic", ("start", "end"))
    >>> start = np.arange(4_000) * 1_000_000
    >>> def trace(host, ns):
    ...     took = np.random.default_rng(ns).gamma(9, ns / 9, len(start)).astype(int)
    ...     marks = {"start": start, "end": start + took}
    ...     return Trace(mic, frame_id=range(len(start)), marks=marks, meta={"host": host})
    >>> found = fleet([trace(f"web-{i}", 300_000 + 200_000 * (i == 7)) for i in range(20)])
    >>> found.hosts[0].host, found.hosts[0].verdict, len(found.differing)
    ('web-7', 'slower', 1)
    """
    rate = false_discovery_rate
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1:
        raise ProfileError(f"false_discovery_rate must be between 0 and 1, got {quoted(rate)}")
    key = parse_statistic(statistic)
    if key[1] in (THROUGHPUT, MISSES):
        raise ProfileError(
            f"statistic must be the mean or a percentile of a span, got {quoted('.'.join(key))}, "
            "which has no interval; use one such as end_to_end.p99"
        )
    found = recordings_by_host(recordings)
    doubts = found.doubts()
    kinds, times, results, repeated = set(), [], [], 0
    for host, sources in found.hosts.items():
        profile = _profile_of(host, sources)
        results.append(_result(host, len(sources), profile, key))
        kinds.add(profile.pipeline)
        repeated += profile.accounts.notes.get(REPEATED, 0)
        if profile.sums.first_ns is not None and profile.sums.last_ns is not None:
            times.append((profile.sums.first_ns, profile.sums.last_ns))
    if repeated:
        doubts.append(COUNTED[REPEATED].format(n=repeated))
    if len(kinds) > 1:
        doubts.append(f"the pipelines of the hosts differ; only {'.'.join(key)} is compared")
    if times and max(begin for begin, _ in times) > min(end for _, end in times):
        doubts.append(
            "not all hosts were recorded at the same time, and their load may have differed"
        )
    return _judged(key, results, rate, tuple(doubts))


def _profile_of(host: str, recordings: Recordings) -> Profile:
    try:
        return recordings.profile()
    except LatprofError as error:
        raise type(error)(f"host {clip(host or UNKNOWN)}: {error}") from None


def _result(host: str, recordings: int, profile: Profile, key: Key) -> HostResult:
    """Return the statistic of a host that is not judged yet."""
    name, estimate = host or UNKNOWN, statistic_of(profile, key)
    if estimate is None and key[0] not in profile.spans:
        raise ProfileError(
            f"statistic must be one that all hosts have, got {quoted('.'.join(key))}, which "
            f"{clip(name)} lacks; its spans are {', '.join(profile.spans)}"
        )
    counts = (name, recordings, profile.frames)
    if estimate is None:
        return HostResult(*counts, note="its value is not known")
    low, high, note = estimate.low, estimate.high, _lacking(host, estimate)
    return HostResult(*counts, estimate.value, low, high, note=note)


def _lacking(host: str, estimate: Estimate) -> str:
    """Return why a host cannot be judged, or an empty text."""
    if not host:
        return "their host is unknown"
    if estimate.log_error is None:
        return f"no interval: {estimate.note or 'its lower end is 0'}"
    return ""


def _judged(key: Key, results: Sequence[HostResult], rate: float, doubts: tuple[str, ...]) -> Fleet:
    """Return the hosts with their verdicts, in order."""
    usable = [each for each in results if not each.note]
    if len(usable) < FEWEST_VALUES:
        note = f"fewer than {FEWEST_VALUES} hosts have an interval"
        rest = (replace(each, note=each.note or note) for each in results)
        return Fleet(key, tuple(sorted(rest, key=_name)), None, None, None, rate, doubts)
    values = np.log([each.value or 1.0 for each in usable])
    reach = np.log([(each.high or 1.0) / (each.low or 1.0) for each in usable])
    errors = reach / (2 * Z_95)
    known = Population.of(values, errors)
    typical = math.exp(known.center)
    deviations = known.distances(values, errors)
    adjusted = benjamini_hochberg(known.p_values(values, errors))
    judged = []
    for each, deviation, p_value in zip(usable, deviations, adjusted, strict=True):
        verdict = USUAL if p_value > rate else SLOWER if deviation > 0 else FASTER
        judged.append(
            replace(each, deviation=float(deviation), p_value=float(p_value), verdict=verdict)
        )
    judged.sort(key=lambda each: (each.verdict == USUAL, -abs(each.deviation or 0), each.host))
    ordered = [*judged, *sorted((each for each in results if each.note), key=_name)]
    least = math.exp(known.found_from(float(np.median(errors)), rate / len(usable)))
    return Fleet(
        key,
        tuple(replace(each, ratio=_ratio(each, typical)) for each in ordered),
        typical,
        known.spread,
        least,
        rate,
        doubts,
    )


def _ratio(each: HostResult, typical: float) -> float | None:
    return None if each.value is None else each.value / typical


def _name(each: HostResult) -> str:
    return each.host
