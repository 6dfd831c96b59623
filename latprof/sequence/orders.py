"""What depends on the order of frames, source by source, over several recordings."""

from typing import Any

from latprof.errors import ProfileError
from latprof.frames import Columns
from latprof.sequence.order import Order, split_by_source
from latprof.text import counted

__all__ = ["Orders"]

CHUNK = 65_536
"""Rows looked at together: larger work arrays come from fresh pages, which the kernel clears."""


class Orders:
    """An `Order` for each source; batches of one recording come in order of time.

    Parameters
    ----------
    mark
        Where ids are looked at.
    id_bits
        From 8 to 32: ids start again after 2**id_bits; 64: never.
    deadline_ns, deadline_span
        Of the runs of missed deadlines.

    Raises
    ------
    ProfileError
        Another number of bits.
    """

    def __init__(
        self,
        mark: str = "start",
        id_bits: int = 64,
        deadline_ns: int | None = None,
        deadline_span: str = "end_to_end",
    ) -> None:
        self._settings: dict[str, Any] = {
            "mark": mark,
            "id_bits": id_bits,
            "deadline_ns": deadline_ns,
            "deadline_span": deadline_span,
        }
        self._marks = Order(**self._settings).marks
        self._closed: dict[str | None, Order] = {}
        self._open: dict[str | None, Order] = {}

    def alike(self) -> "Orders":
        """Return one without frames that this one can be merged with."""
        return Orders(**self._settings)

    def add(self, columns: Columns, sampling_rate: float) -> None:
        """Add a batch of the recording that is being read."""
        for begin in range(0, len(columns), CHUNK):
            self._add(columns.take(slice(begin, begin + CHUNK)), sampling_rate)

    def _add(self, columns: Columns, sampling_rate: float) -> None:
        for source, rows in split_by_source(columns, self._marks):
            order = self._open.get(source)
            if order is None:
                order = self._open[source] = Order(**self._settings)
                if sampling_rate < 1:
                    order.lose(f"sampling rate {sampling_rate:g}")
            order.add(rows)

    def close(self, lost: int = 0) -> None:
        """End a recording, of which `lost` frames are not there."""
        for source, order in self._open.items():
            if lost:
                order.lose(f"{counted(lost, 'frame')} lost here")
            if source in self._closed:
                self._closed[source].merge(order)
            else:
                self._closed[source] = order
        self._open = {}

    def merge(self, other: "Orders") -> None:
        """Add the recordings of another.

        Raises
        ------
        ProfileError
            It has other settings.
        """
        if other._settings != self._settings:
            raise ProfileError("orders with other settings do not merge: fold both the same way")
        self.close()
        for orders in (other._closed, other._open):
            self._open = {}
            for source, order in orders.items():
                same = Order(**self._settings)
                same.merge(order)
                self._open[source] = same
            self.close()

    @property
    def by_source(self) -> dict[str | None, Order]:
        """The order of each source; None: frames without one."""
        self.close()
        return dict(self._closed)

    def results(self, active_ns: int | None) -> dict[str, Any]:
        """Return all facts by source, as values that JSON has; ``""``: frames without a source."""
        return {source or "": order.results(active_ns) for source, order in self.by_source.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        orders = [[source, order.to_dict()] for source, order in self.by_source.items()]
        return {"settings": self._settings, "orders": orders}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Orders":
        """Return what `to_dict` has written.

        Raises
        ------
        ProfileError
            What stands there cannot be.
        """
        same = cls(**content["settings"])
        for source, saved in content["orders"]:
            order = Order.from_dict(saved)
            if {name: order.settings[name] for name in same._settings} != same._settings:
                raise ProfileError("an order of frames has other settings: the file is damaged")
            same._closed[None if source is None else str(source)] = order
        return same
