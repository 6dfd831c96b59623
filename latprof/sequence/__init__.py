"""Results that depend on the order of frames: lost and late ids, jitter, frames in flight."""

__all__: list[str] = []
