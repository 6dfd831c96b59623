"""latprof shows where the time of a pipeline goes.

* declare a pipeline: `Pipeline`, `Span`, or the audio path `AUDIO`
* stamp frames as they pass: `Profiler`, or the process-wide `get_profiler`, `enable`, `disable`,
  `profile_frame`; `current_frame` returns the `Frame` of the current task or thread
* hold them: `Trace`, `read`, `join`, `recover`
* fold them: `analyze`, `Profile`, `merge`, `load_profile`
* compare runs: `compare`, `trend`, `plan`; compare hosts: `fleet`
* ask which stage the others wait for: `blame`, `causes`, `what_if`, `sensitivity`, `headroom`,
  `utilization`
* look at them: `Report`, `plot`

Importing latprof loads numpy and nothing heavier. Names that need more load on first use.
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
from latprof.marks import Span
from latprof.pipeline import AUDIO, Pipeline

if TYPE_CHECKING:
    from latprof import plot
    from latprof.accounts import Accounts, InFlight
    from latprof.analysis import analyze
    from latprof.comparing.compare import compare
    from latprof.comparing.comparison import Comparison
    from latprof.comparing.fleet import Fleet, fleet
    from latprof.comparing.planning import plan
    from latprof.comparing.trend import trend
    from latprof.histogram import Histogram
    from latprof.io.formats.foreign import ForeignFile
    from latprof.joining.join import join
    from latprof.profile.load import load_profile, merge
    from latprof.profile.profile import Profile
    from latprof.profile.span import SpanProfile
    from latprof.queueing.blame import blame
    from latprof.queueing.causes import Causes, causes
    from latprof.queueing.forecast import WhatIf
    from latprof.queueing.headroom import Headroom, headroom
    from latprof.queueing.sensitivity import sensitivity
    from latprof.queueing.utilization import utilization
    from latprof.queueing.what_if import what_if
    from latprof.recorder.alerts import Violation
    from latprof.recorder.current import current_frame
    from latprof.recorder.implementation import Frame
    from latprof.recorder.process import disable, enable, get_profiler, profile_frame
    from latprof.recorder.profiler import Profiler
    from latprof.recovery import recover
    from latprof.report.report import Report
    from latprof.trace import Trace, read

    __impl__: str
    __version__: str

__all__ = [
    "AUDIO",
    "Accounts",
    "Causes",
    "Comparison",
    "DemoError",
    "Fleet",
    "ForeignFile",
    "Frame",
    "Headroom",
    "Histogram",
    "InFlight",
    "LatprofError",
    "Pipeline",
    "PipelineError",
    "Profile",
    "ProfileError",
    "Profiler",
    "ProfilerError",
    "Report",
    "Span",
    "SpanProfile",
    "Trace",
    "TraceError",
    "Violation",
    "WhatIf",
    "__impl__",
    "__version__",
    "analyze",
    "blame",
    "causes",
    "compare",
    "current_frame",
    "disable",
    "enable",
    "fleet",
    "get_profiler",
    "headroom",
    "join",
    "load_profile",
    "merge",
    "plan",
    "plot",
    "profile_frame",
    "read",
    "recover",
    "sensitivity",
    "trend",
    "utilization",
    "what_if",
]

# the modules of the names that load on first use
_MODULES = {
    "accounts": ("Accounts", "InFlight"),
    "analysis": ("analyze",),
    "comparing.compare": ("Comparison", "compare"),
    "comparing.fleet": ("Fleet", "fleet"),
    "comparing.planning": ("plan",),
    "comparing.trend": ("trend",),
    "histogram": ("Histogram",),
    "io.formats.foreign": ("ForeignFile",),
    "joining.join": ("join",),
    "profile.load": ("load_profile", "merge"),
    "profile.profile": ("Profile",),
    "profile.span": ("SpanProfile",),
    "queueing.blame": ("blame",),
    "queueing.causes": ("Causes", "causes"),
    "queueing.headroom": ("Headroom", "headroom"),
    "queueing.utilization": ("utilization",),
    "queueing.forecast": ("WhatIf",),
    "queueing.sensitivity": ("sensitivity",),
    "queueing.what_if": ("what_if",),
    "recorder.alerts": ("Violation",),
    "recorder.current": ("current_frame",),
    "recorder.implementation": ("Frame",),
    "recorder.process": ("disable", "enable", "get_profiler", "profile_frame"),
    "recorder.profiler": ("Profiler",),
    "recovery": ("recover",),
    "report.report": ("Report",),
    "trace": ("Trace", "read"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "plot":
        return import_module("latprof.plot")
    if name == "__version__":
        from importlib.metadata import version  # slow to import

        value: object = version("latprof")
    elif name == "__impl__":
        value = import_module("latprof.recorder.implementation").IMPL
    elif name in _LAZY:
        value = getattr(import_module(f"latprof.{_LAZY[name]}"), name)
    else:
        raise AttributeError(f"module 'latprof' has no attribute {name!r}")
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__
