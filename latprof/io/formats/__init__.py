"""Files of other tools as frames: one small module for each family of formats."""

__all__: list[str] = []
