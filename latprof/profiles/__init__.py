"""What a profile is asked for, and how it is saved."""

__all__: list[str] = []
