"""The dashboard as a person has it: in Chromium, before a whole running system."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from support.dashboard import PHONE, VIEWER, Demo, violations

WITHIN = 30_000
"""Milliseconds that anything may take on a slow machine."""


def state(page: Page) -> str:
    return page.locator("#halt-title").inner_text()


def resume(page: Page) -> None:
    """Trade again, as a person does."""
    page.get_by_role("button", name="Resume trading…").click()
    page.get_by_label("Why is it safe to trade again?").fill("the test goes on")
    page.get_by_label("In spite of").check()
    page.get_by_role("button", name="Resume trading", exact=True).click()
    expect(page.locator("#halt-title")).to_have_text("Trading", timeout=WITHIN)


def test_the_page_loads_and_ticks_move(page: Page) -> None:
    """What a load costs is a benchmark's to say; here it ends at all, within what any machine needs."""
    expect(page.locator("#halt-title")).to_have_text("Trading", timeout=WITHIN)
    bid = page.locator(".quotes tbody tr").first.locator(".price").first
    before = bid.inner_text()
    expect(bid).not_to_have_text(before, timeout=WITHIN)
    assert re.search(r"\d+\.\d{2,}$", before.strip())
    expect(page.locator(".account .lead b")).to_have_text(re.compile(r"[\d.,]+\d\d$"), timeout=WITHIN)
    expect(page.locator(".gauge").first).to_have_attribute("aria-valuenow", re.compile(r"\d"), timeout=WITHIN)
    expect(page.locator(".signals tbody .pill").first).to_be_visible(timeout=WITHIN)


def test_nothing_jumps_while_ticks_come(page: Page) -> None:
    """The panels keep their places while everything in them changes."""
    expect(page.locator(".signals tbody .pill").first).to_be_visible(timeout=WITHIN)
    page.wait_for_timeout(1000)
    shift = page.evaluate(
        """async () => {
          let moved = 0;
          const watch = new PerformanceObserver((list) => { for (const e of list.getEntries()) moved += e.value; });
          watch.observe({type: "layout-shift", buffered: false});
          await new Promise((done) => setTimeout(done, 3000));
          return moved;
        }"""
    )
    assert shift < 0.02


def test_a_signal_s_life_is_looked_up(page: Page) -> None:
    link = page.locator(".signals tbody button.link").first
    expect(link).to_be_visible(timeout=WITHIN)
    link.click()
    expect(page.locator(".life li").first).to_contain_text("Received", timeout=WITHIN)
    expect(page.locator(".life li").first.locator("time")).to_have_attribute("title", re.compile("UTC$"))
    page.get_by_label("Signal id", exact=True).fill("no-such-signal")
    page.get_by_role("button", name="Look up", exact=True).click()
    expect(page.locator(".journal .problem")).to_contain_text("no signal", timeout=WITHIN)


def test_signals_are_filtered(page: Page) -> None:
    expect(page.locator(".signals .pill.poor").first).to_be_visible(timeout=WITHIN)
    page.get_by_label("Fate").select_option("denied")
    for text in page.locator(".signals tbody .pill").all_inner_texts():
        assert text == "denied"
    page.get_by_label("Filter by words").fill("nothing is called so")
    expect(page.locator(".signals tbody")).to_contain_text("Nothing fits")


def test_a_position_is_closed_by_hand(page: Page) -> None:
    row = page.locator(".positions tbody tr", has=page.get_by_role("button", name="Close")).first
    expect(row).to_be_visible(timeout=WITHIN)
    button = row.get_by_role("button", name="Close")
    name = button.get_attribute("aria-label") or ""
    button.click()
    page.locator("dialog[open]").get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0, timeout=WITHIN)


