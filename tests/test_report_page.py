"""The page of a report: its content, and that names from files are escaped."""

import datetime as dt
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from strategies import CHAIN, simple
from test_report import HOSTILE, REPORTS

from latprof import Profiler, Trace
from latprof.analysis import analyze
from latprof.cli.main import main
from latprof.frames import Labels
from latprof.pipeline import AUDIO, Pipeline
from latprof.profile.profile import Profile
from latprof.report.page import page
from latprof.report.pictures import INK, PAPER, inline, svg_of
from latprof.report.report import Report
from latprof.table import Section, written
from latprof.thresholds import Thresholds

MADE = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
VOID = {"meta", "link", "br", "hr", "img", "input"}
PICTURES = ["stages", "histogram", "percentiles", "timeline", "waterfall"]


class Reader(HTMLParser):
    """Collects elements, ids, links and text; fails if an element is not closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def values(self, *keys):
        return [value for _, key, value in self.attributes if key in keys]


DIFFERENT = ["empty", "one frame", "all negative", "audio", "hostile"]
OTHERS = [name for name in REPORTS if name not in DIFFERENT]  # mostly the same sections


@pytest.fixture(
    scope="module", params=[DIFFERENT, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=len
)
def pages(request):
    """A report of each kind, its page, and a reader of it."""
    found = {}
    for name in request.param:
        report = REPORTS[name]()
        html = page(report, made=MADE)
        found[name] = report, html, Reader(html)
    return found


# -- any report ---------------------------------------------------------------------------------


def test_a_page_is_complete_and_asks_for_nothing_from_elsewhere(pages):
    for name, (_, _, reader) in pages.items():
        elements = {"script", "link", "iframe", "img", "object", "base"}
        assert set(reader.elements).isdisjoint(elements), name
        links = reader.values("href", "src", "xlink:href")
        assert [link for link in links if not link.startswith("#")] == [], name
        assert not [key for _, key, _ in reader.attributes if key.startswith("on")], name
        (rule,) = [value for value in reader.values("content") if "default-src" in value]
        assert rule == "default-src 'none'; style-src 'unsafe-inline'"


def test_ids_are_unique_and_every_reference_has_its_target(pages):
    for name, (_, _, reader) in pages.items():
        ids = reader.values("id")
        assert len(ids) == len(set(ids)), name
        wanted = {value[1:] for value in reader.values("href")}
        wanted |= set(reader.values("aria-labelledby"))
        for _, key, value in reader.attributes:
            if key in ("style", "clip-path", "fill"):
                wanted |= set(re.findall(r"url\(#([^)]*)\)", value))
        assert wanted <= set(ids), name


def test_the_headline_and_the_accounts_are_in_every_page(pages):
    for name, (report, _, reader) in pages.items():
        text = " ".join(" ".join(reader.text).split())
        assert " ".join(report.headline().split()) in text, name
        assert f"started {report.profile.accounts.started:,} = in flight" in text, name
        for part in ("Accounts", "What the numbers are", "Where this comes from"):
            assert part in text, name
        assert "2026-11-24T12:00:00Z by latprof" in text
        assert text.replace("\n", "").isprintable(), name


def test_a_page_has_five_pictures_if_any_frame_has_start_and_end(pages):
    for name, (report, html, _) in pages.items():
        drawn = [id[8:] for id in sections(html) if id.startswith("picture-")]
        assert sorted(drawn) == sorted(PICTURES if report.profile["end_to_end"].count else []), name
        assert "accounts" in sections(html), name


# -- what it says -------------------------------------------------------------------------------


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without pictures, which take longest to make."""
    monkeypatch.setattr("latprof.report.page.pictures", lambda *_: {})


def sections(html):
    return re.findall(r'<section id="([\w-]+)"', html)


def test_sections_are_in_order():
    profile = REPORTS["audio"]().profile
    report = Report(profile, origin="mic.parquet", worst=3)
    assert sections(page(report)) == [
        *("spans", "picture-stages", "tail", "picture-histogram", "ranges", "picture-percentiles"),
        *("percentiles", "picture-timeline", "groups", "picture-waterfall", "worst", "accounts"),
        *("definitions", "provenance", "pipeline"),
    ]


def test_hostile_names_are_escaped():
    frames = simple(CHAIN, [(0, 10, 30, 60, 100)] * len(HOSTILE), source=Labels.encode(HOSTILE))
    profile = Profile(CHAIN, by="source")
    profile.add(frames)
    html = page(Report(profile, origin='"><script>alert(1)</script>\x1b[31m'))
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    text = "".join(Reader(html).text)
    assert "<script>alert(1)</script>" in text  # as a source
    assert r'"><script>alert(1)</script>\x1b[31m' in text  # as the file


