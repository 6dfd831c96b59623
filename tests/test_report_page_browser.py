"""The page in a real browser: no network requests, readable at every width and in both schemes."""

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
    return Report(profile, worst=100)


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
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, make in REPORTS.items():
        (folder / f"{name}.html").write_text(page(make()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in REPORTS}


def pixels(png):
    return image.imread(io.BytesIO(png), format="png")[..., :3]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_opens_without_errors_or_requests(browser, paths, name):
    with visit(browser, paths[name]) as seen:
        assert seen.errors == []
        assert seen.requests == [paths[name].as_uri()]
        assert seen.ask("document.scripts.length") == 0
        assert seen.ask("document.images.length") == 0


def test_sections_and_pictures_are_visible(browser, paths):
    with visit(browser, paths["recorded"]) as seen:
        for id in SHOWN:
            box = seen.page.locator(f"#{id}").bounding_box()
            assert box["width"] > 300
            assert box["height"] > 50
        assert seen.page.locator(".picture svg").count() == 5
        for picture in seen.page.locator(".picture svg").all():
            shot = pixels(picture.screenshot())
            assert len(np.unique(shot.reshape(-1, 3), axis=0)) > 20  # letters have many shades
        assert "the bottleneck is ipc" in seen.page.locator("h1").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_is_light_or_dark_as_requested_and_not_blank(browser, paths, scheme):
    with visit(browser, paths["recorded"], scheme=scheme) as seen:
        shot = pixels(seen.page.screenshot(full_page=True))
        paper = np.median(shot.reshape(-1, 3), axis=0)
        assert (paper > 0.9).all() if scheme == "light" else (paper < 0.2).all()
        inked = (np.abs(shot - paper).max(axis=2) > 0.25).mean()
        assert 0.02 < inked < 0.5
        # ink and paper of the pictures are those of the page
        labels = seen.page.locator("#picture-histogram svg text").first
        color = labels.evaluate("node => getComputedStyle(node).fill")
        assert color == seen.ask("getComputedStyle(document.body).color")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", REPORTS)
def test_axe_finds_no_violation(browser, paths, name, scheme):
    with visit(browser, paths[name], scheme=scheme) as seen:
        found = seen.axe()
        bad = [f"{x['id']}: {x['nodes'][0]['html'][:120]}" for x in found]
        assert bad == []


def test_axe_finds_violations_in_a_bad_page(browser, tmp_path):
    pale = "<p style='color:#ddd;background:#fff'>words that are hard to read</p>"
    (tmp_path / "bad.html").write_text(f"<!doctype html><title>t</title><img src=data:,>{pale}")
    with visit(browser, tmp_path / "bad.html") as seen:
        found = {x["id"] for x in seen.axe() if x["impact"] in ("serious", "critical")}
        assert {"image-alt", "color-contrast", "html-has-lang"} <= found


@pytest.mark.parametrize("width", [600, 380])
@pytest.mark.parametrize("name", REPORTS)
def test_narrow_windows_scroll_tables_and_not_the_page(browser, paths, name, width):
    with visit(browser, paths[name], width=width) as seen:
        assert seen.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["recorded", "wide", "hostile"])
def test_no_text_of_a_picture_is_cut_off(browser, paths, name):
    script = """
    [...document.querySelectorAll('.picture svg')].flatMap(svg => {
        const room = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < room.left - 1 || box.right > room.right + 1 ||
                box.top < room.top - 1 || box.bottom > room.bottom + 1;
        }).map(text => text.textContent);
    })"""
    with visit(browser, paths[name]) as seen:
        assert seen.ask(script) == []


def test_all_columns_fit_a_window_of_1280_pixels(browser, paths):
    script = """[...document.querySelectorAll('.scroll, .picture')]
        .filter(box => box.scrollWidth > box.clientWidth)
        .map(box => box.getAttribute('aria-labelledby') || box.getAttribute('aria-label'))"""
    with visit(browser, paths["recorded"], width=1280) as seen:
        assert seen.ask(script) == []


def test_pictures_can_be_read_on_a_phone(browser, paths):
    """Pictures scroll, by touch and by key, and do not shrink with the window."""
    script = """Math.min(...[...document.querySelectorAll('.picture svg text')]
        .map(text => text.getBoundingClientRect().height))"""
    with visit(browser, paths["recorded"], width=390) as seen:
        assert seen.ask(script) > 6.5
        boxes = seen.page.locator(".picture")
        assert {box.get_attribute("tabindex") for box in boxes.all()} == {"0"}


def test_hostile_names_are_shown_as_text(browser, paths):
    with visit(browser, paths["hostile"]) as seen:
        text = seen.page.locator("body").inner_text()
        assert "<img src=https://example.com/x.png onerror=alert(1)>" in text
        assert "<script>alert(1)</script>" in text
        assert r"\u202eevil" in text


def test_a_page_is_printed_in_light_colours(browser, paths):
    with visit(browser, paths["recorded"], scheme="dark", media="print") as seen:
        assert seen.ask("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        pdf = seen.page.pdf(prefer_css_page_size=True, print_background=True)
        assert pdf.startswith(b"%PDF")
        assert 3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 15
