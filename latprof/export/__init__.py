"""Exports to monitoring systems and trace viewers; a module may need a package of its own."""

__all__: list[str] = []
