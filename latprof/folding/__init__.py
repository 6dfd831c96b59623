"""The fold: frames to mergeable sums, in one pass."""

__all__: list[str] = []
