"""Rings that are mapped files: their format, how they are made, and how they are read."""

__all__: list[str] = []
