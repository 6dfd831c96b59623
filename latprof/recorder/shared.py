"""The parts of a profiler that its other parts use: settings, ring, stamping core, clock, log."""

from dataclasses import dataclass

from latprof.recorder.alerts import Alerts
from latprof.recorder.implementation import Core, make_core
from latprof.recorder.incidents import Incidents
from latprof.recorder.recording import Recording
from latprof.recorder.sampling import threshold
from latprof.recorder.settings import Settings
from latprof.ring.ring import Ring

__all__ = ["Shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of a profiler that its other parts use.

    Parameters
    ----------
    settings
        The settings of the profiler.
    recording
        When the profiler recorded, and on which clocks.
    ring, core
        The rows, and the core that writes the rows.
    incidents
        Methods that the core calls in rare cases.
    alerts
        Counts problems and slow frames, and logs them.
    """

    settings: Settings
    recording: Recording
    ring: Ring
    core: Core
    incidents: Incidents
    alerts: Alerts

    @classmethod
    def of(cls, settings: Settings) -> "Shared":
        """Make all parts from the settings. The ring may create a file."""
        recording = Recording(settings)
        alerts = Alerts(settings.logger, settings.warning, settings.critical)
        metadata = None
        if settings.ring is not None:
            thresholds = {"warning": settings.warning, "critical": settings.critical}
            metadata = recording.meta() | {"thresholds": thresholds}
        ring = Ring(
            settings.pipeline,
            settings.capacity,
            path=settings.ring,
            metadata=metadata,
            keep_previous=settings.keep_previous,
            tags=settings.tags,
        )
        recording.note = ring.note
        core, incidents = make_core(
            ring,
            settings.clock,
            settings.owned,
            alerts,
            offset_ns=recording.offset_ns,
            sampled_below=threshold(settings.sampling_rate),
            overflow=settings.overflow,
            track_current=settings.track_current,
        )
        return cls(settings, recording, ring, core, incidents, alerts)
