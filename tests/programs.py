"""Random programs of threads and queues, and the truth about each by simulating it again."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from queueing import Source, Station, simulate, trace_of_run

KINDS = (
    "closed",
    "paused",
    "periodic",
    "irregular",
    "unbounded",
    "pool",
    "batch",
    "after put",
)

UNIT = 10_000_000  # ns; a stage takes about this long
CLEAR = 1.5  # the best stage helps this number of times as much as the next one
LESS = 0.1  # part of the service that a stage loses


@dataclass
class Program:
    """A program, its recording, and what it would have been with quicker stages."""

    kind: str
    seed: int
    source: Source
    stations: list[Station]
    marked: str = "before put"

    @cached_property
    def run(self):
        return simulate(self.source, self.stations)

    @cached_property
    def trace(self):
        return trace_of_run(self.run, self.source, self.stations, marked=self.marked)

    @property
    def stages(self):
        """Names of the stages that serve."""
        source = [] if self.source.service is None else [self.source.name]
        return source + [station.name for station in self.stations]

    @property
    def rooms(self):
        """By hand-off the room of its queue, None without limit."""
        return {station.handoff: station.room for station in self.stations}

    def most_held(self, station):
        """The largest number of frames that were in the queue of a station after a put."""
        k = self.stations.index(station)
        put = self.run.left[self.stations[k - 1].name] if k else self.run.put
        order, taken = np.sort(put), np.sort(self.run.taken[station.name])
        return int((np.arange(1, len(put) + 1) - np.searchsorted(taken, order, side="right")).max())

    def again(self, changes):
        """Return (n,) end to end in ns, sorted, if the service of stages is scaled."""
        return np.sort(simulate(self.source, self.stations, changes).end_to_end)

    @cached_property
    def measured(self):
        return np.sort(self.run.end_to_end)

    @cached_property
    def quicker(self):
        """By stage: end to end if the stage is a tenth quicker, sorted."""
        return {name: self.again({name: 1 - LESS}) for name in self.stages}

    @cached_property
    def gains(self):
        """By stage: by how much the mean end to end is less if the stage is a tenth quicker."""
        mean = self.measured.mean()
        return {name: float(mean - ends.mean()) for name, ends in self.quicker.items()}

    @property
    def best(self):
        return max(self.gains, key=self.gains.__getitem__)

    @property
    def is_clear(self):
        """True if one stage helps, and helps `CLEAR` times as much as any other."""
        first, *others = sorted(self.gains.values(), reverse=True)
        return first > 0 and first >= CLEAR * max([0.0, *others])


def service(rng, mean, frames):
    """Return draws (frames,) of a random shape: constant, or little to widely spread."""
    shape = rng.choice(["constant", "narrow", "wide", "lognormal", "two kinds"])
    if shape == "constant":
        draws = np.ones(frames)
    elif shape == "narrow":
        draws = rng.gamma(100, 0.01, frames)
    elif shape == "wide":
        draws = rng.gamma(4, 0.25, frames)
    elif shape == "lognormal":
        draws = rng.lognormal(0, 0.5, frames) / np.exp(0.125)
    else:
        draws = np.where(rng.random(frames) < 0.05, 6.0, 0.75)
    return (mean * draws).astype(np.int64)


def noise(rng, usual, frames):
    """Return overheads of threads (frames,) in ns."""
    return rng.gamma(4, usual / 4, frames).astype(np.int64)


def program(kind, seed, frames=1_500):
    """Return a random `Program`: 2 to 6 stages, rooms 1 to 64, all the same or mixed.

    Half of the programs have overheads of threads.
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    count = int(rng.integers(2, 7))
    noisy = rng.random() < 0.5
    usual = float(rng.uniform(5_000, 50_000)) if noisy else 0.0
    rooms = [int(room) for room in np.exp(rng.uniform(0, np.log(65), count))]
    if rng.random() < 0.5:
        rooms = rooms[:1] * count
    stations = []
    for k in range(count):
        mean = UNIT * rng.uniform(0.3, 1.0)
        stations.append(Station(f"s{k}", service(rng, mean, frames), room=rooms[k]))
        if noisy:
            stations[k].wake, stations[k].turn, stations[k].resume = (
                noise(rng, usual, frames) for _ in range(3)
            )
    how = kind if kind in KINDS[:4] else str(rng.choice(["closed", "paused", "periodic"]))
    if kind == "unbounded":
        how = str(rng.choice(["periodic", "irregular"]))
        for station in stations:
            station.room = None
    at = int(rng.integers(count))
    if kind == "pool":
        stations[at].servers = int(rng.integers(2, 5))
        stations[at].service = stations[at].service * stations[at].servers
    if kind == "batch":
        size = int(rng.integers(2, 9))
        stations[at].batch = size
        stations[at].service = stations[at].service * size
    busiest = max(float(s.service.mean()) / s.servers / s.batch for s in stations)
    source = Source()
    if how in ("closed", "paused"):
        if rng.random() < 0.7:
            source.service = service(rng, UNIT * rng.uniform(0.1, 1.1), frames)
        source.pause = noise(rng, usual, frames)
        if how == "paused":
            away = rng.exponential(UNIT * rng.uniform(3, 20), frames)
            rare = rng.random(frames) < rng.uniform(0.02, 0.1)
            source.pause = source.pause + np.where(rare, away, 0).astype(np.int64)
    else:
        period = busiest * (
            rng.uniform(1.02, 1.4) if kind == "unbounded" else rng.uniform(0.9, 1.3)
        )
        if how == "periodic":
            source.due = (np.arange(frames) * period).astype(np.int64) + noise(rng, usual, frames)
        else:
            source.due = np.cumsum(rng.exponential(period, frames)).astype(np.int64)
        if rng.random() < 0.5:
            source.service = service(rng, UNIT * rng.uniform(0.05, 0.3), frames)
    return Program(
        kind, seed, source, stations, "after put" if kind == "after put" else "before put"
    )
