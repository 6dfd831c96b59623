"""Files: whole or not at all, what a trace file says of itself, tables to columns and back."""

__all__: list[str] = []
