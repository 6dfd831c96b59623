"""A real browser for the tests: Chromium as the system has it, driven by Playwright."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from needs import require, require_program

# no sandbox: in CI the tests run as root; the rest keeps the browser from calling home
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """An open page, with the requests and errors since it was opened."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def show(self, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """Show the page in a window of another width, another colour scheme or as printed."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme, media=media)

    def axe(self, *rules: str) -> list[dict[str, Any]]:
        """Return the violations of all or of some rules that axe-core finds."""
        axe = require("axe_playwright_python.sync_playwright")
        options = {"runOnly": list(rules)} if rules else {}
        return axe.Axe().run(self.page, options=options).response["violations"]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Yield a headless browser; without one, skip the test, or fail if nothing may be skipped."""
    sync_api = require("playwright.sync_api")
    program = require_program(*PROGRAMS)
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=program, args=FLAGS, headless=True
        )
        try:
            yield context
        finally:
            context.close()


@contextlib.contextmanager
def visit(context: Any, path: Path) -> Iterator[Visit]:
    """Open a file in a new tab."""
    page = context.new_page()
    seen = Visit(page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda message: seen.errors.append(f"{message.type}: {message.text}"))
    try:
        seen.show()
        page.goto(path.as_uri())
        yield seen
    finally:
        page.close()
