"""Who waited for whom: blame, causes, what-if, utilization."""

__all__: list[str] = []
