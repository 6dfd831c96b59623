"""What-if of real programs against the changed program: threads, bounded queues, an event loop.

    python -m tests.benchmarks.real [--programs images ...] [--recordings 5] [--frames 600]

The stages of a program sleep, or hash (which computes without the interpreter lock), for times
that are drawn once. Each program is recorded unchanged and with three changes in turn, five times
each. The error of a forecast is |predicted - measured| / measured mean end to end, of the medians;
beside it the error of subtraction, and by how much two recordings of the unchanged program differ.
It is meant for a quiet machine: utilization is that of the process.

Below the table: a program that saturates the processor, for which what-if must warn, and a service
in one event loop, of which no station must be named.
"""

import argparse
import asyncio
import hashlib
import itertools
import queue
import statistics
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

from latprof import Pipeline, Profiler, Trace, causes, utilization, what_if
from latprof.queueing.suggestions import suggest_stations
from tests.benchmarks.generated import machine, table

BLOCK = bytes(1 << 22)


@dataclass(frozen=True)
class Stage:
    """A stage that sleeps or hashes for `ms` on average, in one or more threads."""

    name: str
    ms: float
    spread: float = 0.0  # of the logarithm
    hashes: bool = False
    room: int = 0  # of the queue in front of it; 0 is unbounded
    threads: int = 1


@dataclass(frozen=True)
class Program:
    """A source and stages. Without `period` the source starts a frame after each put."""

    name: str
    source: Stage
    stages: tuple[Stage, ...]
    changes: tuple[tuple[str, float], ...]
    period_ms: float = 0.0
    irregular: bool = False
    pauses: float = 0.0  # share of the frames before which a closed source pauses

    @property
    def pipeline(self) -> Pipeline:
        names, stations = [self.source.name], {self.source.name: self.source.name}
        for stage in self.stages:
            names += [f"q_{stage.name}", stage.name]
            stations[stage.name] = f"{stage.name}_thread"
        return Pipeline.chain(self.name, *names, stations=stations)


PROGRAMS = (
    Program(
        "images",  # closed, the last stage is the slowest
        Stage("load", 1.0),
        (Stage("decode", 2.0, room=8), Stage("resize", 2.5, room=8), Stage("encode", 3.2, room=8)),
        (("encode", 0.9), ("encode", 0.6), ("decode", 0.5)),
    ),
    Program(
        "tight",  # rooms of one, widely spread
        Stage("load", 1.5, 0.3),
        (
            Stage("parse", 2.0, 0.5, room=1),
            Stage("index", 3.0, 0.5, room=1),
            Stage("write", 2.0, 0.3, room=1),
        ),
        (("index", 0.8), ("parse", 0.5), ("write", 0.5)),
    ),
    Program(
        "camera",  # periodic, held now and then
        Stage("grab", 0.3),
        (
            Stage("detect", 3.0, 0.4, room=4),
            Stage("track", 2.0, 0.3, room=4),
            Stage("draw", 1.0, room=4),
        ),
        (("detect", 0.9), ("detect", 0.7), ("track", 0.7)),
        period_ms=3.6,
    ),
    Program(
        "pauses",  # closed with pauses
        Stage("read", 1.0, 0.2),
        (
            Stage("unpack", 2.0, 0.2, room=16),
            Stage("check", 3.0, 0.2, room=16),
            Stage("store", 1.5, 0.2, room=16),
        ),
        (("check", 0.9), ("check", 0.7), ("unpack", 0.7)),
        pauses=0.03,
    ),
    Program(
        "hashes",  # stages that compute, with less than 1.5 cores in all
        Stage("load", 1.0),
        (
            Stage("hash", 1.2, 0.3, hashes=True, room=4),
            Stage("send", 3.0, 0.2, room=4),
            Stage("sign", 1.2, 0.3, hashes=True, room=4),
        ),
        (("send", 0.9), ("send", 0.7), ("hash", 0.5)),
    ),
    Program(
        "pool",  # two threads serve one queue
        Stage("load", 1.0, 0.2),
        (
            Stage("split", 1.5, 0.2, room=4),
            Stage("encode", 6.0, 0.3, room=4, threads=2),
            Stage("join", 1.5, 0.2, room=4),
        ),
        (("encode", 0.9), ("encode", 0.6), ("split", 0.7)),
    ),
    Program(
        "computes",  # the slowest stage computes
        Stage("load", 0.5),
        (
            Stage("decode", 1.0, 0.2, room=8),
            Stage("encode", 3.0, 0.2, hashes=True, room=8),
            Stage("send", 1.5, 0.2, room=2),
        ),
        (("encode", 0.9), ("encode", 0.7), ("decode", 0.5)),
    ),
    Program(
        "requests",  # irregular arrivals, unbounded queues
        Stage("accept", 0.2),
        (Stage("handle", 2.2, 0.5), Stage("reply", 1.0, 0.3)),
        (("handle", 0.9), ("handle", 0.7), ("reply", 0.5)),
        period_ms=3.2,
        irregular=True,
    ),
)

