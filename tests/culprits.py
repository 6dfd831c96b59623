"""Simulated pipelines with a known culprit, and an innocent stage that takes longest by itself."""

import numpy as np
import queueing
from queueing import Station

from latprof import causes

KINDS = ("slow server", "periodic stall", "burst arrivals", "full queue", "slow network")

PERIOD = 20_000_000


def pipeline(kind, seed, frames=1_500):
    """Return a trace, the name of the culprit, and the stage that is innocent."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    count = int(rng.integers(2, 7))
    innocent = int(rng.integers(count))
    others = [i for i in range(count) if i != innocent]
    culprit = int(rng.choice(others))
    if kind == "full queue":  # it needs a station in front
        culprit = int(rng.integers(1, count))
        innocent = int(rng.choice([i for i in range(count) if i != culprit]))
    # each culprit adds at least a tenth of end to end
    starts = np.arange(frames) * PERIOD + rng.integers(0, PERIOD // 50, frames)
    stations = []
    for i in range(count):
        usual = rng.uniform(0.05, 0.35) * PERIOD
        servers = 1
        if i == innocent:
            usual = rng.uniform(0.75, 0.85) * PERIOD
            if rng.random() < 0.5:  # several servers, and longer than a period
                usual, servers = rng.uniform(1.5, 2.5) * PERIOD, 4
        noise = rng.gamma(400, 1 / 400, frames)
        service = (usual * noise).astype(np.int64)
        transport = (rng.uniform(0.01, 0.5) * PERIOD * rng.gamma(100, 0.01, frames)).astype(
            np.int64
        )
        stations.append(Station(f"s{i}", service, transport, servers))
    named = stations[culprit].name
    guilty = stations[culprit]
    if kind == "slow server":
        # its mean is below that of the innocent stage, and 6 % of its visits take several periods
        base = rng.uniform(0.2, 0.4) * PERIOD
        slow = rng.random(frames) < 0.06
        guilty.service = np.where(slow, base + rng.uniform(3, 6) * PERIOD, base).astype(np.int64)
    elif kind == "periodic stall":
        every, length = int(rng.integers(40, 80)), rng.uniform(10, 16) * PERIOD
        stalled = np.arange(frames) % every == every // 2
        guilty.service = guilty.service + np.where(stalled, length, 0).astype(np.int64)
    elif kind == "burst arrivals":
        # frames come in bursts, and queue for the slowest station with a single server
        burst = int(rng.integers(8, 14))
        starts = np.sort(np.arange(frames) // burst * burst * PERIOD)
        starts = starts + np.arange(frames) % burst * int(rng.integers(100_000, 400_000))
        for i, station in enumerate(stations):
            if i == innocent:
                station.servers = burst
                station.service = (1.5 * PERIOD * rng.gamma(400, 1 / 400, frames)).astype(np.int64)
            elif i != culprit:
                station.service = (station.service * 0.4).astype(np.int64)
        guilty.service = (rng.uniform(0.6, 0.8) * PERIOD * rng.gamma(400, 1 / 400, frames)).astype(
            np.int64
        )
    elif kind == "full queue":
        base = rng.uniform(0.3, 0.5) * PERIOD
        slow = rng.random(frames) < 0.06
        guilty.service = np.where(slow, base + rng.uniform(3, 6) * PERIOD, base).astype(np.int64)
        guilty.room = int(rng.integers(1, 3))
        guilty.transport = np.minimum(guilty.transport, PERIOD // 20)
        if stations[culprit - 1].servers > 1:
            stations[culprit - 1].servers = 1
            stations[culprit - 1].service = (
                rng.uniform(0.75, 0.85) * PERIOD * rng.gamma(400, 1 / 400, frames)
            ).astype(np.int64)
    else:
        # some frames are late, by more than the innocent stage takes: its mean is still larger
        late = rng.random(frames) < rng.uniform(0.12, 0.18)
        stations[innocent].servers = 4
        stations[innocent].service = (
            rng.uniform(1.9, 2.5) * PERIOD * rng.gamma(400, 1 / 400, frames)
        ).astype(np.int64)
        long = rng.uniform(6, 8) * PERIOD * rng.gamma(100, 0.01, frames)
        guilty.transport = np.where(late, long, PERIOD // 20).astype(np.int64)
        named = f"to_{guilty.name}"
    return queueing.trace_of(starts, stations), named, stations[innocent].name


def by_mean(trace, stages):
    """Return the stage of the largest mean."""
    means = {name: trace.span(name).mean() for name in stages}
    return max(means, key=means.__getitem__)


def rankings(kind, seeds):
    """Return how often three rankings name the culprit.

    The rankings are `Causes.held` (the culprits are erratic, not slow), the largest mean of all
    stages, and the largest mean of the stages that have a station.
    """
    named = mean = stations = 0
    for seed in seeds:
        trace, culprit, innocent = pipeline(kind, seed)
        stages = trace.pipeline.stages
        served = [stage.name for stage in stages if stage.station is not None]
        longest = by_mean(trace, served)
        assert (
            kind == "full queue" or longest == innocent
        )  # blocked time looks like that of the stage upstream
        held = causes(trace).held
        named += max(held, key=held.get) == culprit
        mean += by_mean(trace, [stage.name for stage in stages]) == culprit
        stations += longest == culprit
    return named, mean, stations
