"""Whether a browser is opened."""

import webbrowser

import pytest

from mt5_bridge.client import browsing


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []

    def open_one(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_one)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    return urls


def test_none_without_a_display(opened: list[str]) -> None:
    assert not browsing.open_page("http://x/")
    assert opened == []


def test_one_where_somebody_sees_it(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    assert browsing.open_page("http://x/")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delenv("DISPLAY")
    assert browsing.open_page("http://y/")
    assert opened == ["http://x/", "http://y/"]


def test_a_browser_that_does_not_start_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(url: str) -> bool:
        raise webbrowser.Error

    monkeypatch.setattr("webbrowser.open", broken)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not browsing.open_page("http://x/")
