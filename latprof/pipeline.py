"""What the marks of a pipeline mean: its spans, their kinds, and the row they are stored in.

A pipeline is a frozen value. A frame passes its marks in order, from ``start`` to ``end``; a span
is the time between two marks. Stages are disjoint and in order, so that stages and ``other``
(time that no stage claims) add up to ``end_to_end``. Side spans may overlap stages. The totals,
``end_to_end`` and, where there is a ``due`` mark, ``response``, are added by the pipeline.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from latprof.errors import PipelineError
from latprof.names import RESERVED, check_distinct, check_identifier, check_name
from latprof.palette import colors
from latprof.table import Column, Section, Table, html
from latprof.text import escape, quoted
from latprof.units import format_ns, parse_duration

__all__ = ["AUDIO", "RESERVED", "Pipeline", "Span", "check_name"]

_ALWAYS = {
    "due": "when a frame should have started",
    "start": "always the first mark",
    "end": "always the last mark",
}
_KINDS = ("stage", "side", "total")


@dataclass(frozen=True, slots=True)
class Span:
    """A named interval between two marks.

    Parameters
    ----------
    name
        An identifier, unique among the pipeline's spans.
    begin, end
        Names of marks of the pipeline; `begin` comes first.
    kind
        ``"stage"`` (disjoint, in order) or ``"side"`` (may overlap stages); ``"total"`` is the
        pipeline's own.
    station
        What serves the stage: a thread or process that takes one frame at a time. Stages with
        the same station share it. A stage without one is a hand-off (queue, transport).
    """

    name: str
    begin: str
    end: str
    kind: str = field(default="stage", kw_only=True)
    station: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise PipelineError(
                f"span {self.name!r} has kind {self.kind!r}: use one of {', '.join(_KINDS)}"
            )
        if self.kind != "total":
            check_name(self.name, "span")
        for mark in (self.begin, self.end):
            if not isinstance(mark, str):
                raise PipelineError(f"span {self.name!r}: {mark!r} is no text: name a mark")
        if self.station is not None:
            check_identifier(self.station, f"station of span {self.name!r}")


@dataclass(frozen=True)
class Pipeline:
    """The marks that a frame passes, in order, and the spans between them.

    Parameters
    ----------
    name
        What the pipeline is called.
    marks
        Names of the marks in order: ``start`` first, ``end`` last; ``due``, when the frame
        should have started, may come before ``start``.
    spans
        Stages and sides. The totals are added.
    period
        The time between frames where it is fixed: ``"20ms"`` or integer nanoseconds.

    Raises
    ------
    PipelineError
        A name that is no identifier, reserved, given twice or different by case alone; a span
        between marks that do not exist or stand in the other order; stages out of order or
        overlapping.

    Examples
    --------
    >>> mic = Pipeline.chain("mic", "decode", "resample", "play", period="20ms")
    >>> mic.marks
    ('start', 'decode', 'resample', 'play', 'end')
    >>> [stage.name for stage in mic.stages]
    ['decode', 'resample', 'play']
    >>> eval(repr(mic)) == mic == Pipeline.from_json(mic.to_json())
    True
    """

    name: str
    marks: tuple[str, ...]
    spans: tuple[Span, ...] = ()
    period: int | None = field(default=None, kw_only=True)

    def __init__(
        self,
        name: str,
        marks: tuple[str, ...] | list[str],
        spans: tuple[Span, ...] | list[Span] = (),
        *,
        period: str | int | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "name", check_identifier(name, "pipeline"))
        put(self, "marks", self._checked_marks(marks))
        put(self, "spans", self._checked_spans(spans))
        put(self, "period", self._checked_period(period))

    @classmethod
    def chain(
        cls,
        name: str,
        *stages: str,
        period: str | int | None = None,
        stations: Mapping[str, str] | None = None,
    ) -> "Pipeline":
        """Return a pipeline of stages that follow each other: each begins at the mark of its name.

        The time between ``start`` and the first stage's mark is `other`. `stations` says what
        serves a stage, by its name; the others are hand-offs.

        Examples
        --------
        >>> docs = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
        >>> [(stage.name, stage.station) for stage in docs.stages]
        [('queued', None), ('parse', 'worker')]
        """
        for stage in stages:
            if stage in _ALWAYS:
                raise PipelineError(
                    f"pipeline {name!r}: stage {stage!r} is reserved, as it is {_ALWAYS[stage]}: "
                    "choose another name"
                )
        served = dict(stations or {})
        for stage in served:
            if stage not in stages:
                raise PipelineError(
                    f"station {served[stage]!r} is of a stage {stage!r} that pipeline {name!r} "
                    f"does not have: use one of {', '.join(stages)}"
                )
        ends = (*stages[1:], "end")
        spans = tuple(
            Span(stage, stage, end, station=served.get(stage))
            for stage, end in zip(stages, ends, strict=False)
        )
        return cls(name, ("start", *stages, "end"), spans, period=period)

    def _repr_html_(self) -> str:
        return html(self.sections(), colors(self))

    def sections(self) -> list[Section]:
        """Return what a notebook shows of it: the marks in a row, the spans as a table."""
        period = "" if self.period is None else f", a frame every {format_ns(self.period)}"
        title = f"pipeline {self.name}{period}"
        return [Section(title, (" → ".join(self.marks),)), Section(table=self.table())]

    def table(self) -> Table:
        """Return the spans as a table: kind, marks, station."""
        hand_off = {"stage": "hand-off"}
        rows = [
            (
                span.name,
                span.kind,
                f"{span.begin} → {span.end}",
                span.station or hand_off.get(span.kind, ""),
            )
            for span in self.all_spans
        ]
        columns = Column("span", "span"), Column("kind"), Column("marks"), Column("station")
        return Table(columns, rows)

    # -- checks ---------------------------------------------------------------------------------

    def _checked_marks(self, marks: tuple[str, ...] | list[str]) -> tuple[str, ...]:
        where = f"pipeline {self.name!r}"
        if isinstance(marks, str) or not isinstance(marks, tuple | list):
            raise PipelineError(f"{where}: marks {marks!r} is no sequence: give a tuple of names")
        names = [check_name(mark, f"{where}: mark") for mark in marks]
        for name in names:
            if names.count(name) > 1:
                raise PipelineError(f"{where}: mark {name!r} is given twice: marks are unique")
        if len(names) < 2 or names[-1] != "end" or "start" not in names[:2]:
            raise PipelineError(
                f"{where}: marks {names} do not run from 'start' to 'end': begin with 'start' "
                "(or 'due', 'start') and close with 'end'"
            )
        if names[0] != "start" and names[0] != "due":
            raise PipelineError(f"{where}: mark {names[0]!r} stands before 'start': only 'due' may")
        if "due" in names[1:]:
            raise PipelineError(f"{where}: mark 'due' stands after 'start': put it first")
        return tuple(names)

    def _checked_spans(self, spans: tuple[Span, ...] | list[Span]) -> tuple[Span, ...]:
        where = f"pipeline {self.name!r}"
        if isinstance(spans, str) or not isinstance(spans, tuple | list):
            raise PipelineError(f"{where}: spans {spans!r} is no sequence: give a tuple of Span")
        position = {mark: i for i, mark in enumerate(self.marks)}
        names: set[str] = set()
        reached, last = position["start"], "start"
        for span in spans:
            if not isinstance(span, Span):
                raise PipelineError(f"{where}: {span!r} is no Span: write Span(name, begin, end)")
            what = f"{where}: {span.kind} {span.name!r}"
            if span.kind == "total":
                raise PipelineError(f"{what}: totals are added by the pipeline: leave it out")
            if span.name in names:
                raise PipelineError(f"{what} is given twice: span names are unique")
            names.add(span.name)
            for mark in (span.begin, span.end):
                if mark not in position:
                    raise PipelineError(
                        f"{what}: {mark!r} is no mark: use one of {', '.join(self.marks)}"
                    )
            if position[span.begin] >= position[span.end]:
                raise PipelineError(
                    f"{what}: its begin {span.begin!r} does not come before its end "
                    f"{span.end!r}: swap them"
                )
            if span.kind == "stage":
                if position[span.begin] < reached:
                    raise PipelineError(
                        f"{what} begins at {span.begin!r}, before {last!r} where the stage "
                        "before it ends (or frames start): stages are disjoint and in order, "
                        "use kind='side' for a span that overlaps"
                    )
                reached, last = position[span.end], span.end
        check_distinct([*self.marks, *(span.name for span in spans)], f"{where}: names")
        return tuple(spans)

    def _checked_period(self, period: str | int | None) -> int | None:
        if period is None:
            return None
        try:
            ns = parse_duration(period, name=f"period of pipeline {self.name!r}")
        except ValueError as error:
            raise PipelineError(str(error)) from None
        if ns == 0:
            raise PipelineError(f"period of pipeline {self.name!r} is 0: leave it out or give one")
        return ns

    # -- views ----------------------------------------------------------------------------------

    @cached_property
    def stages(self) -> tuple[Span, ...]:
        """The stages, in order."""
        return tuple(span for span in self.spans if span.kind == "stage")

    @cached_property
    def sides(self) -> tuple[Span, ...]:
        """The side spans, as declared."""
        return tuple(span for span in self.spans if span.kind == "side")

    @cached_property
    def totals(self) -> tuple[Span, ...]:
        """``end_to_end`` and, where the pipeline has ``due``, ``response``."""
        totals: tuple[Span, ...] = (Span("end_to_end", "start", "end", kind="total"),)
        if self.marks[0] == "due":
            totals += (Span("response", "due", "end", kind="total"),)
        return totals

    @cached_property
    def all_spans(self) -> tuple[Span, ...]:
        """Stages, sides, totals: every span with two marks (`other` has none)."""
        return self.stages + self.sides + self.totals

    @cached_property
    def row_dtype(self) -> np.dtype[np.void]:
        """The ring's row: 8-byte aligned, little endian; a mark of 0 is missing, there only."""
        return np.dtype(
            [("begin", "<u8"), ("frame_id", "<u8")]
            + [(mark, "<i8") for mark in self.marks]
            + [("rss", "<u8"), ("size", "<u4"), ("source", "<u2"), ("outcome", "<u2")]
            + [("cpu", "<f4"), ("weight", "<u4"), ("seq", "<u8")]
        )

    def span(self, name: str) -> Span:
        """Return the span of that name.

        Raises
        ------
        PipelineError
            There is none.
        """
        for span in self.all_spans:
            if span.name == name:
                return span
        raise PipelineError(
            f"pipeline {self.name!r} has no span {name!r}: use one of "
            f"{', '.join(span.name for span in self.all_spans)}"
        )

    def difference(self, other: "Pipeline") -> str | None:
        """Return in what the stamps of two pipelines mean something else; None: in nothing.

        Stations and the period say what to make of stamps, not what they are.

        Examples
        --------
        >>> a, b = Pipeline.chain("a", "x"), Pipeline.chain("a", "x", stations={"x": "worker"})
        >>> a == b, a.difference(b), a.difference(Pipeline.chain("a", "y"))
        (False, None, 'marks')
        """
        if self.name != other.name:
            return "names"
        if self.marks != other.marks:
            return "marks"
        mine, theirs = (
            [(s.name, s.begin, s.end, s.kind) for s in pipeline.spans] for pipeline in (self, other)
        )
        return None if mine == theirs else "spans"

    def with_stations(self, stations: Mapping[str, str | None]) -> "Pipeline":
        """Return the pipeline with other stations, given by stage; None makes it a hand-off.

        Raises
        ------
        PipelineError
            A name that is not a stage.

        Examples
        --------
        >>> mic = Pipeline.chain("mic", "queue", "play").with_stations({"play": "card"})
        >>> [(stage.name, stage.station) for stage in mic.stages]
        [('queue', None), ('play', 'card')]
        """
        if not isinstance(stations, Mapping):
            raise PipelineError(
                "stations must be a dict of stations by stage (for example {'decode': 'cpu'}), "
                f"got {quoted(stations)}"
            )
        names = [stage.name for stage in self.stages]
        for name in stations:
            if name not in names:
                raise PipelineError(
                    f"stations must name stages of pipeline {self.name!r} ({', '.join(names)}), "
                    f"got {quoted(name)}"
                )
        spans = [
            replace(span, station=stations[span.name])
            if span.kind == "stage" and span.name in stations
            else span
            for span in self.spans
        ]
        return Pipeline(self.name, self.marks, spans, period=self.period)

    def check_owned(self, owns: tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
        """Return the owned marks in the pipeline's order; None means all marks.

        Raises
        ------
        PipelineError
            `owns` is not a tuple or list of marks, or is empty.
        """
        if owns is None:
            return self.marks
        if not isinstance(owns, tuple | list) or not owns:
            raise PipelineError(f"owns must be a tuple of at least one mark, got {quoted(owns)}")
        for mark in owns:
            if mark not in self.marks:
                raise PipelineError(
                    f"owns must contain marks of pipeline {self.name!r}, got {quoted(mark)}; use "
                    f"{', '.join(self.marks)}"
                )
        return tuple(mark for mark in self.marks if mark in owns)

    # -- JSON -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as values that JSON has."""
        spans = []
        for span in self.spans:
            entry = {"name": span.name, "begin": span.begin, "end": span.end, "kind": span.kind}
            if span.station is not None:
                entry["station"] = span.station
            spans.append(entry)
        content: dict[str, Any] = {"name": self.name, "marks": list(self.marks), "spans": spans}
        if self.period is not None:
            content["period_ns"] = self.period
        return content

    def to_json(self) -> str:
        """Return the pipeline as JSON text, for a file or ``latprof report --pipeline FILE``."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, content: object) -> "Pipeline":
        """Return the pipeline that `to_dict` has written.

        Raises
        ------
        PipelineError
            Keys missing, unknown or of another type, or what the constructor refuses.
        """
        if not isinstance(content, dict):
            raise PipelineError("the pipeline is no JSON object: write {'name', 'marks', 'spans'}")
        _check_keys(content, {"name": str, "marks": list}, {"spans": list, "period_ns": int}, "")
        spans = []
        for entry in content.get("spans", []):
            if not isinstance(entry, dict):
                raise PipelineError(f"span {entry!r} is no JSON object: write name, begin, end")
            _check_keys(
                entry,
                {"name": str, "begin": str, "end": str},
                {"kind": str, "station": str},
                f"span {entry.get('name')!r}: ",
            )
            spans.append(
                Span(
                    entry["name"],
                    entry["begin"],
                    entry["end"],
                    kind=entry.get("kind", "stage"),
                    station=entry.get("station"),
                )
            )
        return cls(content["name"], content["marks"], spans, period=content.get("period_ns"))

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """Return the pipeline that `to_json` has written.

        Raises
        ------
        PipelineError
            The text is no JSON, or `from_dict` refuses what it says.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:  # a number may have too many digits
            raise PipelineError(f"the pipeline is no JSON: {error}") from None
        return cls.from_dict(content)


def _check_keys(
    content: dict[str, Any], needed: dict[str, type], optional: dict[str, type], where: str
) -> None:
    for key in needed:
        if key not in content:
            raise PipelineError(f"{where}key {key!r} is missing from the pipeline's JSON: add it")
    types = needed | optional
    for key, value in content.items():
        if key not in types:
            raise PipelineError(
                f"{where}key {escape(str(key))!r} is unknown in the pipeline's JSON: "
                f"use {', '.join(types)}"
            )
        if type(value) is not types[key]:
            raise PipelineError(
                f"{where}{key!r} is {type(value).__name__} in the pipeline's JSON, "
                f"not {types[key].__name__}: correct it"
            )


AUDIO = Pipeline(
    "audio",
    ("start", "webrtc", "validation", "serialization", "ipc", "cgo", "alsa", "end"),
    (
        Span("transit", "start", "webrtc"),
        Span("webrtc", "webrtc", "ipc", station="relay"),
        Span("ipc", "ipc", "cgo"),
        Span("cgo", "cgo", "alsa", station="server"),
        Span("alsa", "alsa", "end", station="server"),
        Span("validation", "validation", "ipc", kind="side"),
        Span("serialization", "serialization", "cgo", kind="side"),
    ),
)
"""The audio path of a KVM-over-IP device: WebRTC -> IPC -> native codec -> ALSA."""
