"""The page's state: what frames make of it, and that patches add up to the picture."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.dashboard.board import KEPT_SIGNALS, Board

WELCOME = {"bridge_id": "b", "account": "5", "symbols": ["X"], "scopes": ["read"], "halt": {"state": "active"}}
RESULT = {"signal_id": "s-1", "status": "filled", "symbol": "X", "action": "BUY", "latency_ms": 3.0}


def added_up(told: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """What a page knows after a patch."""
    known = {**told, **{name: value for name, value in patch.items() if name not in ("full",) and name[-1] != "+"}}
    known["ticks"] = {**told.get("ticks", {}), **patch.get("ticks", {})}
    for name, rows in patch.items():
        if name.endswith("+"):
            known[name] = [*told.get(name, []), *rows]
    signals = {row["signal_id"]: row for row in known.get("signals+", [])}
    known["signals+"] = sorted(signals.values(), key=lambda row: str(row["signal_id"]))
    return known


FRAMES = st.sampled_from([
    ("welcome", WELCOME, None),
    ("tick_data", {"symbol": "X", "bid": 1.0, "ask": 1.1, "spread": 1, "time_msc": 5}, None),
    ("tick_data", {"symbol": "Y", "bid": 2.0, "ask": 2.1, "spread": 1, "time_msc": 5}, None),
    ("account_info", {"equity": 1.0, "balance": 2.0}, None),
    ("account_info", {"equity": 3.0, "balance": 2.0}, None),
    ("positions", [{"ticket": 1, "symbol": "X"}], None),
    ("positions", [], None),
    ("heartbeat", {"status": "ok", "channels": {"terminal": "connected"}}, None),
    ("order_result", RESULT, "e-1"),
    ("order_result", {**RESULT, "status": "closed"}, "e-2"),
    ("order_result", {**RESULT, "signal_id": None, "request_id": "r"}, "e-3"),
    ("halt_changed", {"state": "halted", "phase": "latched", "at": "a"}, "e-4"),
    ("halt_changed", {"state": "halted", "phase": "done", "at": "a", "closed": [1]}, "e-5"),
    ("position_closed", {"ticket": 1}, "e-6"),
    ("nonsense", 5, None),
    ("positions", "no list", None),
])  # fmt: skip


@given(st.lists(st.tuples(FRAMES, st.booleans()), max_size=40))
def test_patches_add_up_to_the_picture(frames: list[tuple[tuple[str, Any, str | None], bool]]) -> None:
    board, now = Board(), 1_000_000
    known = added_up({}, board.full(now))
    for (type, data, event_id), told in frames:
        now += 400
        board.take(type, data, event_id, now)
        if told:
            known = added_up(known, board.patch(now))
    known = added_up(known, board.patch(now))
    whole = added_up({}, board.full(now))
    for picture in (known, whole):
        picture.pop("trails", None)
    assert known == whole


def test_an_event_is_shown_once() -> None:
    board = Board()
    for _ in range(2):
        board.take("order_result", RESULT, "e-1", 5)
    assert len(board.patch(6)["events+"]) == 1


def test_the_past_does_not_overwrite_what_is_known() -> None:
    board = Board()
    board.take("order_result", RESULT, "e-1", 5)
    board.history([{**RESULT, "status": "denied"}, {"signal_id": "s-0", "status": "denied", "received_at": "t"}])
    fates = {row["signal_id"]: row["status"] for row in board.full(6)["signals+"]}
    assert fates == {"s-1": "filled", "s-0": "denied"}
    board.history({"signal_id": str(number)} for number in range(KEPT_SIGNALS + 5))
    assert len(board.full(6)["signals+"]) == KEPT_SIGNALS


def test_the_status_tells_limits_halt_and_rate() -> None:
    board = Board()
    status = {"limits": [{"name": "x"}], "halt_detail": {"state": "reducing"}, "counters": {"ticks": 10}}
    board.status(status, 1_000)
    board.status({**status, "counters": {"ticks": 30}, "tick_age_ms": 4}, 3_000)
    board.status({**status, "counters": {"ticks": 5}}, 5_000)  # the bridge began anew
    told = board.full(5_000)
    assert (told["limits"], told["halt"]["state"]) == ([{"name": "x"}], "reducing")
    assert told["rate+"] == [[3_000, 10.0, 4]]


def test_only_rules_of_what_is_shown_are_kept() -> None:
    board = Board()
    board.take("welcome", WELCOME, None, 1)
    board.take("positions", [{"symbol": "H"}], None, 1)
    board.rules([{"name": "X", "digits": 5}, {"name": "H", "digits": 2}, {"name": "Z", "digits": 3}])
    assert {name: rules["digits"] for name, rules in board.full(1)["symbols"].items()} == {"X": 5, "H": 2}


def test_links_orders_and_the_last_prices() -> None:
    board = Board()
    board.linked("lost", "why", 7)
    board.orders([{"ticket": 4}])
    for at in (1_000, 1_500, 2_000):
        board.take("tick_data", {"symbol": "X", "bid": at / 1000}, None, at)
    told = board.full(9)
    assert (told["link"], told["orders"]) == ({"state": "lost", "detail": "why", "since": 7}, [{"ticket": 4}])
    assert told["trails"] == {"X": [[1, 1.5], [2, 2.0]]}


def test_a_stop_from_the_button_to_the_last_ticket() -> None:
    board = Board()
    board.take("positions", [{"ticket": 1, "symbol": "X", "side": "buy"}], None, 1)
    board.stop_asked("ann", 10)
    board.stop_answered({"success": True, "data": {"state": "halted", "at": "t", "durable": True}}, 25)
    told = board.full(30)
    assert (told["halt"]["state"], told["stop"]["phase"], told["stop"]["answer_ms"]) == ("halted", "latched", 15)
