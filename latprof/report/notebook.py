"""A report in a notebook: its sections as HTML."""

from latprof.report.report import Report
from latprof.table import Cell, Column, Section, Table, html

__all__ = ["report_html"]


def report_html(report: Report) -> str:
    """Return a report: its sections, bars where it has them."""
    sections = []
    for section in report.sections():
        kept = [i for i, head in enumerate(section.header) if head]
        columns = tuple(Column(section.header[i], "text" if i else "name") for i in kept)
        rows = [[Cell(row[i]) for i in kept] for row in section.rows]
        table = Table(columns, rows) if kept else None
        sections.append(Section(section.title, section.lines, table))
    return html(sections)
