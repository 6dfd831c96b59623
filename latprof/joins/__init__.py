"""How recordings become one: their clocks, ids that start again, which rows match."""

__all__: list[str] = []
