"""The metadata of recordings, added up: when they ran, their recorders, their lost frames."""

from typing import Any, Self

from latprof.accounts import MOST_RECORDERS, Accounts, Recorders, union
from latprof.hosts import HostClock, add_clock, clocks_of

__all__ = ["RecordingNotes"]

_LONGEST = 80  # characters of the id of a recording


class RecordingNotes:
    """The metadata of recordings, added up; the base of a profile."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.segments: set[tuple[int, int]] = set()  # (begin, end) of recording, UTC ns
        self.labels: dict[str, str] = {}  # labels that all recordings have with the same value
        self.recordings: set[str] = set()  # ids, at most `MOST_RECORDERS` of them
        self.undeclared = False  # whether a recording did not say when it was recording
        self._recorded: list[Accounts] = []  # complete accounts of recorders, of files with them
        self.files = 0
        self.recorders = Recorders()
        self.clocks: dict[str, HostClock] = {}  # of the hosts of joined traces
        self.stamp_ns = 0  # time of the slowest clock read of the recordings, 0 if unknown
        self.reading: set[str] = set()  # sentences on what was assumed about files of other tools
        self.untimed = False  # whether the frames have durations, but no times

    def note(self, meta: dict[str, Any]) -> None:
        """Add the metadata of a recording: its time, its recorder, its lost frames."""
        lost = meta.get("lost") or 0
        self.files += 1
        self.reading.update(meta.get("reading") or ())
        self.untimed |= bool(meta.get("untimed"))
        self.recorders.add(meta)
        for host, clock in clocks_of((meta.get("join") or {}).get("clocks") or ()):
            add_clock(self.clocks, host, clock)
        accounts = Accounts(lost=lost)
        for part in (meta.get("join") or {}).get("parts") or [meta]:
            self.stamp_ns = max(self.stamp_ns, part.get("stamp_ns") or 0)
            recorded = part.get("accounts") or {}
            accounts += Accounts(
                in_flight=recorded.get("in_flight", 0),
                rejected=dict(recorded.get("rejected", {})),
                torn=recorded.get("torn", 0),
                notes=dict(recorded.get("notes", {})),
            )
            # head sampling leaves out the same frames in all processes of a pipeline
            sampled_out = recorded.get("sampled_out", 0)
            if {"started", "finished", "folded"} <= recorded.keys() and not meta.get("join"):
                known = {name: recorded[name] for name in Accounts.__slots__ if name in recorded}
                self._recorded.append(Accounts(**known))
            accounts.sampled_out = max(accounts.sampled_out, sampled_out)
        self.accounts += accounts
        labels = {name: str(value) for name, value in (meta.get("labels") or {}).items()}
        self.labels = labels if self.files == 1 else _shared(self.labels, labels)
        recording = meta.get("recording")
        if isinstance(recording, str):
            self.recordings = _first({*self.recordings, recording[:_LONGEST]})
        segments = meta.get("segments")
        self.undeclared |= not segments
        # the processes of a joined trace record at the same time
        self.segments.update(union((int(a), int(b)) for a, b in segments or ()))

    def forget_recorded(self) -> None:
        """Drop the accounts of recorders, which do not hold if some frames are left out."""
        self._recorded.clear()

    def merge_notes(self, other: Self, *, first: bool) -> None:
        """Add the metadata of other recordings; `first` means that there were none so far."""
        self.accounts += other.accounts
        self.segments |= other.segments
        self.recordings = _first(self.recordings | other.recordings)
        self.labels = dict(other.labels) if first else _shared(self.labels, other.labels)
        self.undeclared |= other.undeclared
        self.files += other.files
        self.recorders.merge(other.recorders)
        for host, clock in other.clocks.items():
            add_clock(self.clocks, host, clock)
        self.stamp_ns = max(self.stamp_ns, other.stamp_ns)
        self.reading |= other.reading
        self.untimed |= other.untimed


def _first(recordings: set[str]) -> set[str]:
    """Return the first ids in alphabetical order, as many as a profile keeps."""
    return set(sorted(recordings)[:MOST_RECORDERS])


def _shared(labels: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Return the labels that are the same in both."""
    return {name: value for name, value in labels.items() if others.get(name) == value}
