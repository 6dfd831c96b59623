"""The ring that frames are committed into: its rows, the mapped file, and how it is read."""

__all__: list[str] = []