@pytest.mark.usefixtures("no_pictures")
def test_tables_say_what_the_report_says():
    report = REPORTS["audio"]()
    cells = [cell.strip() for cell in Reader(page(report)).text if cell.strip()]
    spans = next(section for section in report.sections() if section.key == "spans")
    for row in spans.table.cells():
        shown = [
            written(x, column.kind) for x, column in zip(row, spans.table.columns, strict=True)
        ]
        start = cells.index(shown[0])
        assert cells[start : start + len(shown)] == shown


@pytest.mark.usefixtures("no_pictures")
def test_ranges_above_a_threshold_are_marked_with_their_shares():
    frames = simple(CHAIN, [(0, 0, 0, 0, 700_000)] * 3 + [(0, 0, 0, 0, 3_000_000)])
    profile = Profile(CHAIN)
    profile.add(frames)
    html = page(Report(profile, thresholds=Thresholds(1_000_000)))
    (ranges,) = re.findall(r'<section id="ranges".*?</section>', html, re.DOTALL)
    assert re.findall(r'class="(\w+)" style="[^"]*">([^<]*)', ranges) == [
        ("warning", "1 to 5 ms"),
        ("warning", "25.0%"),
    ]
    assert re.findall(r"linear-gradient\(90deg,#\w+ ([\d.]+)%", ranges) == ["75.0", "25.0"]


@pytest.mark.usefixtures("no_pictures")
def test_the_tail_names_the_stage_that_grows_most_in_slow_frames():
    # 99 frames of 10 + 20, and one that plays for 1,000 more
    rows = [(0, 0, 10, 10, 30)] * 99 + [(0, 0, 10, 10, 1_030)]
    profile = Profile(Pipeline("p", CHAIN.marks, CHAIN.spans))
    profile.add(simple(CHAIN, rows))
    text = " ".join(" ".join(Reader(page(Report(profile))).text).split())
    last = CHAIN.stages[-1].name
    assert (
        "The slowest 1 % (1 frame) take 1.03 us each, the middle fifth (20) 30 ns: "
        f"1.00 us more, of which {last} has 1.00 us (100%)." in text
    )


def test_causes_are_in_the_page_if_they_were_folded():
    path = Path(__file__).parents[1] / "data" / "mic-slow-card.parquet"
    report = Report(analyze(path, causes=True))
    html = page(report)
    text = " ".join(" ".join(Reader(html).text).split())
    assert "causes" in sections(html)
    assert "the cause is alsa" in text
    assert "ipc (99% waiting for alsa)" in text  # the waterfall's legend
    assert "causes" not in [section.key for section in Report(analyze(path)).sections()]


def test_a_page_does_not_depend_on_the_matplotlib_style_of_the_process():
    report = REPORTS["one frame"]()
    before = page(report, made=MADE)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert page(report, made=MADE) == before


@pytest.mark.slow
def test_a_page_of_24_stages_is_below_a_megabyte():
    wide = Pipeline.chain("wide", *(f"stage{i}" for i in range(24)))
    steps = np.random.default_rng(1).integers(10_000, 10_000_000, (300, 25))
    stamps = np.cumsum(steps, axis=1)
    rows = [(0, *row) for row in stamps.tolist()]
    profile = Profile(wide, every="1s")
    profile.add(simple(wide, rows))
    assert len(page(Report(profile, worst=100))) < 1_000_000


# -- pictures as SVG ----------------------------------------------------------------------------


def drawn(text="x", name="a"):
    figure = Figure()
    ax = figure.add_subplot()
    ax.barh([0], [1], color="#586FA1", edgecolor=PAPER)
    ax.set_title(text, color=INK)
    return inline(svg_of(figure, name))


def test_a_section_without_a_place_on_the_page_is_appended(monkeypatch):
    report = REPORTS["one frame"]()
    found = [*report.sections(), Section("Weather", ("It rains <today>.",), key="weather")]
    monkeypatch.setattr(Report, "sections", lambda self, *, worst=None: found)
    html = page(report, made=MADE)
    Reader(html)
    assert html.count('<section id="weather"') == 1
    assert "It rains &lt;today&gt;." in html
    assert html.index('id="accounts"') < html.index('id="weather"') < html.index('id="definitions"')


