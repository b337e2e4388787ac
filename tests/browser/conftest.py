"""A real Chromium before the dashboard of a running demo: broker, backend, bridge on the paper terminal."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright
from support.dashboard import Demo, foreign

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    made = Demo(tmp_path_factory.mktemp("demo"))
    try:
        made.start()
        yield made
    finally:
        made.children.end()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "Debian's chromium is missing: apt-get install chromium"
    options = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=options)
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport=DESKTOP, color_scheme="dark")
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, demo: Demo) -> Iterator[Page]:
    """The dashboard, logged in, with ticks; whatever the browser complains of is a failure."""
    made = context.new_page()
    complaints: list[str] = []
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("request", lambda request: complaints.append(request.url) if foreign(request.url, demo) else None)
    made.goto(demo.page)
    made.wait_for_selector(".quotes tbody .price")
    yield made
    assert complaints == []
