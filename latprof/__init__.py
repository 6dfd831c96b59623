"""latprof tells where the time of a pipeline goes."""

from latprof.pipeline import AUDIO, Pipeline, Span

__all__ = ["AUDIO", "Pipeline", "Span"]
