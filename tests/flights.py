"""Frames that are written into a ring and its slots one store at a time, as a recorder does.

A process may be killed, or a reader may look, after any of these stores.
"""

from collections.abc import Iterator

import numpy as np

from latprof.ring.ring import Ring


class Writer:
    """Takes slots of a ring, stamps marks and commits rows, one store after the other.

    Attributes
    ----------
    begun
        Stamps so far by frame id, of the frames that have taken a slot.
    freed
        Ids of the frames that have given their slot back.
    number
        Sequence numbers by frame id.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.slots = np.frombuffer(ring.slots, ring.dtype, ring.slot_count)
        self.free = list(range(ring.slot_count))
        self.serial = 0
        self.begun: dict[int, dict[str, int]] = {}
        self.freed: set[int] = set()
        self.number: dict[int, int] = {}

    def frame(
        self,
        frame_id: int,
        stamps: dict[str, int],
        *,
        source: int = 0,
        outcome: int = 0,
        size: int = 2**32 - 1,
        thread: int = 7,
        tags: tuple[int, ...] = (),
    ) -> Iterator[str]:
        """Record a frame: yield what was done after each store. The last mark is stamped last."""
        place = self.free.pop()
        slot = self.slots[place : place + 1]
        marks = list(stamps)
        fields = {"frame_id": frame_id, "rss": thread, "size": size, "source": source}
        fields |= {f"tag {k}": code for k, code in enumerate(tags)} | {"seq": 0}
        fields |= dict.fromkeys(self.ring.pipeline.marks, 0) | {marks[0]: stamps[marks[0]]}
        for name, value in fields.items():
            slot[name] = value
            yield name
        self.serial += 1
        slot["begin"] = self.serial
        self.begun[frame_id] = {marks[0]: stamps[marks[0]]}
        yield "begun"
        for mark in marks[1:]:
            slot[mark] = self.begun[frame_id][mark] = stamps[mark]
            yield "marked"
        number = self.ring.numbers.draw()
        yield "drawn"
        slot["seq"] = number
        self.number[frame_id] = number
        yield "held"
        at = (number - 1) % self.ring.capacity
        row = self.ring.array[at : at + 1]
        values = {name: slot[name][0] for name in row.dtype.names or ()}
        values |= {"begin": number, "rss": 0, "outcome": outcome, "cpu": 0.0, "weight": 1}
        for name, value in values.items():
            row[name] = number if name == "seq" else value
            yield f"row {name}"
        slot["begin"] = 0
        self.freed.add(frame_id)
        self.free.append(place)
        yield "freed"
