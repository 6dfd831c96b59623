"""The stated hash: the same answer in both forms, in every process, at about the asked rate."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.recorder.sampling import RUN_BITS, fnv1a, run_hash, run_hashes, threshold


def test_known_values() -> None:
    # FNV-1a as its authors publish it
    assert fnv1a("") == fnv1a(None) == 0xCBF29CE484222325
    assert fnv1a("foobar") == 0x85944171F73967E8
    # splitmix64 seeded with 0 gives this first
    assert run_hash(0, 0) == 0xE220A8397B1DCDAF
    # a promise to recordings of other versions: never to change
    assert run_hash(1, fnv1a("input")) == run_hash(1 ^ fnv1a("input"), 0)


@given(
    st.lists(st.integers(0, 2**58 - 1), min_size=1),
    st.none() | st.text(st.characters(codec="utf-8")),
)
def test_both_forms_agree(runs: list[int], source: str | None) -> None:
    vectorized = run_hashes(np.array(runs, np.uint64), np.uint64(fnv1a(source)))
    assert vectorized.tolist() == [run_hash(run, fnv1a(source)) for run in runs]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5, 0.99, 1.0])
def test_the_rate_is_what_was_asked_for(rate: float) -> None:
    runs = np.arange(100_000, dtype=np.uint64)
    hashes = run_hashes(runs, np.uint64(fnv1a("input")))
    share = sum(h < threshold(rate) for h in hashes.tolist()) / len(runs)
    # five standard deviations of a binomial of 100,000
    assert abs(share - rate) <= 5 * (rate * (1 - rate) / len(runs)) ** 0.5


def test_another_process_takes_the_same_runs() -> None:
    code = (
        "from latprof.recorder.sampling import *; "
        "print([r for r in range(200) if run_hash(r, fnv1a('input')) < threshold(0.1)])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    here = [r for r in range(200) if run_hash(r, fnv1a("input")) < threshold(0.1)]
    assert other.strip() == str(here)
    assert 5 < len(here) < 40


def test_a_run_is_64_ids() -> None:
    assert 63 >> RUN_BITS == 0
    assert 64 >> RUN_BITS == 1
