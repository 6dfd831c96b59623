"""Causes and what-if of simulated programs with bounded queues, against simulating them again."""

import numpy as np
import pytest

from tests.benchmarks.queues import score

POINTS = ("closed", "paused", "periodic")  # of which what-if gives a point
RIGHT = 0.98  # share of the clear cases with a definite answer in which the cause must be right
DEFINITE = {"irregular": 0.7}  # share of the clear cases with a definite answer; all of others
MEDIAN = 0.005  # error of mean, p50 and p99, at the median
MOST = dict.fromkeys(POINTS, 0.02) | {"batch": 0.1}  # the same, at the 95th percentile
INSIDE = 0.93  # share of the true values in the range of what-if, of irregular sources
WRONG = 0.01  # share of the rooms


def check(kind, seeds):
    """Ask about some programs and compare with the figures that must be reached."""
    scores = [score(kind, seed) for seed in seeds]
    clear = [s for s in scores if s.is_clear]
    definite = [s for s in clear if s.is_definite]
    missed = [(s.seed, s.best, s.named) for s in definite if not s.is_right]
    assert clear
    assert len(definite) >= DEFINITE.get(kind, 1) * len(clear)
    assert len(missed) <= (1 - RIGHT) * len(definite), missed
    assert all(s.is_right for s in clear if not s.is_definite)  # the best stage is among the named
    rooms = [(true, read) for s in scores for true, read in s.rooms if read is not None]
    if kind != "pool":  # a pool that never overlaps is read as one server with more room
        assert sum(true != read for true, read in rooms) <= WRONG * len(rooms)
    if kind in MOST:
        errors = [x for s in scores for x in s.errors["what-if"]]
        assert np.median(errors) <= MEDIAN
        assert np.percentile(errors, 95) <= MOST[kind], max(s.worst for s in scores)
    inside = [x for s in scores for x in s.inside]
    assert kind in MOST or np.mean(inside) >= INSIDE


@pytest.mark.parametrize("kind", [*POINTS, "irregular", "batch"])
def test_a_few_programs_against_their_simulation(kind):
    check(kind, range(3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*POINTS, "irregular", "batch"])
def test_many_programs_against_their_simulation(kind):
    check(kind, range(3, 40))