SATURATED = Program(
    "saturated",
    Stage("load", 0.2),
    tuple(Stage(name, 3.0, 0.1, hashes=True, room=4) for name in ("one", "two", "three", "four")),
    (("two", 0.7),),
)


def bytes_per_ms() -> float:
    """Return how much this machine hashes in a millisecond."""
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        hashlib.sha256(BLOCK)
        times.append(time.perf_counter() - begin)
    return len(BLOCK) / min(times) / 1e3


def work_of(stage: Stage, frames: int, factor: float, speed: float) -> list[float]:
    """Return seconds to sleep, or bytes to hash, by frame; the same draws for all factors."""
    rng = np.random.default_rng(sum(stage.name.encode()))
    draws = np.exp(rng.normal(0, stage.spread, frames) - stage.spread**2 / 2)
    times = stage.ms * factor * draws
    return (times * speed).tolist() if stage.hashes else (times / 1e3).tolist()


def record(program: Program, frames: int, change: tuple[str, float], speed: float):
    """Run the program; return its trace and the utilization of the processor in cores."""
    profiler = Profiler(program.pipeline, capacity=1 << 14)
    queues = [queue.Queue(stage.room) for stage in program.stages]

    def work(stage: Stage, amount: float) -> None:
        if stage.hashes:
            hashlib.sha256(memoryview(BLOCK)[: int(amount)])
        else:
            time.sleep(amount)

    def amounts(stage: Stage) -> list[float]:
        return work_of(stage, frames, change[1] if stage.name == change[0] else 1.0, speed)

    def serve(k: int, by_frame: list[float]) -> None:
        stage = program.stages[k]
        last = k + 1 == len(program.stages)
        following = None if last else program.stages[k + 1]
        while (item := queues[k].get()) is not None:
            number, frame = item
            frame.mark(stage.name)
            work(stage, by_frame[number])
            if following is None:
                frame.finish()
            else:
                frame.mark(f"q_{following.name}")
                queues[k + 1].put(item)

    def load() -> None:
        rng = np.random.default_rng(1)
        by_frame, first = amounts(program.source), program.stages[0].name
        gaps = np.full(frames, program.period_ms / 1e3)
        if program.irregular:
            gaps = rng.exponential(program.period_ms / 1e3, frames)
        due = time.perf_counter() + np.cumsum(gaps)
        pauses = np.where(rng.random(frames) < program.pauses, rng.exponential(0.05, frames), 0)
        for number in range(frames):
            wait = due[number] - time.perf_counter() if program.period_ms else pauses[number]
            if wait > 0:
                time.sleep(wait)
            frame = profiler.frame(number)
            frame.mark(program.source.name)
            work(program.source, by_frame[number])
            frame.mark(f"q_{first}")
            queues[0].put((number, frame))

    begin, cpu = time.perf_counter(), time.process_time()
    with profiler:
        pools = [
            [threading.Thread(target=serve, args=(k, amounts(stage))) for _ in range(stage.threads)]
            for k, stage in enumerate(program.stages)
        ]
        for thread in itertools.chain(*pools):
            thread.start()
        load()
        for k, pool in enumerate(pools):
            for _ in pool:
                queues[k].put(None)
            for thread in pool:
                thread.join()
    cores = (time.process_time() - cpu) / (time.perf_counter() - begin)
    return profiler.trace(), cores


def mean_of(trace: Trace) -> float:
    """Return the mean end to end in ns."""
    return float((trace.marks["end"] - trace.marks["start"]).mean())


@dataclass
class Outcome:
    """A change of a program: errors as parts of the measured mean."""

    row: list[str]
    error: float
    subtraction: float


