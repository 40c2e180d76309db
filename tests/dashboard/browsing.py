"""The system's Chromium on a page, and everything that went wrong there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# On a machine busy with other tests a page takes its time; a wait ends as soon as it may.
DEADLINE_MS = 30_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Visit:
    """An open page; `complaints` are console errors, failed and external requests."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        """Give the text of an element once it is there, without line breaks."""
        self.page.wait_for_selector(selector)
        return " ".join(self.page.inner_text(selector).split())

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until the element holds `text`."""
        self.page.wait_for_function(
            """([selector, text]) => {
                const found = document.querySelector(selector);
                return found && found.innerText.replace(/\\s+/g, ' ').includes(text);
            }""",
            arg=[selector, text],
        )

    def choose(self, name: str, label: str) -> None:
        """Choose an option of a drop-down by its label, as a person does."""
        self.page.click(f"#choose-{name}")
        self.page.get_by_role("option", name=label, exact=True).click()

    def click_cell(self, column: int, row: int) -> None:
        """Click on a cell of the heat map, counted from the left and from the top."""
        self.page.wait_for_selector("#heat-map .nsewdrag", state="attached")
        self.page.locator("#heat-map").scroll_into_view_if_needed()
        place = self.page.evaluate(
            """([column, row]) => {
                const drawn = document.querySelector('#heat-map .js-plotly-plot')._fullLayout;
                const box = document.querySelector('#heat-map .nsewdrag').getBoundingClientRect();
                const rows = drawn.yaxis.range[1] - drawn.yaxis.range[0];
                return {
                    x: box.x + drawn.xaxis.d2p(drawn.xaxis._categories[column]),
                    y: box.y + box.height * (row + 0.5) / rows,
                };
            }""",
            [column, row],
        )
        self.page.mouse.move(place["x"], place["y"])
        self.page.mouse.click(place["x"], place["y"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the system's Chromium without a screen; skip the test where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, address: str, width: int = 1440) -> Iterator[Visit]:
    """Open `address`; what goes wrong afterwards is in `complaints`."""
    context = browser.new_context(viewport={"width": width, "height": 1000})
    context.set_default_timeout(DEADLINE_MS)
    opened = Visit(context.new_page())
    host = urlsplit(address).netloc

    def heard(message: Any) -> None:
        if message.type in ("error", "warning"):
            opened.complaints.append(f"console: {message.text}")

    def asked(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            opened.complaints.append(f"external request: {request.url}")

    def answered(response: Any) -> None:
        if response.status >= 400:
            opened.complaints.append(f"{response.status}: {response.url}")

    opened.page.on("console", heard)
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
    opened.page.on("request", asked)
    opened.page.on("response", answered)
    try:
        opened.page.goto(address)
        yield opened
    finally:
        context.close()
