"""The backend's memory: every copy counted on its channel, every event once."""

from typing import Any

import msgspec
import pytest

from mt5_bridge.client import Frame, Message
from mt5_bridge.demo.observed import KEPT, Observed
from mt5_bridge.demo.signals import Draft
from mt5_bridge.demo.snapshot import proven

NOW = 1_577_880_000_500


@pytest.fixture
def seen() -> Observed:
    return Observed()


def message(type: str, data: Any, event_id: str | None = None, **more: Any) -> Message:
    base: dict[str, Any] = {
        "topic": "t",
        "partition": 0,
        "offset": 0,
        "timestamp_ms": NOW,
        "key": None,
        "value": b"",
        "headers": {},
    }
    return Message(**(base | more), type=type, data=data, event_id=event_id)


def frame(type: str, data: Any, event_id: str | None = None) -> Frame:
    return Frame(type=type, data=data, event_id=event_id)


def sent(seen: Observed, signal_id: str = "s-1", **more: Any) -> None:
    base: dict[str, Any] = {
        "symbol": "EURUSD",
        "action": "BUY",
        "volume": 0.1,
        "value": b"",
        "intent": "BUY EURUSD 0.1",
    }
    seen.on_sent(Draft(signal_id=signal_id, **(base | more)), NOW)


def result(status: str, signal_id: str = "s-1", **more: Any) -> dict[str, Any]:
    return {"signal_id": signal_id, "status": status, "symbol": "EURUSD", "action": "BUY", "price": 1.1} | more


def tick(bid: float, time_msc: int = NOW - 20) -> dict[str, Any]:
    return {"symbol": "EURUSD", "bid": bid, "ask": bid + 0.0001, "spread": 10, "time_msc": time_msc}


def test_quotes_ages_and_rate(seen: Observed) -> None:
    for second in range(4):
        for price in (1.1, 1.2, 1.15):
            seen.on_message(message("tick_data", tick(price)), NOW - 3000 + second * 1000)
    now = seen.snapshot(NOW)
    assert (now.topics.ticks, now.ticks_per_s, now.broker_seen_ms) == (12, 3.0, 0)
    (quote,) = now.quotes
    assert (quote.bid, quote.digits, quote.ticks, quote.age_ms, quote.moved) == (1.15, 4, 12, 20, -1)
    assert now.tick_age_p99_ms == 20


def test_an_event_counts_once_on_each_channel(seen: Observed) -> None:
    sent(seen)
    for _ in range(2):
        seen.on_frame(frame("order_result", result("filled", latency_ms=2.5), "e-1"), NOW + 5)
        seen.on_message(message("order_result", result("filled", latency_ms=2.5), "e-1"), NOW + 9)
    now = seen.snapshot(NOW)
    assert (now.socket.fills, now.topics.fills, now.fates) == (1, 1, {"filled": 1})
    (line,) = now.signals
    assert (line.fate, line.latency_ms, line.round_trip_ms) == ("filled", 2.5, 5.0)
    assert now.latency_p50_ms == 2.5


def test_denials_are_counted_by_reason(seen: Observed) -> None:
    sent(seen)
    seen.on_frame(frame("order_result", result("denied", reason="stale"), "e-1"), NOW)
    seen.on_frame(frame("order_result", result("denied", "not-ours", reason="stale"), "e-2"), NOW)
    now = seen.snapshot(NOW)
    assert (now.reasons, now.socket.denials) == ({"stale": 2}, 2)
    assert now.latency_p50_ms is None


def test_what_is_open_is_remembered_until_it_is_gone(seen: Observed) -> None:
    seen.on_frame(frame("order_result", result("filled", "a"), "1"), NOW)
    seen.on_frame(frame("order_result", result("filled", "b", action="SELL"), "2"), NOW)
    seen.on_frame(frame("order_result", result("placed", "c", action="BUY_LIMIT"), "3"), NOW)
    situation = seen.situation(NOW)
    assert [(live.signal_id, live.buy) for live in situation.positions] == [("a", True), ("b", False)]
    assert [live.signal_id for live in situation.pendings] == ["c"]
    seen.on_frame(frame("position_closed", {"signal_id": "b"}), NOW)
    sent(seen, "d", action="CLOSE", target="a")
    seen.on_frame(frame("order_result", result("closed", "d", action="CLOSE"), "4"), NOW)
    sent(seen, "e", action="CANCEL", target="c")
    seen.on_frame(frame("order_result", result("rejected", "e", action="CANCEL"), "5"), NOW)
    assert not seen.situation(NOW).positions
    assert not seen.situation(NOW).pendings