def test_a_stop_by_keyboard_is_carried_out_and_told_ticket_by_ticket(page: Page) -> None:
    expect(page.locator(".positions tbody th").first).to_be_visible(timeout=WITHIN)
    page.keyboard.press("Alt+s")
    expect(page.get_by_role("button", name="Stop now")).to_be_focused(timeout=WITHIN)
    page.keyboard.press("Enter")
    expect(page.locator("#halt-title")).to_have_text("Halted", timeout=WITHIN)
    report = page.locator(".report")
    expect(report).to_contain_text("Done", timeout=60_000)
    expect(report).to_contain_text("Answered in")
    assert report.locator("tbody tr").count() > 0
    assert set(report.locator("tbody .pill").all_inner_texts()) <= {"closed", "cancelled"}
    expect(page.locator(".positions tbody")).to_contain_text("No position is open", timeout=WITHIN)
    resume(page)


def test_a_stop_by_holding_the_button(page: Page) -> None:
    button = page.locator(".stop.big")
    expect(button).to_be_enabled(timeout=WITHIN)
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    expect(page.locator("#halt-title")).to_have_text("Halted", timeout=WITHIN)
    page.mouse.up()
    expect(page.locator("dialog[open]")).to_have_count(0)
    resume(page)


def test_a_short_press_asks_first(page: Page) -> None:
    page.locator(".stop.big").click()
    expect(page.get_by_role("button", name="Stop now")).to_be_visible(timeout=WITHIN)
    page.get_by_role("button", name="Go back").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert state(page) == "Trading"


def test_a_lost_backend_is_shown_and_heals(page: Page, demo: Demo) -> None:
    demo.backend.kill()
    demo.backend.process.wait()
    expect(page.locator(".trouble")).to_contain_text("Connection to the bridge lost", timeout=WITHIN)
    expect(page.locator(".board")).to_have_class(re.compile("stale"))
    demo.restart_backend()
    expect(page.locator(".trouble p")).to_have_count(0, timeout=60_000)
    bid = page.locator(".quotes tbody tr").first.locator(".price").first
    before = bid.inner_text()
    expect(bid).not_to_have_text(before, timeout=WITHIN)


def test_a_lost_network_is_shown_and_heals(page: Page) -> None:
    page.context.set_offline(True)
    expect(page.locator(".trouble")).to_contain_text("Connection to the dashboard lost", timeout=WITHIN)
    page.context.set_offline(False)
    expect(page.locator(".trouble p")).to_have_count(0, timeout=60_000)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
    expect(page.locator(".signals tbody .pill").first).to_be_visible(timeout=WITHIN)
    assert violations(page) == []
    page.keyboard.press("Alt+s")
    expect(page.get_by_role("button", name="Stop now")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")


def test_a_phone_scrolls_down_only_and_has_the_stop_under_the_thumb(browser: Browser, demo: Demo) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)  # type: ignore[arg-type]  # a size
    try:
        phone = context.new_page()
        phone.goto(demo.page)
        phone.wait_for_selector(".quotes tbody .price", timeout=WITHIN)
        expect(phone.locator(".signals tbody .pill").first).to_be_attached(timeout=WITHIN)
        wide, seen = phone.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= seen
        stop = phone.locator(".thumb .stop")
        expect(stop).to_be_in_viewport()
        box = stop.bounding_box()
        assert box is not None
        assert box["height"] >= 56
        assert violations(phone) == []
    finally:
        context.close()


def test_a_viewer_reads_only_and_a_wrong_token_is_told(browser: Browser, demo: Demo) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(demo.address)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("does not let in")
        assert violations(page) == []
        page.get_by_label("Token").fill(VIEWER)
        page.get_by_label("Your name").fill("vera")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector(".quotes tbody .price", timeout=WITHIN)
        expect(page.locator(".bar")).to_contain_text("read only")
        expect(page.locator(".stop.big")).to_be_disabled()
        for name in ("Close", "Modify"):
            for button in page.locator(".positions").get_by_role("button", name=name).all():
                expect(button).to_be_disabled()
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(re.compile("/login$"))
        page.goto(demo.address)
        expect(page).to_have_url(re.compile("/login$"))
    finally:
        context.close()
