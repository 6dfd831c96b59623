"""Sets of runs against each other: comparisons, gates, plans, trends."""

__all__: list[str] = []
