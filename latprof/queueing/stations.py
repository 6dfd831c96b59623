"""Where frames wait, and for what: a pipeline read as stations with something in front of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from latprof.errors import PipelineError
from latprof.pipeline import Pipeline, Span
from latprof.text import escape

__all__ = ["Block", "Places", "places", "with_stations"]


@dataclass(frozen=True, slots=True)
class Block:
    """Stages in a row that one station serves, and what stands in front of them.

    `arrive` is the mark from which on a frame may wait; `handoff` the stage that lies between it
    and `begin`, None where no stage does.
    """

    station: str
    stages: tuple[Span, ...]
    arrive: str
    handoff: str | None

    @property
    def begin(self) -> str:
        """The mark at which a frame enters the station."""
        return self.stages[0].begin

    @property
    def end(self) -> str:
        """The mark at which it leaves."""
        return self.stages[-1].end


@dataclass(frozen=True, slots=True)
class Places:
    """The blocks of a pipeline in order; all names of stages in it."""

    pipeline: Pipeline
    blocks: tuple[Block, ...]

    @property
    def handoffs(self) -> tuple[str, ...]:
        """Stages without a station."""
        return tuple(s.name for s in self.pipeline.stages if s.station is None)

    @property
    def served(self) -> tuple[str, ...]:
        """Stages with a station."""
        return tuple(s.name for s in self.pipeline.stages if s.station is not None)

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations in order of their first stage."""
        return tuple(dict.fromkeys(block.station for block in self.blocks))

    @property
    def marks_read(self) -> tuple[str, ...]:
        """The marks that attribution needs: all but `due`; a side's may tell where a drop was."""
        return tuple(mark for mark in self.pipeline.marks if mark != "due")

    def of(self, station: str) -> list[int]:
        """Return which blocks the station serves."""
        return [i for i, block in enumerate(self.blocks) if block.station == station]

    def next_station(self, i: int) -> int | None:
        """Return the block that frames come to after block `i`, over at most one hand-off."""
        if i + 1 == len(self.blocks):
            return None
        end, there = self.blocks[i].end, self.blocks[i + 1]
        return i + 1 if there.arrive == end and there.station != self.blocks[i].station else None


def places(pipeline: Pipeline) -> Places:
    """Return the stations of a pipeline, and what is in front of them.

    Examples
    --------
    >>> from latprof.pipeline import AUDIO
    >>> [(b.handoff, b.station, [s.name for s in b.stages]) for b in places(AUDIO).blocks]
    [('transit', 'relay', ['webrtc']), ('ipc', 'server', ['cgo', 'alsa'])]
    """
    blocks: list[Block] = []
    before: Span | None = None
    for stage in pipeline.stages:
        if stage.station is None:
            before = stage
            continue
        if before is not None and before.station == stage.station:
            blocks[-1] = replace(blocks[-1], stages=(*blocks[-1].stages, stage))
        elif before is None:
            blocks.append(Block(stage.station, (stage,), "start", None))
        elif before.station is None and before.end == stage.begin:
            blocks.append(Block(stage.station, (stage,), before.begin, before.name))
        else:
            blocks.append(Block(stage.station, (stage,), before.end, None))
        before = stage
    return Places(pipeline, tuple(blocks))


def with_stations(pipeline: Pipeline, stations: Mapping[str, str | None]) -> Pipeline:
    """Return the pipeline with other stations: by stage, None makes it a hand-off.

    Raises
    ------
    PipelineError
        A name that is no stage.

    Examples
    --------
    >>> mic = with_stations(Pipeline.chain("mic", "queue", "play"), {"play": "card"})
    >>> [(stage.name, stage.station) for stage in mic.stages]
    [('queue', None), ('play', 'card')]
    """
    names = [stage.name for stage in pipeline.stages]
    if not isinstance(stations, Mapping):
        raise PipelineError(f"stations={stations!r}: give a dict by stage, {{'decode': 'cpu'}} say")
    for name in stations:
        if name not in names:
            raise PipelineError(
                f"stations: {escape(str(name))!r} is no stage of {pipeline.name!r}: "
                f"use one of {', '.join(names)}"
            )
    spans = [
        replace(span, station=stations[span.name])
        if span.kind == "stage" and span.name in stations
        else span
        for span in pipeline.spans
    ]
    return Pipeline(pipeline.name, pipeline.marks, spans, period=pipeline.period)
