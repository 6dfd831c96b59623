"""latprof tells where the time of a pipeline goes.

* declare a pipeline: `Pipeline`, `Span`, or the seed of them all, `AUDIO`
* stamp frames as they pass: `Profiler`, `Frame`, `Violation`, or the process-wide `get_profiler`,
  `enable`, `disable`, `profile_frame`; `current_frame` returns the frame of the calling task
* hold them: `Trace`, `read`, `join`, `recover`
* fold them: `analyze`, `Profile`, `merge`, `load_profile`
* ask who waited for whom: `blame`, `causes`, `what_if`, `sensitivity`, `utilization`
* look at them: `Report`, `plot`

Importing latprof loads numpy and nothing heavier; the names that need more load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from latprof.errors import (
    DemoError,
    LatprofError,
    PipelineError,
    ProfileError,
    ProfilerError,
    TraceError,
)
from latprof.pipeline import AUDIO, Pipeline, Span

if TYPE_CHECKING:
    from latprof import plot
    from latprof.analysis import analyze
    from latprof.joining.join import join
    from latprof.profile.profile import Profile, load_profile, merge
    from latprof.queueing.blame import blame
    from latprof.queueing.causes import causes
    from latprof.queueing.utilization import utilization
    from latprof.queueing.what_if import sensitivity, what_if
    from latprof.recorder.alerts import Violation
    from latprof.recorder.current import current_frame
    from latprof.recorder.frame import Frame
    from latprof.recorder.process import disable, enable, get_profiler, profile_frame
    from latprof.recorder.profiler import Profiler
    from latprof.recovery import recover
    from latprof.report.report import Report
    from latprof.trace import Trace, read

__all__ = [
    "AUDIO",
    "DemoError",
    "Frame",
    "LatprofError",
    "Pipeline",
    "PipelineError",
    "Profile",
    "ProfileError",
    "Profiler",
    "ProfilerError",
    "Report",
    "Span",
    "Trace",
    "TraceError",
    "Violation",
    "analyze",
    "blame",
    "causes",
    "current_frame",
    "disable",
    "enable",
    "get_profiler",
    "join",
    "load_profile",
    "merge",
    "plot",
    "profile_frame",
    "read",
    "recover",
    "sensitivity",
    "utilization",
    "what_if",
]

# where the names are that load on first use
_LAZY = {
    "Frame": "recorder.frame",
    "Profile": "profile.profile",
    "Profiler": "recorder.profiler",
    "Report": "report.report",
    "Trace": "trace",
    "Violation": "recorder.alerts",
    "analyze": "analysis",
    "blame": "queueing.blame",
    "causes": "queueing.causes",
    "current_frame": "recorder.current",
    "disable": "recorder.process",
    "enable": "recorder.process",
    "get_profiler": "recorder.process",
    "join": "joining.join",
    "load_profile": "profile.profile",
    "merge": "profile.profile",
    "profile_frame": "recorder.process",
    "read": "trace",
    "recover": "recovery",
    "sensitivity": "queueing.what_if",
    "utilization": "queueing.utilization",
    "what_if": "queueing.what_if",
}


def __getattr__(name: str) -> object:
    if name == "plot":
        return import_module("latprof.plot")
    if name not in _LAZY:
        raise AttributeError(f"module 'latprof' has no attribute {name!r}")
    value = getattr(import_module(f"latprof.{_LAZY[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__
