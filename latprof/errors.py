"""What latprof raises.

* LatprofError
  x PipelineError (also a ValueError)    a pipeline that cannot be; a mark or span it does not have
  x TraceError (also a ValueError)       columns or a file that cannot be a trace of the pipeline
  x ProfileError (also a ValueError)     a question the profile cannot answer, parts that do not fit
  x ProfilerError (also a ValueError)    a profiler's bad setting, or a call in the wrong state
  x DemoError (also a RuntimeError)      the demonstration cannot run here

Each message is one line that names the value, the rule and the remedy.
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
    """A pipeline that cannot be, or a mark or span that it does not have."""


class TraceError(LatprofError, ValueError):
    """Columns or a file that cannot be a trace of the pipeline."""


class ProfileError(LatprofError, ValueError):
    """A question that the profile cannot answer, or parts that do not fit together."""


class ProfilerError(LatprofError, ValueError):
    """A profiler's bad setting, or a call in the wrong state."""


class DemoError(LatprofError, RuntimeError):
    """The demonstration cannot run here; the message says what to do."""
