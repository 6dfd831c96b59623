"""The mergeable result of folding a trace, the questions it answers, its saved form."""

__all__: list[str] = []
