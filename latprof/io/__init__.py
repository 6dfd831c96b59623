"""Frames in and out: checks of what is given, Parquet and CSV files, datasets of several files."""

__all__: list[str] = []
