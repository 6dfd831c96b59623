"""The page in a real browser: no network requests, readable at every width and in both schemes."""

import contextlib
import io
from pathlib import Path

import matplotlib.image as image
import numpy as np
import pytest
from browser import chromium, visit
from strategies import CHAIN, seeded
from test_report import HOSTILE

from latprof.analysis import analyze
from latprof.frames import Labels
from latprof.pipeline import Pipeline
from latprof.profile.profile import Profile
from latprof.report.page import page
from latprof.report.report import Report
from latprof.thresholds import Thresholds

DATA = Path(__file__).parents[1] / "data"
SHOWN = ("spans", "picture-stages", "picture-histogram", "percentiles", "accounts", "provenance")

pytestmark = pytest.mark.slow


def recorded():
    profile = analyze(DATA / "mic-slow-card.parquet", by="source", every="5s", order=True)
    return Report(
        profile, origin="mic-slow-card.parquet", thresholds=Thresholds(50_000_000, 100_000_000)
    )


def hostile():
    frames = seeded(CHAIN, len(HOSTILE) * 20, 1, missing=0, negative=0)
    frames.source = Labels.encode(HOSTILE * 20)
    profile = Profile(CHAIN, by="source")
    profile.add(frames)
    return Report(profile, origin="<img src=https://example.com/x.png onerror=alert(1)>", worst=20)


def wide():
    pipeline = Pipeline.chain("wide", *(f"a_stage_of_a_name_{i}" for i in range(24)))
    profile = Profile(pipeline, every="1us")
    profile.add(seeded(pipeline, 2_000, 1))
    return Report(profile, worst=20)


