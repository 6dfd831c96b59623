"""Columns of frames <-> files: Parquet, pandas and CSV, checked on the way in."""

__all__: list[str] = []