def test_two_pictures_have_no_id_in_common():
    one, two = (drawn(name=name) for name in ("a", "b"))
    first, second = (set(re.findall(r'id="([^"]*)"', svg)) for svg in (one, two))
    assert first
    assert first.isdisjoint(second)


def test_text_and_background_colours_become_css_variables():
    svg = drawn()
    assert INK not in svg
    assert PAPER not in svg
    assert "var(--ink)" in svg
    assert "var(--paper)" in svg
    assert "#586fa1" in svg.lower()


def test_text_in_pictures_is_text_and_escaped():
    svg = drawn("<script>alert(1)</script> & co")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in svg


def test_a_hatch_in_two_colours_is_drawn_once():
    figure = Figure()
    ax = figure.add_subplot()
    ax.barh([0], [1], color="#586FA1", hatch="...", edgecolor="red")
    ax.barh([1], [1], color="#586FA1", hatch="...", edgecolor="blue")
    shapes = {}
    one = inline(svg_of(figure, "a"), shapes)
    two = inline(svg_of(figure, "b"), shapes)
    assert len(shapes) == 1
    (shape,) = shapes.values()
    assert one.count(f'href="#{shape}"') == two.count(f'href="#{shape}"') == 2
    assert one.count(f'id="{shape}"') == 1
    assert f'id="{shape}"' not in two
    assert len(two) < len(one) / 3


# -- the command --------------------------------------------------------------------------------


@pytest.fixture
def trace(tmp_path):
    start = np.arange(40) * 20_000_000
    marks = {"start": start, "decode": start, "play": start + 700, "end": start + 1_000_000}
    kind = Pipeline.chain("mic", "decode", "play")
    path = tmp_path / "<b>mic&amp;<i>.parquet"
    meta = {"host": "kvm-1 <i>", "python": "3.11.7", "created": "2026-11-24T10:00:00Z"}
    Trace(kind, frame_id=range(40), marks=marks, source="in", meta=meta).save(path)
    return path


def test_report_writes_the_page_and_prints_as_well(trace, tmp_path, capsys):
    out = tmp_path / "report.html"
    assert main(["report", str(trace), "--format", "json", "--html", str(out)]) == 0
    assert '"frames": 40' in capsys.readouterr().out
    text = "".join(Reader(out.read_text(encoding="utf-8")).text)
    assert "mic: the bottleneck is play, 999 us mean" in text
    assert f"{trace}" in text  # <b> and all
    assert re.search(r"kvm-1 <i>, Python 3\.11\.7, latprof [\d.]+, 2026-11-24T10:00:00Z", text)


@pytest.mark.usefixtures("no_pictures")
def test_a_saved_profile_has_the_same_sections(trace, tmp_path, capsys):
    assert main(["merge", str(trace), "-o", str(tmp_path / "p")]) == 0
    assert main(["report", str(tmp_path / "p"), "--html", str(tmp_path / "saved.html")]) == 0
    assert main(["report", str(trace), "--html", str(tmp_path / "trace.html")]) == 0
    saved, direct = (sections((tmp_path / f"{n}.html").read_text()) for n in ("saved", "trace"))
    assert set(direct) - set(saved) <= {"order"}
    assert set(saved) <= set(direct)
    capsys.readouterr()


@pytest.mark.usefixtures("no_pictures")
def test_values_above_thresholds_are_marked(trace, tmp_path, capsys):
    out = tmp_path / "r.html"
    limits = ["--warning", "500us", "--critical", "2ms"]
    assert main(["report", str(trace), "--html", str(out), *limits]) == 0
    html = out.read_text()
    assert re.search('<td class="warning" style="[^"]*">999 us', html)
    assert "above 500 us (warning): 40 of 40 frames" in html
    capsys.readouterr()


@pytest.mark.usefixtures("no_pictures")
def test_a_page_is_not_written_over_a_trace(trace, tmp_path, capsys):
    before = trace.read_bytes()
    for where, said in ((trace, "does not end in .html"), (tmp_path / "no" / "x.html", "x.html")):
        assert main(["report", str(trace), "--html", str(where)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert said in captured.err
    assert trace.read_bytes() == before


def test_report_of_a_running_profiler_is_a_page_too():
    with Profiler(AUDIO, warning="1us") as profiler:
        profiler.record(1, range(1_000, 9_000, 1_000), source="input")
        html = profiler.report().to_html()
    assert html.startswith("<!doctype html>")
    assert "picture-waterfall" in html
