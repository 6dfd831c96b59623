"""The fold: one pass over frames to sums that merge."""

__all__: list[str] = []