REPORTS = {
    "recorded": recorded,
    "hostile": hostile,
    "wide": wide,
    "empty": lambda: Report(Profile(CHAIN)),
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as context:
        yield context


@pytest.fixture(scope="module")
def tabs(browser, tmp_path_factory):
    """The page of each report, opened once; `Visit.show` sets its width and scheme."""
    folder = tmp_path_factory.mktemp("pages")
    with contextlib.ExitStack() as stack:
        opened = {}
        for name, make in REPORTS.items():
            path = folder / f"{name}.html"
            path.write_text(page(make()), encoding="utf-8")
            opened[name] = stack.enter_context(visit(browser, path))
        yield opened


def pixels(png):
    return image.imread(io.BytesIO(png), format="png")[..., :3]


def test_pages_open_without_errors_or_requests(tabs):
    for name, seen in tabs.items():
        assert seen.errors == [], name
        assert seen.requests == [seen.page.url], name
        assert seen.ask("document.scripts.length") == 0, name
        assert seen.ask("document.images.length") == 0, name


def test_sections_and_pictures_are_visible(tabs):
    seen = tabs["recorded"]
    seen.show()
    for id in SHOWN:
        box = seen.page.locator(f"#{id}").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 50
    pictures = seen.page.locator(".picture svg").all()
    assert len(pictures) == 5
    for picture in pictures:
        shot = (pixels(picture.screenshot()) * 255).astype(np.uint32) @ [1 << 16, 1 << 8, 1]
        assert len(np.unique(shot)) > 20  # letters have many shades
    assert "the bottleneck is ipc" in seen.page.locator("h1").inner_text()


def test_a_screenshot_is_light_or_dark_as_requested_and_not_blank(tabs):
    seen = tabs["recorded"]
    for scheme in ("light", "dark"):
        seen.show(scheme=scheme)
        shot = pixels(seen.page.screenshot(full_page=True))
        paper = np.median(shot[::3, ::3].reshape(-1, 3), axis=0)
        assert (paper > 0.9).all() if scheme == "light" else (paper < 0.2).all()
        inked = (np.abs(shot - paper).max(axis=2) > 0.25).mean()
        assert 0.02 < inked < 0.5
        # ink and paper of the pictures are those of the page
        labels = seen.page.locator("#picture-histogram svg text").first
        color = labels.evaluate("node => getComputedStyle(node).fill")
        assert color == seen.ask("getComputedStyle(document.body).color")


def test_letters_in_pictures_have_the_font_of_the_page_in_their_own_size_and_weight(tabs):
    text = tabs["recorded"].page.locator("#picture-stages svg text").first
    look = """(node, style) => {
        if (style) node.setAttribute('style', style);
        const {fontFamily, fontStyle, fontWeight, fontSize} = getComputedStyle(node);
        return [fontFamily, fontStyle, fontWeight, fontSize];
    }"""
    family = tabs["recorded"].ask("getComputedStyle(document.body).fontFamily")
    assert text.evaluate(look) == [family, "normal", "400", "9.5px"]
    before = text.get_attribute("style")
    for style in (  # as matplotlib 3.11 and older versions write it
        "font-style: italic; font-weight: 700; font-size: 12px; font-family: 'A', b",
        "font: italic 700 12px 'A', b",
    ):
        assert text.evaluate(look, style) == [family, "italic", "700", "12px"]
    text.evaluate(look, before)


@pytest.mark.parametrize(
    "name", ["recorded", "hostile", "empty", pytest.param("wide", marks=pytest.mark.slow)]
)
def test_axe_finds_no_violation(tabs, name):
    for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
        tabs[name].show(scheme=scheme)
        found = tabs[name].axe(*rules)
        assert [f"{x['id']}: {x['nodes'][0]['html'][:120]}" for x in found] == []


def test_axe_finds_violations_in_a_bad_page(browser, tmp_path):
    pale = "<p style='color:#ddd;background:#fff'>words that are hard to read</p>"
    (tmp_path / "bad.html").write_text(f"<!doctype html><title>t</title><img src=data:,>{pale}")
    with visit(browser, tmp_path / "bad.html") as seen:
        found = {x["id"] for x in seen.axe() if x["impact"] in ("serious", "critical")}
        assert {"image-alt", "color-contrast", "html-has-lang"} <= found
        assert [x["id"] for x in seen.axe("color-contrast")] == ["color-contrast"]


def test_narrow_windows_scroll_tables_and_not_the_page(tabs):
    for name, seen in tabs.items():
        for width in (600, 380):
            seen.show(width=width)
            assert seen.ask("document.documentElement.scrollWidth") <= width, name


def test_no_text_of_a_picture_is_cut_off(tabs):
    script = """
    [...document.querySelectorAll('.picture svg')].flatMap(svg => {
        const room = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < room.left - 1 || box.right > room.right + 1 ||
                box.top < room.top - 1 || box.bottom > room.bottom + 1;
        }).map(text => text.textContent);
    })"""
    for name, seen in tabs.items():
        seen.show()
        assert seen.ask(script) == [], name


def test_all_columns_fit_a_window_of_1280_pixels(tabs):
    script = """[...document.querySelectorAll('.scroll, .picture')]
        .filter(box => box.scrollWidth > box.clientWidth)
        .map(box => box.getAttribute('aria-labelledby') || box.getAttribute('aria-label'))"""
    tabs["recorded"].show(width=1280)
    assert tabs["recorded"].ask(script) == []


def test_pictures_can_be_read_on_a_phone(tabs):
    """Pictures scroll, by touch and by key, and do not shrink with the window."""
    script = """Math.min(...[...document.querySelectorAll('.picture svg text')]
        .map(text => text.getBoundingClientRect().height))"""
    seen = tabs["recorded"]
    seen.show(width=390)
    assert seen.ask(script) > 6.5
    boxes = seen.page.locator(".picture")
    assert {box.get_attribute("tabindex") for box in boxes.all()} == {"0"}


def test_hostile_names_are_shown_as_text(tabs):
    text = tabs["hostile"].page.locator("body").inner_text()
    assert "<img src=https://example.com/x.png onerror=alert(1)>" in text
    assert "<script>alert(1)</script>" in text
    assert r"\u202eevil" in text


def test_a_page_is_printed_in_light_colours(tabs):
    seen = tabs["recorded"]
    seen.show(scheme="dark", media="print")
    assert seen.ask("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    pdf = seen.page.pdf(prefer_css_page_size=True, print_background=True)
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 15
