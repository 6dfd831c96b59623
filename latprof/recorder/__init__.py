"""The recorder behind `latprof.Profiler`: what runs in the profiled program and beside it."""

__all__: list[str] = []
