"""Finds which stages frames waited for: blame, causes, what-if, utilization."""

__all__: list[str] = []
