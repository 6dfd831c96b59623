"""Pipelines that are simulated twice with the same draws: unchanged, and with a change."""

from dataclasses import replace

import numpy as np
import queueing
from queueing import Source, Station

from latprof.queueing.what_if import what_if

PERIOD = 20_000_000


def compared(seed, kind="quicker", frames=4_000):
    """Return (truth, replayed, by subtraction, low, high) in ns, for p50 and p99."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    starts = np.cumsum(rng.exponential(PERIOD, frames).astype(np.int64) // 2 + PERIOD // 2)
    stations = []
    for i in range(count):
        mean = rng.uniform(0.3, 0.85) * PERIOD
        service = rng.gamma(rng.uniform(1, 20), 1, frames)
        transport = rng.uniform(0.01, 3) * PERIOD * rng.gamma(400, 1 / 400, frames)
        service = (mean * service / service.mean()).astype(np.int64)
        stations.append(Station(f"s{i}", service, transport.astype(np.int64)))
    at = int(rng.integers(count))
    name = stations[at].name
    if kind == "several":
        stations[at].servers = 2
        stations[at].service *= 2
    trace = queueing.trace_of(starts, stations)
    changed, call = list(stations), {}
    if kind == "servers":
        changed[at] = replace(stations[at], servers=2)
        call = {"servers": {f"station_{name}": 2}}
    elif kind == "drop":
        limit = int(stations[at].transport.max() + rng.uniform(0.2, 2) * PERIOD)
        changed[at] = replace(stations[at], limit=limit)
        call = {"drop": {f"to_{name}": limit}}
    else:
        factor = float(rng.uniform(0.5, 0.9)) if kind != "slower" else float(rng.uniform(1.05, 1.1))
        service = np.rint(stations[at].service * factor).astype(np.int64)
        changed[at] = replace(stations[at], service=service)
        call = {"changes": {name: factor}}
    truth = queueing.simulate(Source(due=starts), changed).end_to_end
    table = what_if(trace, **call).table
    rows = {}
    for q in (50, 99):
        row = table.loc[q]
        true = float(np.percentile(truth, q, method="inverted_cdf"))
        rows[q] = (true, row["replayed"], row["subtraction"], row["low"], row["high"])
    return rows
