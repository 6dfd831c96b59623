"""Pipelines: their marks, and the spans between them.

A pipeline is a frozen value. A frame passes its marks in order, from ``start`` to ``end``; a span
is the time between two marks. Stages are disjoint and in order, so that stages and ``other``
(time that no stage claims) add up to ``end_to_end``. Side spans may overlap stages. The pipeline
adds the totals: ``end_to_end`` and, if it has the mark ``due``, ``response``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from latprof.colors import colors
from latprof.errors import LatprofError, PipelineError
from latprof.marks import Span, checked_marks, checked_spans
from latprof.table import Column, Section, Shown, Table, html
from latprof.text import check_identifier, check_name, clip, quoted
from latprof.units import format_ns, parse_duration

__all__ = ["AUDIO", "OTHER", "Pipeline", "check_pipeline"]

OTHER = "other"
"""The name of the time of a frame that no stage claims."""

_ALWAYS = {
    "due": "when a frame should have started",
    "start": "always the first mark",
    "end": "always the last mark",
}


@dataclass(frozen=True)
class Pipeline(Shown):
    """The marks that a frame passes, in order, and the spans between them.

    Parameters
    ----------
    name
        Name of the pipeline.
    marks
        Names of the marks in order: ``start`` first, ``end`` last; ``due``, when the frame
        should have started, may be before ``start``.
    spans
        Stages and sides. The totals are added.
    period
        The time between frames if it is fixed: ``"20ms"`` or integer nanoseconds.
    queues
        How many frames the queue of a hand-off has room for, by hand-off: ``{"q_encode": 8}``, 0 if
        it is unbounded. Rooms of other hand-offs are those of the spans.

    Attributes
    ----------
    stages
        The stages, in order.
    sides
        The side spans, as declared.
    totals
        ``end_to_end`` and, if the pipeline has the mark ``due``, ``response``.
    all_spans
        Stages, sides and totals: every span with two marks.
    span_names
        Names of everything that has a length in each frame: stages, sides, ``other``, totals.

    Raises
    ------
    PipelineError
        A name is not an identifier, is reserved, occurs twice or differs from another by case
        alone; a span is between marks that do not exist or are in the other order; or stages are
        out of order or overlap.

    Examples
    --------
    >>> from latprof import Pipeline, Span
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
    stages: tuple[Span, ...] = field(init=False, repr=False, compare=False)
    sides: tuple[Span, ...] = field(init=False, repr=False, compare=False)
    totals: tuple[Span, ...] = field(init=False, repr=False, compare=False)
    all_spans: tuple[Span, ...] = field(init=False, repr=False, compare=False)
    span_names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        name: str,
        marks: tuple[str, ...] | list[str],
        spans: tuple[Span, ...] | list[Span] = (),
        *,
        period: str | int | None = None,
        queues: Mapping[str, int | None] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "name", check_identifier(name, "pipeline"))
        put(self, "marks", checked_marks(self.name, marks))
        put(self, "spans", checked_spans(self.name, self.marks, spans))
        put(self, "period", self._checked_period(period))
        if queues is not None:
            put(self, "spans", self._with_rooms(queues))
        stages = tuple(span for span in self.spans if span.kind == "stage")
        sides = tuple(span for span in self.spans if span.kind == "side")
        totals = [Span("end_to_end", "start", "end", kind="total")]
        if self.marks[0] == "due":
            totals.append(Span("response", "due", "end", kind="total"))
        names = [span.name for span in stages + sides]
        put(self, "stages", stages)
        put(self, "sides", sides)
        put(self, "totals", tuple(totals))
        put(self, "all_spans", (*stages, *sides, *totals))
        put(self, "span_names", (*names, OTHER, *(span.name for span in totals)))

    @classmethod
    def chain(
        cls,
        name: str,
        *stages: str,
        period: str | int | None = None,
        stations: Mapping[str, str] | None = None,
        queues: Mapping[str, int | None] | None = None,
        ends: bool = False,
    ) -> "Pipeline":
        """Return a pipeline of stages in sequence; each begins at the mark of its name.

        A stage ends where the next one begins, or, with `ends`, at a mark of its own. Time that
        belongs to no stage is ``other``, such as the time between ``start`` and the first stage.

        Parameters
        ----------
        name
            Name of the pipeline.
        stages
            Names of the stages in order. Without `ends`, the last one ends at ``end``.
        period
            The time between frames if it is fixed: ``"20ms"`` or integer nanoseconds.
        stations
            Names of the stations by stage: ``{"decode": "cpu"}``. The other stages are hand-offs.
        queues
            How many frames the queue of a hand-off has room for, by hand-off: ``{"queued": 8}``.
        ends
            Give each stage an end mark: stage ``db`` is between the marks ``db`` and ``db_end``.
            Use it if some frames leave out a stage, and for functions that are stages, see
            `Profiler.stage`: the stage ends when the function returns. Without end marks, a frame
            that leaves out a stage has no value for the stage before it either.

        Returns
        -------
        Pipeline
            Its marks are ``start``, the names of the stages, each with `ends` followed by the
            stage's end mark, and ``end``.

        Raises
        ------
        PipelineError
            A stage is named start, end or due, `stations` or `queues` has a name that is not a
            stage, or a name or the period is invalid.

        Examples
        --------
        >>> from latprof import Pipeline
        >>> docs = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
        >>> [(stage.name, stage.station) for stage in docs.stages]
        [('queued', None), ('parse', 'worker')]
        >>> Pipeline.chain("web", "db", "render", ends=True).marks
        ('start', 'db', 'db_end', 'render', 'render_end', 'end')
        """
        if type(ends) is not bool:
            raise PipelineError(f"ends must be True or False, got {quoted(ends)}")
        for stage in stages:
            if check_name(stage, "stage") in _ALWAYS:
                raise PipelineError(
                    f"stages must not have the name of a mark that every pipeline may have, got "
                    f"{stage!r} ({_ALWAYS[stage]}); choose another name"
                )
        marks, last_marks = list(stages), [*stages[1:], "end"]
        if ends:
            last_marks = [f"{stage}_end" for stage in stages]
            marks = [mark for pair in zip(stages, last_marks, strict=True) for mark in pair]
        spans = tuple(map(Span, stages, stages, last_marks))
        pipeline = cls(name, ("start", *marks, "end"), spans, period=period)
        if stations is not None:
            pipeline = pipeline.with_stations(stations)
        return pipeline if queues is None else pipeline.with_queues(queues)

    def _repr_html_(self) -> str:
        return html(self.sections(), colors(self))

    def sections(self) -> list[Section]:
        """Return what `print` and notebooks show: the marks in a row, the spans as a table."""
        period = "" if self.period is None else f", a frame every {format_ns(self.period)}"
        title = f"pipeline {self.name}{period}"
        return [Section(title, (" → ".join(self.marks),)), Section(table=self.table())]

    def table(self) -> Table:
        """Return the spans as a table: kind, marks, station."""
        rows = []
        for span in self.all_spans:
            station = span.station or ("hand-off" if span.kind == "stage" else "")
            if span.room is not None and not span.station:
                station += f", room {span.room}" if span.room else ", unbounded"
            rows.append((span.name, span.kind, f"{span.begin} → {span.end}", station))
        columns = Column("span", "span"), Column("kind"), Column("marks"), Column("station")
        return Table(columns, rows)

    # -- checks ---------------------------------------------------------------------------------

    def _checked_period(self, period: str | int | None) -> int | None:
        if period is None:
            return None
        ns = parse_duration(period, name="period", error=PipelineError)
        if ns == 0:
            raise PipelineError("period must be more than 0, got 0; leave it out if there is none")
        return ns

    # -- views ----------------------------------------------------------------------------------

    def span(self, name: str) -> Span:
        """Return the span of that name.

        Raises
        ------
        PipelineError
            The pipeline has no such span.
        """
        for span in self.all_spans:
            if isinstance(name, str) and span.name == name:
                return span
        raise PipelineError(
            f"a span of pipeline {self.name!r} must be one of "
            f"{', '.join(span.name for span in self.all_spans)}, got {quoted(name)}"
        )

    def difference(self, other: "Pipeline") -> str | None:
        """Return "names", "marks" or "spans" if they differ from those of `other`, or None.

        Stations, rooms and the period do not change what a stamp means, and are not compared.

        Examples
        --------
        >>> from latprof import Pipeline
        >>> a, b = Pipeline.chain("a", "x"), Pipeline.chain("a", "x", stations={"x": "worker"})
        >>> a == b, a.difference(b), a.difference(Pipeline.chain("a", "y"))
        (False, None, 'marks')
        """
        if self.name != check_pipeline(other).name:
            return "names"
        if self.marks != other.marks:
            return "marks"
        mine, theirs = (
            [(s.name, s.begin, s.end, s.kind) for s in pipeline.spans] for pipeline in (self, other)
        )
        return None if mine == theirs else "spans"

    def overridden(self, given: "Pipeline | None") -> "Pipeline":
        """Return `given` in place of this pipeline, or this one if it is None.

        Raises
        ------
        PipelineError
            `given` differs in more than stations, rooms and the period.
        """
        if given is None:
            return self
        differs = self.difference(given)
        if differs is None:
            return given
        raise PipelineError(
            f"pipeline must have the {differs} of pipeline {self.name!r} (marks "
            f"{', '.join(self.marks)}), got pipeline {given.name!r}; leave out pipeline= "
            "(--pipeline)"
        )

    def with_stations(self, stations: Mapping[str, str | None]) -> "Pipeline":
        """Return the pipeline with other stations, given by stage; None makes it a hand-off.

        Raises
        ------
        PipelineError
            `stations` is not a dict, or has a name that is not a stage.

        Examples
        --------
        >>> from latprof import Pipeline
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
            replace(span, station=stations.get(span.name, span.station)) for span in self.spans
        ]
        return Pipeline(self.name, self.marks, spans, period=self.period)

    @property
    def queues(self) -> dict[str, int]:
        """The known rooms of queues in frames, by hand-off; 0 is unbounded."""
        return {s.name: s.room for s in self.stages if s.room is not None and s.station is None}

    def with_queues(self, queues: Mapping[str, int | None]) -> "Pipeline":
        """Return the pipeline with other rooms of its queues, by hand-off; None means unknown.

        Raises
        ------
        PipelineError
            A name is not a hand-off, or a room is not an integer from 0 on.

        Examples
        --------
        >>> from latprof import Pipeline
        >>> docs = Pipeline.chain("docs", "queued", "parse", stations={"parse": "worker"})
        >>> docs.with_queues({"queued": 8}).queues
        {'queued': 8}
        """
        return Pipeline(self.name, self.marks, self.spans, period=self.period, queues=queues)

    def _with_rooms(self, queues: Mapping[str, int | None]) -> tuple[Span, ...]:
        """Return the spans with other rooms of their queues."""
        if not isinstance(queues, Mapping):
            raise PipelineError(
                "queues must be a dict of rooms by hand-off (for example {'ipc': 8}), got "
                f"{quoted(queues)}"
            )
        names = [s.name for s in self.spans if s.kind == "stage" and s.station is None]
        for name in queues:
            if name not in names:
                raise PipelineError(
                    f"queues must name hand-offs of pipeline {self.name!r} "
                    f"({', '.join(names) or 'it has none'}), got {quoted(name)}"
                )
        return tuple(replace(span, room=queues.get(span.name, span.room)) for span in self.spans)

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
            if not isinstance(mark, str) or mark not in self.marks:
                raise PipelineError(
                    f"owns must contain marks of pipeline {self.name!r}, got {quoted(mark)}; use "
                    f"{', '.join(self.marks)}"
                )
        return tuple(mark for mark in self.marks if mark in owns)

    # -- JSON -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as JSON values."""
        spans = [
            {name: value for name, value in asdict(span).items() if value is not None}
            for span in self.spans
        ]
        content: dict[str, Any] = {"name": self.name, "marks": list(self.marks), "spans": spans}
        if self.period is not None:
            content["period_ns"] = self.period
        return content

    def to_json(self) -> str:
        """Return the pipeline as JSON text, for a file or ``latprof report --pipeline FILE``."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, content: object) -> "Pipeline":
        """Return the pipeline that `to_dict` has returned as a dict.

        Raises
        ------
        PipelineError
            A key is missing, unknown or has a value of another type, or the constructor refuses a
            value.
        """
        _check_keys(content, {"name": str, "marks": list}, {"spans": list, "period_ns": int})
        assert isinstance(content, dict)
        spans = []
        for entry in content.get("spans", []):
            needed: dict[str, type] = {"name": str, "begin": str, "end": str}
            _check_keys(entry, needed, {"kind": str, "station": str, "room": int}, "span")
            spans.append(Span(**entry))
        return cls(content["name"], content["marks"], spans, period=content.get("period_ns"))

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """Return the pipeline that `to_json` has written.

        Raises
        ------
        PipelineError
            The text is not JSON, or `from_dict` refuses its content.
        """
        try:
            content = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise PipelineError(
                f"the text of a pipeline must be JSON, got {quoted(text, 40)}: "
                f"{clip(str(error), 120)}; write it with Pipeline.to_json()"
            ) from None
        return cls.from_dict(content)


def check_pipeline(value: object, error: type[LatprofError] = PipelineError) -> Pipeline:
    """Return `value` if it is a Pipeline; raise an `error` otherwise."""
    if not isinstance(value, Pipeline):
        raise error(f"pipeline must be a Pipeline (for example latprof.AUDIO), got {quoted(value)}")
    return value


def _check_keys(
    content: object, needed: dict[str, type], optional: dict[str, type], what: str = "pipeline"
) -> None:
    """Refuse JSON that lacks a key, has another one, or has a value of another type."""
    if not isinstance(content, dict):
        raise PipelineError(f"a {what} must be a JSON object, got {quoted(content)}")
    types = needed | optional
    for key in needed:
        if key not in content:
            raise PipelineError(f"a {what} must have the key {key!r}, got {quoted(content)}")
    for key, value in content.items():
        if key not in types:
            raise PipelineError(
                f"the keys of a {what} must be {', '.join(types)}, got {quoted(key)}"
            )
        if type(value) is not types[key]:
            raise PipelineError(
                f"{key!r} of a {what} must be {types[key].__name__}, got {quoted(value)}"
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
