"""The errors that latprof raises.

* LatprofError
  x PipelineError (also a ValueError)    an invalid pipeline, or a mark or span that it lacks
  x TraceError (also a ValueError)       columns or a file that are not a trace of the pipeline
  x ProfileError (also a ValueError)     a question that a profile cannot answer, or saved profiles
                                         and parts that do not fit together
  x ProfilerError (also a ValueError)    an invalid setting of a profiler, or a wrong call
  x DemoError (also a RuntimeError)      the demonstration cannot run here

Each message is one line: what must hold, what was given, and the remedy.
"""

__all__ = [
    "DemoError",
    "LatprofError",
    "PipelineError",
    "ProfileError",
    "ProfilerError",
    "TraceError",
]


class LatprofError(Exception):
    """Base of all errors that latprof raises on purpose."""


class PipelineError(LatprofError, ValueError):
    """An invalid pipeline, or a mark or span that it does not have."""


class TraceError(LatprofError, ValueError):
    """Columns or a file that are not a trace of the pipeline, or an error of its file."""


class ProfileError(LatprofError, ValueError):
    """A question that the profile cannot answer, or parts that do not fit together."""


class ProfilerError(LatprofError, ValueError):
    """An invalid setting of a profiler, or a call in a wrong state."""


class DemoError(LatprofError, RuntimeError):
    """The demonstration cannot run here; the message says what to do."""