def compare(program: Program, recordings: int, frames: int, speed: float):
    """Return an Outcome for each change, and by how much unchanged recordings differ."""
    unchanged, changed, cores = [], {change: [] for change in program.changes}, []
    for _ in range(recordings):
        trace, used = record(program, frames, ("", 1.0), speed)
        unchanged.append(trace)
        cores.append(used)
        for change in program.changes:
            changed[change].append(mean_of(record(program, frames, change, speed)[0]))
    before = [mean_of(trace) for trace in unchanged]
    differ = [abs(a - b) / b for a, b in itertools.combinations(before, 2)] or [0.0]
    outcomes = []
    for change, after in changed.items():
        results = [what_if(trace, dict([change])) for trace in unchanged]
        measured = statistics.median(after)
        predicted, subtracted = (
            statistics.median(result.mean[name] for result in results)
            for name in ("replayed", "subtraction")
        )
        error, plain = (abs(x - measured) / measured for x in (predicted, subtracted))
        warned = sum(bool(result.warning) for result in results)
        row = [
            program.name,
            f"{change[0]} x {change[1]:g}",
            f"{statistics.median(cores):.2f}",
            *(f"{x / 1e6:.2f}" for x in (statistics.median(before), measured, predicted)),
            f"{error:.1%}",
            f"{plain:.1%}",
            f"{statistics.median(differ):.1%}",
            f"{warned} of {len(results)}",
        ]
        outcomes.append(Outcome(row, error, plain))
    return outcomes, differ, unchanged


HEADER = [
    "program",
    "change",
    "cores used",
    "before, ms",
    "measured, ms",
    "predicted, ms",
    "error",
    "by subtraction",
    "two recordings differ",
    "warned",
]


def service(requests: int = 600) -> Trace:
    """Return the recording of a service in one event loop; its stages wait for others."""
    pipeline = Pipeline.chain("service", "query", "render", "send")
    profiler = Profiler(pipeline)
    rng = np.random.default_rng(3)
    gaps, query = rng.exponential(0.002, requests), rng.exponential(0.008, requests)

    async def request(number: int) -> None:
        with profiler.frame(number) as frame:
            frame.mark("query")
            await asyncio.sleep(query[number])
            frame.mark("render")
            hashlib.sha256(memoryview(BLOCK)[: 1 << 17])
            frame.mark("send")
            await asyncio.sleep(0.003)

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(requests):
                group.create_task(request(number))
                await asyncio.sleep(gaps[number])

    with profiler:
        asyncio.run(serve())
    return profiler.trace()


def main(arguments: list[str] | None = None) -> int:
    """Record, ask, and print a table."""
    names = [program.name for program in PROGRAMS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", nargs="*", default=names, choices=names)
    parser.add_argument("--recordings", type=int, default=5)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--causes", action="store_true", help="also print what causes says")
    options = parser.parse_args(arguments)
    speed, errors, plain, differ, rows = bytes_per_ms(), [], [], [], []
    sentences = []
    for program in PROGRAMS:
        if program.name not in options.programs:
            continue
        outcomes, apart, traces = compare(program, options.recordings, options.frames, speed)
        rows += [outcome.row for outcome in outcomes]
        errors += [outcome.error for outcome in outcomes]
        plain += [outcome.subtraction for outcome in outcomes]
        differ += apart
        sentences.append(f"{program.name}: {causes(traces[0]).sentence}")
    print(machine("numpy"))
    print(f"{options.frames} frames, medians of {options.recordings} recordings a side")
    if rows:
        print(table(HEADER, rows))
        for name, values in (
            ("what-if", errors),
            ("subtraction", plain),
            ("two recordings", differ),
        ):
            middle, most = np.percentile(values, [50, 95])
            print(f"{name}: median error {middle:.1%}, 95th percentile {most:.1%}")
    if options.causes:
        print(*sentences, sep="\n")
    (outcome,), _, traces = compare(SATURATED, 1, options.frames, speed)
    print(f"\nThe processor is saturated ({outcome.row[2]} cores used):")
    warning = what_if(traces[0], dict(SATURATED.changes)).warning
    print(f"error {outcome.error:.1%}; {warning or 'NO WARNING'}")
    trace = service()
    print("\nA service in one event loop:")
    print(f"{causes(trace).sentence}; stations suggested: {len(suggest_stations(trace))}")
    print(utilization(trace, stations={"query": "loop", "send": "loop"}))
    named = dict.fromkeys(("query", "render", "send"), "loop")
    for stations in ({name: name for name in named}, named):
        print(f"with stations {stations}: {causes(trace, stations=stations).sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
