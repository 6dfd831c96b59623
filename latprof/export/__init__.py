"""Results for the systems that people look at latencies in. Each module needs its own package."""

__all__: list[str] = []
