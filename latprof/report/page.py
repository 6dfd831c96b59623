"""A report as one page of HTML: to be sent, read anywhere, printed.

The page needs neither network nor script, and asks the browser to allow neither. It is laid out by
a template that escapes all it is given; the pictures are SVG in the page itself.
"""

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latprof.report.report import Report

__all__ = ["page"]


def page(report: "Report", *, made: dt.datetime | None = None) -> str:
    """Return a report as a page of HTML.

    Parameters
    ----------
    report
        What is shown. Of its profile, whatever was folded: windows, groups, order, causes.
    made
        When the page was made, for its foot; by default now.

    Examples
    --------
    >>> from latprof.pipeline import Pipeline
    >>> from latprof.profile.profile import Profile
    >>> from latprof.report.report import Report
    >>> html = page(Report(Profile(Pipeline.chain("mic", "decode", "play"))))
    >>> html.startswith("<!doctype html>"), "mic: no frame has finished" in html
    (True, True)
    """
    from pathlib import Path

    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from latprof.report.content import content
    from latprof.report.pictures import pictures

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.jinja")
    made = made or dt.datetime.now(dt.UTC)
    return template.render(
        content(report, made),
        pictures=pictures(report),
        css=(folder / "page.css").read_text(encoding="utf-8"),
    )
