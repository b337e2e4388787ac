"""Take the README's pictures of the dashboard from a real run of the demo: docs/dashboard-*.png.

.venv/bin/python scripts/screenshots.py      # needs chromium, and requirements/browser.txt in .venv
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from playwright.sync_api import Page, sync_playwright
from support.dashboard import PHONE, Demo

TARGET = Path(__file__).resolve().parents[1] / "docs"
DESKTOP = {"width": 1600, "height": 1000}
PATIENCE_MS = 120_000
TRADED_MS = 75_000
"""How long the demo trades before the first picture: long enough for curves worth looking at."""


def opened(page: Page, demo: Demo) -> Page:
    """Logged in, with everything that is drawn there."""
    page.goto(demo.page)
    page.wait_for_selector(".signals tbody .pill", timeout=PATIENCE_MS)
    page.wait_for_selector(".candles option", state="attached", timeout=PATIENCE_MS)
    page.get_by_role("combobox", name="Symbol").select_option("EURUSD")
    page.wait_for_timeout(4_000)
    return page


def take(page: Page, name: str, *, whole: bool = False) -> None:
    """A picture; what is below is scrolled to first, for charts draw themselves when they are seen."""
    if whole:
        page.locator(".journal").scroll_into_view_if_needed()
        page.wait_for_timeout(3_000)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1_000)
    page.screenshot(path=TARGET / f"dashboard-{name}.png", full_page=whole, timeout=PATIENCE_MS)
    print(TARGET / f"dashboard-{name}.png")


def main() -> int:
    """Exit code 1 when there is no chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("chromium is missing", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="mt5shots-"))
    demo = Demo(folder)
    try:
        demo.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            dark = browser.new_context(viewport=DESKTOP, color_scheme="dark")  # type: ignore[arg-type]  # a size
            page = opened(dark.new_page(), demo)
            page.wait_for_timeout(TRADED_MS)
            page.locator(".signals tbody button.link").first.click()
            take(page, "dark", whole=True)
            light = browser.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]  # a size
            take(opened(light.new_page(), demo), "light")
            phone = browser.new_context(
                viewport=PHONE,  # type: ignore[arg-type]  # a size
                device_scale_factor=2, is_mobile=True, has_touch=True, color_scheme="dark",
            )  # fmt: skip
            take(opened(phone.new_page(), demo), "phone")
            page.keyboard.press("Alt+s")
            page.get_by_role("button", name="Stop now").click()
            page.locator(".report").get_by_text("Done").wait_for(timeout=PATIENCE_MS)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(2_000)
            take(page, "stopped")
            browser.close()
    finally:
        demo.children.end()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
