"""A profile as people read it: text, terminal, Markdown, JSON, HTML, notebook."""

__all__: list[str] = []
