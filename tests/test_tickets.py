"""Tickets: what a row keeps of its commit number, and what is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.ring.numbers import NO_NUMBER, Tickets

ROW = np.dtype([("begin", "<u8"), ("x", "<u8"), ("seq", "<u8")])


@given(st.integers(1, 2**31), st.integers(1, 2_000).map(lambda n: 8 * n), st.integers(1, 2**20))
def test_a_ticket_is_its_rows_offset_laps_further_on(capacity: int, width: int, n: int) -> None:
    tickets = Tickets(capacity, width)
    assert tickets.of(n) % (capacity * width) == (n - 1) % capacity * width
    assert tickets.number(tickets.of(n)) == n
    assert tickets.of_all(np.array([n], np.uint64)).tolist() == [tickets.of(n)]


def test_tickets_are_drawn_one_after_the_other() -> None:
    tickets = Tickets(3, 64)
    assert tickets.drawn == 0
    assert [next(tickets.supply) for _ in range(4)] == [192, 256, 320, 384]
    assert tickets.drawn == 4


@pytest.mark.parametrize(
    ("begin", "seq", "numbers"),
    [
        (0, 0, (0, 0)),  # never written
        (192, 192, (1, 1)),
        (192 + 64 * 9, 192, (10, 1)),  # being written over
        (192, 0, (1, 0)),
        (193, 193, (0, NO_NUMBER)),  # between two slots
        (128, 128, (0, NO_NUMBER)),  # before the first
        (64, 192, (0, NO_NUMBER)),
        (2**64 - 1, 2**64 - 1, (0, NO_NUMBER)),
        (2**64 - 64, 2**64 - 64, (2**58 - 3, 2**58 - 3)),  # the last one there is
    ],
)
def test_numbers_of_rows(begin: int, seq: int, numbers: tuple[int, int]) -> None:
    rows = np.array([(begin, 7, seq), (256, 8, 256)], ROW)
    Tickets(3, 64).to_numbers(rows)
    assert (int(rows["begin"][0]), int(rows["seq"][0])) == numbers
    assert rows[1].item() == (2, 8, 2)
    assert rows["x"].tolist() == [7, 8]
