"""Causes and what-if of simulated programs with bounded queues, against simulating them again.

    python -m tests.benchmarks.queues [--seeds 200] [--kinds closed pool] [--jobs 2] [--worst 3]

Each program is simulated again with each stage a tenth quicker, with the same random draws. The
table is about the clear cases for causes: those in which the best stage helps 1.5 times as much as
the next. It shows for each kind how many of them have a definite answer, which names one stage, and
how many of these answers are right; and of the others how often the best stage is among those that
are named. It also shows the error of the mean, p50 and p99 of end to end, of
what-if, of a replay with unbounded queues and of subtraction; how often the true value is in the
range that what-if shows; and how many rooms were read, and how many of them are wrong. A forecast
that what-if refuses is counted, and has no error.
"""

import argparse
import heapq
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latprof import LatprofError, causes, what_if
from tests.benchmarks.generated import machine, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from programs import KINDS, LESS, Program, program

METHODS = ("what-if", "unbounded", "subtraction")
VALUES = ("mean", "p50", "p99")


@dataclass
class Score:
    """What was right and wrong about one program."""

    kind: str
    seed: int
    is_clear: bool
    best: str
    named: tuple[str | None, ...]
    errors: dict[str, list[float]] = field(default_factory=lambda: {m: [] for m in METHODS})
    inside: list[bool] = field(default_factory=list)
    refused: int = 0
    rooms: list[tuple[int | None, int | None]] = field(default_factory=list)  # true, read
    worst: tuple[float, str] = (0.0, "")

    @property
    def is_definite(self) -> bool:
        """Whether the answer names one stage as the cause."""
        return len(self.named) == 1

    @property
    def is_right(self) -> bool:
        """Whether the best stage is named."""
        return self.best in self.named


