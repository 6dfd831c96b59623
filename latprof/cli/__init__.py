"""The command ``latprof``, one module for each of its commands."""

__all__: list[str] = []