def test_a_modified_position_stays_open(seen: Observed) -> None:
    seen.on_frame(frame("order_result", result("filled", "a"), "1"), NOW)
    sent(seen, "m", action="MODIFY", target="a")
    seen.on_frame(frame("order_result", result("modified", "m", action="MODIFY"), "2"), NOW)
    assert [live.signal_id for live in seen.situation(NOW).positions] == ["a"]


def test_silence_is_named_and_dead_letters_find_their_signal(seen: Observed) -> None:
    sent(seen, "s-1")
    sent(seen, "s-1", bad="an id used before", answered=False)
    sent(seen, "s-2", bad="cut in half", answered=False)
    seen.on_dead_letter(message("", None, headers={"reason": b"no_envelope"}), NOW + 8)
    seen.on_dead_letter(message("", None), NOW + 8)
    fates = [(line.fate, line.reason) for line in seen.snapshot(NOW).signals]
    assert fates == [("dead letter", "no_envelope"), ("waiting", None), ("waiting", None)]
    later = seen.snapshot(NOW + 3000)
    assert [line.fate for line in later.signals] == ["dead letter", "passed over", "waiting"]
    assert later.fates == {"dead letter": 2, "passed over": 1}


def test_the_stop_is_seen_on_both_channels_and_answered(seen: Observed) -> None:
    halt = {"state": "halted", "reason": "fire", "by": "ann", "at": "t"}
    seen.on_stop_sent(NOW)
    answer = {"command": "emergency_stop", "success": True, "data": halt | {"durable": True}}
    seen.on_frame(frame("command_result", answer), NOW + 3)
    for phase, tickets in (("latched", []), ("progress", [1]), ("done", [1, 2])):
        event = halt | {"phase": phase, "closed": tickets}
        seen.on_frame(frame("halt_changed", event, phase), NOW + 5)
        seen.on_message(message("halt_changed", event, phase), NOW + 7)
        seen.on_message(message("halt_changed", event, phase), NOW + 9)
    stop = seen.snapshot(NOW).stop
    assert (stop.answer_ms, stop.done_ms, stop.closed) == (3.0, 5.0, [1, 2])
    assert (stop.latched_on, stop.done_on) == (["socket", "topics"], ["socket", "topics"])
    assert seen.snapshot(NOW).halt["state"] == "halted"
    checks = proven(seen.snapshot(NOW))
    assert [what for what, yes in checks.items() if not yes] == list(checks)[:3]


def test_a_failed_stop_proves_nothing(seen: Observed) -> None:
    seen.on_stop_sent(NOW)
    answer = {"command": "emergency_stop", "success": False, "error": {"code": "x"}}
    seen.on_frame(frame("command_result", answer), NOW)
    assert not proven(seen.snapshot(NOW))["the stop answered by its command_result"]


def test_a_resume_is_no_stop(seen: Observed) -> None:
    seen.on_frame(frame("halt_changed", {"state": "active", "phase": "done", "at": "t"}, "e"), NOW)
    now = seen.snapshot(NOW)
    assert (now.halt["state"], now.stop.done_on) == ("active", [])


def test_state_frames(seen: Observed) -> None:
    seen.on_frame(frame("hello", {"halt": {"state": "reducing"}}), NOW)
    seen.on_frame(frame("hello", {"halt": None}), NOW)
    seen.on_frame(frame("positions", [{"ticket": 1}, "nonsense"]), NOW)
    seen.on_frame(frame("account_info", {"equity": 5}), NOW)
    seen.on_frame(frame("heartbeat", {"status": "ok"}), NOW)
    seen.on_frame(frame("command_result", {"command": "get_status"}), NOW)
    now = seen.snapshot(NOW)
    assert (now.halt, now.positions, now.account, now.health) == (
        {"state": "reducing"}, [{"ticket": 1}], {"equity": 5}, {"status": "ok"},
    )  # fmt: skip


@pytest.mark.parametrize("data", [None, 5, [], "x"])
def test_what_is_not_the_contract_is_passed_over(seen: Observed, data: Any) -> None:
    before = seen.snapshot(NOW)
    for type in ("tick_data", "order_result", "halt_changed", "hello", "command_result", "unknown"):
        seen.on_frame(frame(type, data), NOW)
    assert seen.snapshot(NOW) == before


def test_memory_is_bounded(seen: Observed) -> None:
    for number in range(KEPT + 50):
        sent(seen, f"s-{number}", answered=number % 2 == 0)
    for number in range(9 * KEPT):
        seen.on_frame(frame("order_result", result("filled", f"x-{number}"), f"e-{number}"), NOW)
    now = seen.snapshot(NOW)
    assert (now.sent, len(now.signals)) == (KEPT + 50, 50)
    assert msgspec.json.decode(msgspec.json.encode(now), type=type(now)) == now
