"""The recordings of several processes as one trace, on one clock."""

__all__: list[str] = []
