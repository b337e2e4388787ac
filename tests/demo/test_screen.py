"""The picture fits its terminal and says what matters; the lines and the summary too."""

import io
from typing import Any

import pytest
from rich.console import Console

from mt5_bridge.demo import screen
from mt5_bridge.demo.screen import Scene, line, picture, summary
from mt5_bridge.demo.snapshot import QuoteLine, Seen, SignalLine, Snapshot, Stop

NOON = 1_577_880_000_000
HINT = "DATA_DIR=/tmp/mt5demo-abcdefgh python -m mt5_bridge stop"


def busy(**more: Any) -> Snapshot:
    more.setdefault("halt", {"state": "active"})
    quotes = [
        QuoteLine(symbol=symbol, bid=1.1, ask=1.1001, digits=5, spread=10, ticks=7, age_ms=age, moved=moved)
        for symbol, age, moved in (("EURUSD", 5, 1), ("GBPUSD", 5000, -1), ("USDJPY", 50, 0))
    ]
    signals = [
        SignalLine(signal_id="1", at_msc=NOON, intent="BUY EURUSD 0.1", fate="filled", price=1.1, latency_ms=2.345),
        SignalLine(
            signal_id="2", at_msc=NOON, intent="SELL EURUSD 0.1", bad="a minute old", fate="denied", reason="stale"
        ),
        SignalLine(signal_id="3", at_msc=NOON, intent="BUY USDJPY 0.1"),
    ] * 20
    position = {"ticket": 12, "side": "buy", "symbol": "EURUSD", "volume": 0.1, "price_open": 1.1, "profit": 1.5}
    return Snapshot(
        at_msc=NOON,
        bridges=[{"bridge_id": "demo"}],
        quotes=quotes,
        ticks_per_s=42.4,
        tick_age_p50_ms=3.21,
        tick_age_p99_ms=14.0,
        broker_seen_ms=20,
        signals=signals,
        sent=60,
        fates={"filled": 30, "denied": 20},
        reasons={"stale": 20},
        account={"currency": "USD", "balance": 10_000.0, "equity": 10_001.5},
        positions=[position, position | {"profit": -2.0, "side": "sell"}, position | {"profit": 0}] * 9,
        health={"status": "ok", "channels": {"terminal": {"state": "connected"}}},
        topics=Seen(ticks=1234),
        **more,
    )


def drawn(seen: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(picture(Scene(seen=seen, elapsed=75, duration=120, hint=HINT), width, height))
    return capture.get().splitlines()


HALTED: dict[str, Any] = {
    "halt": {"state": "halted", "by": "demo operator", "reason": "end of the demo and more words than fit in a line"},
    "stop": Stop(asked_msc=NOON, answer_ms=3.0, done_ms=120.0, closed=[1, 2], cancelled=[3]),
}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("seen", [busy(), busy(**HALTED), Snapshot(at_msc=0)], ids=["busy", "halted", "empty"])
def test_it_fits(seen: Snapshot, width: int, height: int) -> None:
    rows = drawn(seen, width, height)
    assert len(rows) <= height
    assert max(map(len, rows)) <= width
    assert any("Ctrl+C" in row for row in rows)


def test_it_says_what_matters() -> None:
    text = "\n".join(drawn(busy(), 120, 40))
    for words in (
        "ACTIVE",
        "42 ticks/s",
        "01:15 of 02:00",
        "EURUSD ▲",
        "denied: stale",
        "✗ a minute old",
        "filled at 1.1",
    ):
        assert words in text
    for words in ("2.3 ms", "10,001.50", "+1.50", "-2.00", "● Terminal", HINT):
        assert words in text
    halted = "\n".join(drawn(busy(**HALTED), 120, 40))
    for words in ("HALTED", "by demo operator", "stop: 3.0 ms, flat: 120 ms (2 closed, 1 cancelled)"):
        assert words in halted


def test_a_terminal_state_may_be_a_plain_word() -> None:
    seen = busy()
    seen.health = {"status": "ok", "channels": {"terminal": "connected"}}
    assert "● Terminal" in "\n".join(drawn(seen))


def test_a_line() -> None:
    text = line(Scene(seen=busy(), elapsed=3661, duration=None, hint=HINT))
    assert text.startswith("61:01  trading=active  ticks=1234 (42/s, age 3.2 ms)  signals=60 denied=20 filled=30")
    assert "no bridge" in line(Scene(seen=Snapshot(at_msc=0), elapsed=0, duration=None, hint=HINT))


def test_lines_come_once_a_second(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.2, 0.9, 1.1])
    monkeypatch.setattr("mt5_bridge.demo.screen.time.monotonic", lambda: next(clock) + 100)
    with screen.display(plain=True) as display:
        for _ in range(4):
            display.show(Scene(seen=busy(), elapsed=1, duration=None, hint=HINT))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_live_picture(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    scene = Scene(seen=busy(), elapsed=1, duration=None, hint=HINT)
    with screen.display(plain=False) as display:
        display.show(scene)
        display.show(scene)
    assert "MT5 Bridge demo" in capsys.readouterr().out


def test_the_summary() -> None:
    text = summary(busy(**HALTED))
    for words in (
        "1234 on the topic",
        "20 denied, 30 filled",
        "stale 20",
        "answered in 3.0 ms",
        "2 closed, 1 cancelled, 0 left",
    ):
        assert words in text
    assert "NO   the stop answered" in text
    assert " -   the stop answered" in summary(busy(), all_due=False)
    assert "  stop  " not in summary(Snapshot(at_msc=0))
    assert max(map(len, summary(busy(**HALTED), 60).splitlines())) <= 60