def summary(ordered):
    """Return mean, p50 and p99 of sorted times in ns."""
    ranks = [max(-(-len(ordered) * q // 100), 1) - 1 for q in (50, 99)]
    return np.array([ordered.mean(), *ordered[ranks]], np.float64)


def unbounded(this: Program, stage: str):
    """Return end to end (sorted) by a replay that gives all queues room, and keeps the starts."""
    run, arrive = this.run, this.run.sent.copy()
    was = arrive.copy()
    if stage == this.source.name:
        arrive = arrive - np.rint((run.sent - run.start) * LESS).astype(np.int64)
    for station in this.stations:
        begin, done = run.begin[station.name], run.done[station.name]
        service = done - begin
        if station.name == stage:
            service = service - np.rint(service * LESS).astype(np.int64)
        free, free_before = ([-(1 << 62)] * station.servers for _ in range(2))
        end = np.zeros_like(arrive)
        for frame in np.argsort(begin, kind="stable").tolist():
            # what it waited besides queueing is kept
            gap = begin[frame] - max(was[frame], heapq.heappop(free_before))
            end[frame] = max(arrive[frame], heapq.heappop(free)) + max(gap, 0) + service[frame]
            heapq.heappush(free_before, int(done[frame]))
            heapq.heappush(free, int(end[frame]))
        arrive, was = end, done
    return np.sort(arrive - run.start)


def subtraction(this: Program, stage: str):
    """Return end to end (sorted) without a tenth of the stage."""
    run = this.run
    if stage == this.source.name:
        length = run.sent - run.start
    else:
        length = run.done[stage] - run.begin[stage]
    return np.sort(run.end_to_end - np.rint(length * LESS).astype(np.int64))


def score(kind: str, seed: int) -> Score:
    """Ask about one program."""
    this = program(kind, seed)
    found = causes(this.trace)
    result = Score(kind, seed, this.is_clear, this.best, found.named)
    read = rooms_of(found)
    result.rooms = [(room, read.get(name)) for name, room in this.rooms.items()]
    for stage in this.stages:
        true = summary(this.quicker[stage])
        forecasts = {"subtraction": summary(subtraction(this, stage))}
        if kind != "batch":  # a replay without batches is not defined
            forecasts["unbounded"] = summary(unbounded(this, stage))
        try:
            forecast = what_if(this.trace, {stage: 1 - LESS})
        except LatprofError:
            result.refused += 1
        else:
            forecasts["what-if"] = summary(forecast.replayed_ns)
            result.inside += inside(forecast, true)
        for method, values in forecasts.items():
            result.errors[method] += (np.abs(values - true) / true).tolist()
        error = np.abs(forecasts.get("what-if", true) - true) / true
        if error.max() > result.worst[0]:
            at = int(error.argmax())
            text = f"{stage} {VALUES[at]}: {forecasts['what-if'][at]:,.0f} for {true[at]:,.0f} ns"
            result.worst = float(error.max()), text
    return result


def rooms_of(found):
    """Return the rooms by hand-off that a result has read from the marks."""
    return {name: queue.room for name, queue in found.queues.items()}


def inside(forecast, true):
    """Return whether the true mean, p50 and p99 are in the range that what-if shows."""
    rows = {row["percentile"]: row for row in forecast.rows()}
    ranges = [forecast.mean, rows[50.0], rows[99.0]]
    # a forecast without other readings is a point, which rounding may miss by some ns
    return [
        bool(shown["low"] - 1 <= value <= shown["high"] + 1)
        for shown, value in zip(ranges, true, strict=True)
    ]


def _ends(values):
    if not values:
        return "-"
    middle, most = np.percentile(values, [50, 95]) * 100
    return f"{middle:.2f} / {most:.2f}"


def _share(part, whole):
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")


def row_of(scores: list[Score]) -> list[str]:
    """Return a row of the table: all programs of a kind."""
    clear = [s for s in scores if s.is_clear]
    definite, open_ = ([s for s in clear if s.is_definite is x] for x in (True, False))
    known = [(true, read) for s in scores for true, read in s.rooms if read is not None]
    wrong = sum(true != read for true, read in known)
    within = [x for s in scores for x in s.inside]
    errors = {m: [x for s in scores for x in s.errors[m]] for m in METHODS}
    return [
        scores[0].kind,
        _share(len(definite), len(clear)),
        *(_share(sum(s.is_right for s in these), len(these)) for these in (definite, open_)),
        *(_ends(errors[method]) for method in METHODS),
        f"{np.mean(within):.1%}" if within else "-",
        f"{sum(s.refused for s in scores)}",
        f"{len(known)}",
        f"{wrong}" + (f" ({wrong / len(known):.2%})" if known else ""),
    ]


HEADER = [
    "kind",
    "definite",
    "of these right",
    "of the others named",
    *(f"{method}, error % (median / 95th)" for method in METHODS),
    "in the range",
    "refused",
    "rooms read",
    "wrong",
]


def notes_of(scores: list[Score], worst: int) -> list[str]:
    """Return what is wrong: the worst forecasts, all wrong causes and all wrong rooms."""
    if not worst:
        return []
    notes = [
        f"{s.kind} {s.seed}: off by {s.worst[0]:.1%}, {s.worst[1]}"
        for s in sorted(scores, key=lambda s: -s.worst[0])[:worst]
    ]
    for s in scores:
        if s.is_clear and not s.is_right:
            notes.append(f"{s.kind} {s.seed}: the cause is {s.best}, not {s.named}")
        notes += [
            f"{s.kind} {s.seed}: room {true} was read as {read}"
            for true, read in s.rooms
            if read is not None and true != read
        ]
    return notes


def main(arguments: list[str] | None = None) -> int:
    """Simulate, ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    parser.add_argument("--worst", type=int, default=0, help="show the worst programs of a kind")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    print(machine("numpy"))
    print(f"{options.seeds} programs a kind")
    print(table(HEADER, []))
    notes = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for kind in options.kinds:
            scores = list(pool.map(score, [kind] * len(seeds), seeds))
            print(f"| {' | '.join(row_of(scores))} |", flush=True)
            notes += notes_of(scores, options.worst)
    print(*notes, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
