"""Waiting for other stages, instant by instant: random pipelines and a plain loop over time.

It shares no code with the package.
"""

import random

import numpy as np

from latprof import Pipeline, Span, Trace
from latprof.frames import MISSING

FINISHED = "finished"


def drawn(seed, frames, *, troubles=False):
    """Return a random pipeline, rows of stamps (None if missing), and outcomes.

    Times are small integers: many are equal, and many stages take no time. With `troubles` some
    frames are dropped, some stamps are missing, and some are out of order.
    """
    pick = random.Random(seed)
    marks, spans = ["start"], []
    count = pick.randint(1, 6)
    for i in range(count):
        mark = "end" if i == count - 1 else "abcdef"[i]
        if pick.random() > 0.12:  # otherwise there is a gap between stages
            station = None if pick.random() < 0.4 else pick.choice("STU")
            spans.append(Span(f"s{i}", marks[-1], mark, station=station))
        marks.append(mark)
    pipeline = Pipeline("drawn", tuple(marks), tuple(spans))
    rows, outcomes, time, free = [], [], 0, {}
    for _ in range(frames):
        time += pick.randint(0, 8)
        row, at = [time], time
        for mark in marks[1:]:
            before = next((s for s in spans if s.end == mark), None)
            behind = next((s for s in spans if s.begin == mark), None)
            at += pick.choice([0, 0, pick.randint(0, 8), pick.randint(0, 16)])
            mine = None if before is None else before.station
            if behind is not None and behind.station not in (None, mine):
                at = max(at, free.get(behind.station, 0))
            if before is not None and before.station is not None:
                free[before.station] = max(free.get(before.station, 0), at)
            row.append(at)
        outcome = FINISHED
        if troubles and pick.random() < 0.15:
            outcome, last = "late", pick.randint(1, len(row) - 1)
            row = [*row[:last], *[None] * (len(row) - 1 - last), row[last - 1] + pick.randint(0, 8)]
        if troubles and pick.random() < 0.1:
            row[pick.randrange(len(row))] = None
        if troubles and pick.random() < 0.05:
            row[pick.randrange(len(row))] = pick.randint(0, time + 20)
        rows.append(row)
        outcomes.append(outcome)
    return pipeline, rows, outcomes


def trace_of(pipeline, rows, outcomes, order=None):
    """Return the trace, with its rows in the given order."""
    order = range(len(rows)) if order is None else order
    table = np.array([[MISSING if x is None else x for x in rows[i]] for i in order], np.int64)
    table = table.reshape(-1, len(pipeline.marks))
    return Trace(
        pipeline,
        frame_id=np.arange(len(table)),
        marks={mark: table[:, i].copy() for i, mark in enumerate(pipeline.marks)},
        outcome=[outcomes[i] for i in order],
        source=["ab"[i % 2] for i in order],
    )


def blocks_of(pipeline):
    """Return each station, its consecutive stages, and the hand-off directly before them."""
    stages, blocks, i = list(pipeline.stages), [], 0
    while i < len(stages):
        j = i + 1
        if stages[i].station is not None:
            while j < len(stages) and stages[j].station == stages[i].station:
                j += 1
            before = stages[i - 1] if i and stages[i - 1].end == stages[i].begin else None
            if before is not None and before.station is not None:
                before = None
            blocks.append((stages[i].station, stages[i:j], before))
        i = j
    return blocks


def visit(pipeline, stages, row, outcome):
    """Return when a frame entered and left and its time in each stage, None if it never entered.

    A dropped frame was in its last stage until it was dropped. If it is unknown when a frame left,
    only its known times count.
    """
    place = {mark: i for i, mark in enumerate(pipeline.marks)}
    first, last = place[stages[0].begin], place[stages[-1].end]
    enter, leave = row[first], row[last]
    if enter is None:
        return None
    inside = {s.name: (row[place[s.begin]], row[place[s.end]]) for s in stages}
    if outcome != FINISHED and all(x is None for x in row[last:-1]):
        leave = row[-1]
        for stage in stages:
            if all(x is None for x in row[place[stage.end] : -1]):
                inside[stage.name] = row[place[stage.begin]], leave
    if leave is None or leave < enter:
        leave = max(x for x in row[first:last] if x is not None)
        inside = {s.name: (row[place[s.begin]], row[place[s.end]]) for s in stages}
    known = {name: ns for name, ns in inside.items() if None not in ns and ns[0] <= ns[1]}
    return enter, leave, {n: (max(b, enter), min(e, leave)) for n, (b, e) in known.items()}


def servers_of(visits):
    """Return how many frames a station serves at once, 1 unless more than 1 % of them overlap."""
    visits = sorted(visits, key=lambda v: v[:2])
    odd = sum(any(v[0] < w[1] for w in visits[:i]) for i, v in enumerate(visits))
    if odd <= 0.01 * len(visits):
        return 1
    return max([1] + [sum(w[0] <= v[0] < w[1] for w in visits) for v in visits])


def blocking_time(pipeline, rows, outcomes):
    """Return by hand-off the sums by stage, and self_time; None of no frames."""
    place = {mark: i for i, mark in enumerate(pipeline.marks)}
    blocks, there = blocks_of(pipeline), {}
    for station, stages, _ in blocks:
        for row, outcome in zip(rows, outcomes, strict=True):
            found = visit(pipeline, stages, row, outcome)
            there.setdefault(station, []).extend([] if found is None else [found])
    servers = {station: servers_of(visits) for station, visits in there.items()}
    table = {}
    for handoff in pipeline.stages:
        if handoff.station is not None:
            continue
        station = next((b[0] for b in blocks if b[2] == handoff), None)
        sums, whole, frames = {"self_time": 0.0}, 0, 0
        for row, outcome in zip(rows, outcomes, strict=True):
            low, high = row[place[handoff.begin]], row[place[handoff.end]]
            if outcome != FINISHED or None in (low, high) or high < low:
                continue
            frames, whole = frames + 1, whole + high - low
            for now in range(low, high):
                inside = [v for v in there.get(station, []) if v[0] <= now < v[1]]
                if not inside or len(inside) < servers[station]:
                    continue
                for _, _, stages in inside:
                    for name, (begin, end) in stages.items():
                        if begin <= now < end:
                            sums[name] = sums.get(name, 0) + 1 / len(inside)
        sums["self_time"] = whole - sum(ns for name, ns in sums.items() if name != "self_time")
        table[handoff.name] = sums if frames else None
    return table
