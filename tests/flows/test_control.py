import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.flow_kit import FakeChannel, FlowKit
from support.simulated import leap, simulated

from mt5_bridge.control.commands import Command
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.answers import MOST_STOPS_KEPT
from mt5_bridge.flows.control import MAX_SIGNALS, MAX_STOPS, MAX_WAITING
from mt5_bridge.flows.emergency import StopOptions


def frame(kit: FlowKit, content: Any) -> None:
    kit.control.on_frame(content if isinstance(content, bytes) else json.dumps(content).encode())


async def answer(kit: FlowKit, request_id: str | int | None, count: int = 1) -> dict[str, Any]:
    """The `data` of the answer to a request."""

    def found() -> dict[str, Any] | None:
        matching = [f["data"] for f in kit.channel.of("command_result") if f.get("request_id") == request_id]
        return matching[count - 1] if len(matching) >= count else None

    return await eventually(found, 60, f"answer to {request_id}")


# --- what does not decode


@pytest.mark.parametrize(
    ("content", "signal_id", "request_id"),
    [
        (b'{"type":"trading_signal","request_id":7,"data":{"signal_id":"s","volume":NaN}}', "s", 7),
        (b'{"type":"trading_signal","request_id":"r","data":{"symbol":"X","volume":-Infinity}}', None, "r"),
        (b'{"type":"trading_signal","data":{"signal_id":"s","symbol":"X","action":"BUY","volume":1e400}}', "s", None),
        (b'{"signal_id":"s","symbol":"EURUSD","action":"BUY","volume":0.1,"stop_loss":1.09}', "s", None),
        (b'{"type":"trading_signal","signal_id":"s","symbol":"EURUSD","action":"BUY"}', "s", None),
    ],
)
def test_a_signal_that_does_not_decode_is_denied(
    tmp_path: Path, content: bytes, signal_id: str | None, request_id: str | int | None
) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.run("frame-signals", "outbox-websocket")
            kit.control.on_frame(content)
            await eventually(lambda: kit.channel.of("order_result"), 5)
            (told,) = kit.channel.of("order_result")
            assert told.get("request_id") == request_id
            data = told["data"]
            assert (data["signal_id"], data["status"], data["reason"]) == (signal_id, "denied", "invalid")
            assert not kit.channel.of("error")
            assert not kit.terminal.sent

    run()


@simulated
async def test_a_command_that_does_not_decode_is_answered_and_an_answer_never_is(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.control.on_frame(b'{"type":"close_position","request_id":"c","data":{"ticket":NaN}}')
        assert (await answer(kit, "c"))["error"]["code"] == "invalid_params"
        kit.control.on_frame(b'{"type":"tick_data_processed","data":{"signal_id":"s","price":NaN}}')
        assert not kit.channel.of("error")
        kit.control.on_frame(b'{"type":"gossip","data":{"signal_id":"s","price":NaN}}')
        assert [error["data"]["code"] for error in kit.channel.of("error")] == ["invalid"]


@simulated
async def test_signals_that_do_not_decode_wait_in_a_queue_with_an_end(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for _ in range(MAX_SIGNALS + 1):
            kit.control.on_frame(b'{"type":"trading_signal","request_id":7,"data":{"signal_id":"s","volume":NaN}}')
        (told,) = kit.channel.of("order_result")
        assert (told["request_id"], told["data"]["signal_id"], told["data"]["reason"]) == (7, "s", "throttled")


# --- the stop


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b'{"type":"emergency_stop"}', 0),
        (b'{"type":"emergency_stop","data":null}', 0),
        (b'{"type":"emergency_stop","data":[1]}', 1),
        (b'{"type":"emergency_stop","data":{"scope":"some","close_positions":"maybe"},"request_id":7}', 2),
        (b'{"type":"emergency_stop","data":{"reason":5,"by":null},"request_id":{"a":1}}', 2),
        (b'{"type":"emergency_stop","data":{"reason":NaN}}', 1),
        (b'{"type":"emergency_stop","data":{', 1),
        (b'{"type":"mt5_command","data":{"command":"stop"}}', 0),
        (b'{"type":"mt5_command","data":{"command":"stop","params":{"price":NaN}}}', 1),
        (b'{"type":"mt5_command","request_id":"\\ud800","data":{"command": "stop"}}', 1),
        (b'{"type":"emergency_stop","request_id":' + b"9" * 40 + b"}", 0),
        (b'{"type":"emergency_stop","request_id":' + b"9" * 9000 + b"}", 1),
        (b'{"type":"mt5_command","data":{"command":" Emergency_Stop ","params":{"scope":3}}}', 1),
    ],
)
def test_the_type_of_the_frame_alone_latches(tmp_path: Path, content: bytes, faults: int) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            kit.control.on_frame(content)
            assert kit.latch.halt.state is HaltState.HALTED, "before on_frame returns"
            await eventually(lambda: kit.channel.of("command_result"), 5)
            (told,) = kit.channel.of("command_result")
            assert told["data"]["success"]
            data = told["data"]["data"]
            assert (data["state"], data["durable"]) == ("halted", True)
            assert len(data.get("faults", [])) == faults

    run()


@simulated
async def test_answers_what_it_latched_past_everything_that_waits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        fields = {"reason": "drill", "by": "ann", "close_positions": False, "cancel_orders": False, "scope": "mine"}
        frame(kit, {"type": "emergency_stop", "request_id": "s1", "data": fields})
        assert kit.emergency._goal == StopOptions(cancel_orders=False, close_positions=False, scope="mine")
        data = (await answer(kit, "s1"))["data"]
        assert {n: data[n] for n in ("state", "reason", "by")} == {"state": "halted", "reason": "drill", "by": "ann"}
        assert data["at"].endswith("Z")
        assert len(kit.channel.urgent) == 1
        assert kit.control.stats.stops == 1


@simulated
async def test_a_repeated_stop_gets_the_first_answer_while_halted_and_acts_when_not(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        stop = {"type": "emergency_stop", "request_id": "s1", "data": {"reason": "one"}}
        frame(kit, stop)
        first = await answer(kit, "s1")
        await asyncio.sleep(10)
        frame(kit, {**stop, "data": {"reason": "two"}})
        assert await answer(kit, "s1", 2) == first
        assert (kit.emergency.stops, kit.answers.once.repeated) == (1, 1)
        await kit.commands.resume("ok", "ann", force=True, origin=Origin.LOCAL)
        frame(kit, {**stop, "data": {"reason": "two"}})
        assert kit.latch.halt.state is HaltState.HALTED
        third = await answer(kit, "s1", 3)
        assert third["data"]["reason"] == "two"


@simulated
async def test_a_stop_of_an_earlier_halt_is_no_repeat_in_one_that_a_rule_made(tmp_path: Path) -> None:
    """A backend that starts anew may count its requests from 1 again; a rule's halt closes nothing by itself."""
    async with FlowKit.open(tmp_path) as kit:
        frame(kit, {"type": "emergency_stop", "request_id": 1, "data": {}})
        await answer(kit, 1)
        await kit.commands.resume("ok", "ann", force=True, origin=Origin.LOCAL)
        await asyncio.sleep(1)
        kit.emergency.stop(reason="drawdown", by="rule", origin=Origin.RULE, options=None)
        assert not kit.emergency.unfinished
        terminal = kit.terminal
        for repeats in (0, 1):
            frame(kit, {"type": "emergency_stop", "request_id": 1, "data": {}})
            assert (await answer(kit, 1, 2 + repeats))["data"]["reason"] == "drawdown"
            assert (kit.emergency.stops, kit.answers.once.repeated) == (3, repeats)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        assert kit.latch.halt.reason == "drawdown"
        frame(kit, {"type": "emergency_stop", "request_id": 1, "data": {}})
        assert kit.emergency.unfinished, "acts"


@simulated
async def test_a_stop_repeated_after_a_restart_does_nothing_twice(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        frame(kit, {"type": "emergency_stop", "request_id": "s1", "data": {}})
        first = await answer(kit, "s1")
        await asyncio.sleep(5)
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        frame(kit, {"type": "emergency_stop", "request_id": "s1", "data": {}})
        assert await answer(kit, "s1") == first
        assert kit.emergency.stops == 0
        leap(DAY / 1000 + 10)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        frame(kit, {"type": "emergency_stop", "request_id": "s1", "data": {}})
        await answer(kit, "s1")
        assert kit.emergency.stops == 1, "remembered for a day"


@simulated
async def test_a_stop_that_cannot_be_remembered_is_answered_all_the_same(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        frame(kit, {"type": "emergency_stop", "request_id": "s1", "data": {}})
        assert (await answer(kit, "s1"))["data"]["durable"] is False
        kit.journal.mend()


@simulated
async def test_answers_to_stops_are_remembered_within_bounds(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.answers._stop_answers = {str(n): {} for n in range(MOST_STOPS_KEPT)}
        frame(kit, {"type": "emergency_stop", "request_id": "new", "data": {}})
        await answer(kit, "new")
        assert len(kit.answers._stop_answers) == MOST_STOPS_KEPT
        assert "0" not in kit.answers._stop_answers


# --- what is no command


@simulated
async def test_nonsense_is_answered_at_most_once_a_second(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for content in (b"", b"\xff\xfe", b"[]", b'"x"', b"{}", b'{"type":"x"}', b'{"type":5,"data":{}}', b"[" * 5000):
            kit.control.on_frame(content)
        frame(kit, {"type": "dance", "data": {}})
        assert len(kit.channel.of("error")) == 1
        assert kit.control.stats.silenced == 8
        await asyncio.sleep(1.01)
        frame(kit, {"type": "dance" * 1000, "data": {}})
        second = kit.channel.of("error")[1]["data"]
        assert second["code"] == "unknown_type"
        assert len(second["message"]) <= 500


@simulated
async def test_answers_are_never_answered(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        before = len(kit.channel.frames)
        for name in ("error", "command_result", "tick_data_processed", "heartbeat_response", "mt5_command_result"):
            frame(kit, {"type": name, "data": {}, "request_id": "x"})
        await asyncio.sleep(1)
        assert len(kit.channel.frames) == before


@simulated
async def test_unknown_commands_with_a_request_are_told_so(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        frame(kit, {"type": "dance", "data": {}, "request_id": "r1"})
        assert (await answer(kit, "r1"))["error"]["code"] == "unknown_command"
        frame(kit, {"type": "mt5_command", "data": {"command": "order_send"}, "request_id": "r2"})
        assert (await answer(kit, "r2"))["error"]["code"] == "unknown_command"
        frame(kit, {"type": "close_position", "data": {"ticket": -1}, "request_id": "r3"})
        assert (await answer(kit, "r3"))["error"]["code"] == "invalid_params"
        frame(kit, {"type": "mt5_command", "data": {"command": "get_account"}, "request_id": "r4"})
        assert (await answer(kit, "r4"))["data"]["login"] == 1001


@simulated
async def test_nobody_to_answer_is_no_fault(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.control._channel = None
        frame(kit, {"type": "get_status", "data": {}, "request_id": "r"})
        frame(kit, {"type": "dance", "data": {}})
        await asyncio.sleep(1)
        assert (kit.control.stats.commands, kit.control.stats.errors) == (1, 1)


# --- acting once


def counting(kit: FlowKit, name: str = "reduce_only") -> list[Command]:
    """A handler that takes a second, and what it was asked."""
    asked: list[Command] = []

    async def work(command: Command) -> Any:
        asked.append(command)
        await asyncio.sleep(1)
        return {"number": len(asked)}

    kit.answers.handlers[name] = work
    return asked


@simulated
async def test_a_repeated_request_acts_once_at_the_same_time_later_and_after_a_restart(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        asked = counting(kit)
        request = {"type": "reduce_only", "data": {}, "request_id": 17}
        frame(kit, request)
        frame(kit, request)
        first = await answer(kit, 17)
        assert await answer(kit, 17, 2) == first
        frame(kit, request)
        assert await answer(kit, 17, 3) == first
        assert len(asked) == 1
        assert kit.answers.once.repeated == 2
        await kit.crash()
    async with FlowKit.open(tmp_path) as kit:
        asked = counting(kit)
        frame(kit, {"type": "reduce_only", "data": {}, "request_id": "17"})
        assert await answer(kit, "17") == first
        assert not asked


@simulated
async def test_reading_is_never_remembered(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        asked = counting(kit, "get_status")
        for count in (1, 2):
            frame(kit, {"type": "get_status", "data": {}, "request_id": "g"})
            await answer(kit, "g", count)
        assert len(asked) == 2


@simulated
async def test_a_journal_that_cannot_be_read_refuses_what_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def refuse(request_id: str) -> None:
            raise JournalError("unreadable")

        monkeypatch.setattr(kit.journal, "answer", refuse)
        frame(kit, {"type": "reduce_only", "data": {}, "request_id": "r"})
        assert (await answer(kit, "r"))["error"]["code"] == "journal_unavailable"
        assert kit.latch.halt.state is HaltState.ACTIVE


@simulated
async def test_without_a_request_id_everything_acts(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        asked = counting(kit)
        for count in (1, 2):
            frame(kit, {"type": "reduce_only", "data": {}})
            await answer(kit, None, count)
        assert len(asked) == 2


# --- in order


@simulated
async def test_answers_come_in_the_order_of_the_commands(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        kit.terminal.tick("EURUSD", 1.1, 1.1001)
        kit.terminal.holds["get_account_info"] = asyncio.Event()
        asked: list[tuple[str, dict[str, Any]]] = [
            ("get_account", {}),
            ("get_status", {}),
            ("close_position", {"ticket": 99}),
            ("dance", {}),
            ("close_position", {"ticket": "x"}),
            ("mt5_command", {"command": "ping"}),
            ("reduce_only", {}),
            ("get_positions", {}),
            ("get_ticks", {"symbol": "EURUSD"}),
            ("subscribe", {"symbols": ["EURUSD"]}),
        ]
        for n, (name, data) in enumerate(asked):
            frame(kit, {"type": name, "data": data, "request_id": n})
        await asyncio.sleep(0.3)
        assert not kit.channel.of("command_result")
        kit.terminal.holds.pop("get_account_info").set()
        await answer(kit, len(asked) - 1)
        assert [f["request_id"] for f in kit.channel.of("command_result")] == list(range(len(asked)))


@simulated
async def test_a_stop_waits_for_no_other_answer(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        kit.terminal.holds["get_account_info"] = asyncio.Event()
        frame(kit, {"type": "get_account", "data": {}, "request_id": "a"})
        frame(kit, {"type": "emergency_stop", "data": {}, "request_id": "s"})
        await asyncio.sleep(0.1)
        assert [f["request_id"] for f in kit.channel.of("command_result")] == ["s"]
        kit.terminal.holds.pop("get_account_info").set()
        await answer(kit, "a")


# --- what the backend may


@simulated
async def test_what_is_not_permitted_is_forbidden_and_does_nothing(tmp_path: Path) -> None:
    may: dict[Permission, list[tuple[str, dict[str, Any]]]] = {
        Permission.READ: [("get_account", {}), ("get_status", {}), ("mt5_command", {"command": "positions_get"})],
        Permission.STREAM: [("unsubscribe", {"symbols": ["EURUSD"]})],
        Permission.TRADE: [("close_all", {}), ("mt5_command", {"command": "close", "params": {"ticket": 1}})],
        Permission.HALT: [("reduce_only", {}), ("resume_trading", {"reason": "x", "by": "ann"})],
    }
    async with FlowKit.open(tmp_path, permitted=frozenset()) as kit:
        kit.run("commands", "frame-signals")
        for needs, asked in may.items():
            for n, (name, data) in enumerate(asked):
                frame(kit, {"type": name, "data": data, "request_id": f"{needs}{n}"})
                told = await answer(kit, f"{needs}{n}")
                assert (told["success"], told["error"]["code"]) == (False, "forbidden")
                assert repr(str(needs)) in told["error"]["message"]
        assert kit.latch.halt.state is HaltState.ACTIVE
        frame(
            kit, {"type": "trading_signal", "request_id": 5, "data": {"signal_id": "s", "symbol": "X", "action": "BUY"}}
        )
        (denied,) = kit.channel.of("order_result")
        assert (denied["request_id"], denied["data"]["reason"]) == (5, "forbidden")
        assert not await kit.journal.seen(["s"])
        frame(kit, {"type": "heartbeat", "data": {}, "request_id": "h"})
        assert (await answer(kit, "h"))["success"]
        frame(kit, {"type": "emergency_stop", "data": {}, "request_id": "stop"})
        assert (await answer(kit, "stop"))["data"]["state"] == "halted", "a stop needs no permission"


@simulated
async def test_what_is_permitted_is_done(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, permitted=frozenset({Permission.READ})) as kit:
        kit.run("commands")
        frame(kit, {"type": "get_account", "data": {}, "request_id": "a"})
        assert (await answer(kit, "a"))["success"]


# --- load


@simulated
async def test_a_flood_of_stops_costs_bounded_work(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        most = MAX_WAITING + MAX_STOPS
        for n in range(most + 500):
            frame(kit, {"type": "emergency_stop", "data": {}, "request_id": n})
        assert kit.latch.halt.state is HaltState.HALTED
        assert len(kit.control._tasks) == most
        await answer(kit, most - 1)
        assert len(kit.channel.of("command_result")) == most + 500, "each is answered"
        await kit.idle()


@simulated
async def test_what_asks_nothing_of_the_terminal_does_not_wait_behind_what_does(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        kit.terminal.holds["get_account_info"] = asyncio.Event()
        for n in range(40):
            frame(kit, {"type": "get_account", "data": {}, "request_id": f"a{n}"})
        await asyncio.sleep(1)
        frame(kit, {"type": "reduce_only", "data": {}, "request_id": "r"})
        assert (await answer(kit, "r"))["success"]
        assert kit.terminal.calls.count("get_account_info") == 16
        kit.terminal.holds.pop("get_account_info").set()
        await answer(kit, "a39")
        assert kit.control.stats.commands == 41


@simulated
async def test_reads_that_hang_leave_places_to_what_acts(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        for name in ("get_account_info", "get_symbols"):
            kit.terminal.holds[name] = asyncio.Event()
        for n in range(40):
            frame(kit, {"type": "get_account", "data": {}, "request_id": f"a{n}"})
            frame(kit, {"type": "mt5_command", "data": {"command": "symbols_get"}, "request_id": f"s{n}"})
        asked = [("close_position", {"ticket": 99}), ("mt5_command", {"command": "close", "params": {"ticket": 99}})]
        for n, (name, data) in enumerate(asked):
            frame(kit, {"type": name, "data": data, "request_id": f"c{n}"})
        frame(kit, {"type": "mt5_command", "data": {"command": "status"}, "request_id": "quick"})
        for n in range(2):
            assert (await answer(kit, f"c{n}"))["error"]["code"] == "not_found"
        assert (await answer(kit, "quick"))["success"]
        for event in kit.terminal.holds.values():
            event.set()
        await answer(kit, "s39")


@simulated
async def test_too_many_commands_are_told_so(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for n in range(MAX_WAITING + 3):
            frame(kit, {"type": "get_account", "data": {}, "request_id": n})
        assert kit.control.stats.overloaded == 3
        assert (await answer(kit, MAX_WAITING + 2))["error"]["code"] == "overloaded"
        hang = asyncio.Event()

        async def work(command: Command) -> Any:
            await hang.wait()

        kit.answers.handlers["get_status"] = work
        for n in range(MAX_WAITING + 1):
            frame(kit, {"type": "get_status", "data": {}, "request_id": f"s{n}"})
        assert kit.control.stats.overloaded == 4
        hang.set()
        await answer(kit, f"s{MAX_WAITING - 1}")


@simulated
async def test_too_many_signals_are_told_so_and_their_ids_not_spent(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for n in range(MAX_SIGNALS + 2):
            frame(kit, {"type": "trading_signal", "data": {"symbol": "X", "action": "BUY", "signal_id": f"s{n}"}})
        told = kit.channel.of("order_result")
        assert [f["data"]["signal_id"] for f in told] == [f"s{MAX_SIGNALS}", f"s{MAX_SIGNALS + 1}"]
        assert told[0]["data"]["reason"] == "throttled"
        assert not await kit.journal.seen([f"s{MAX_SIGNALS}"])


@simulated
async def test_signals_enter_many_at_a_time_in_their_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"trading_enabled": False}) as kit:
        for n in range(250):
            frame(kit, {"type": "trading_signal", "data": {"symbol": "X", "action": "BUY", "signal_id": f"s{n}"}})
        groups = kit.journal.stats.calls
        kit.run("frame-signals")
        assert (await kit.result("s249", 20))["reason"] == "trading_disabled"
        assert kit.journal.stats.calls - groups <= 5
        assert [r["signal_id"] for r in await kit.results()] == [f"s{n}" for n in range(250)]


@simulated
async def test_a_signal_ages_while_it_waits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        signal = {"symbol": "EURUSD", "action": "BUY", "volume": 0.1, "stop_loss": 1.09, "signal_id": "old"}
        frame(kit, {"type": "trading_signal", "data": signal})
        await asyncio.sleep(6)
        kit.run("frame-signals")
        assert (await kit.result("old"))["reason"] == "stale"
        assert not kit.terminal.sent


@simulated
async def test_a_defect_is_told_to_who_can_stop_the_bridge(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def broken(command: Command) -> Any:
            raise ZeroDivisionError

        kit.answers.handlers["reduce_only"] = broken
        frame(kit, {"type": "reduce_only", "data": {}, "request_id": "r"})
        await eventually(lambda: kit.defects, 5)
        assert isinstance(kit.defects.pop(), ZeroDivisionError)


@simulated
async def test_a_repeat_of_what_failed_by_a_defect_ends_with_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        go = asyncio.Event()

        async def broken(command: Command) -> Any:
            await go.wait()
            raise ZeroDivisionError

        kit.answers.handlers["reduce_only"] = broken
        for _ in range(2):
            frame(kit, {"type": "reduce_only", "data": {}, "request_id": "r"})
        await asyncio.sleep(1)
        go.set()
        await eventually(lambda: kit.defects, 5)
        await asyncio.sleep(1)
        assert len(kit.defects) == 1
        kit.defects.clear()


@simulated
async def test_the_end_waits_for_nobody(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, channel=FakeChannel()) as kit:
        kit.run("commands")
        kit.terminal.holds["get_account_info"] = asyncio.Event()
        frame(kit, {"type": "get_account", "data": {}, "request_id": "a"})
        await asyncio.sleep(1)
    assert not kit.control._tasks


@simulated
async def test_an_answer_that_finds_no_room_is_told_in_a_few_words(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        kit.channel.room = 400
        frame(kit, {"type": "get_symbols", "request_id": "r", "data": {}})
        told = await answer(kit, "r")
        assert (told["command"], told["success"], told["error"]["code"]) == ("get_symbols", False, "overloaded")
        frame(kit, {"type": "reduce_only", "request_id": "done", "data": {"reason": "x" * 400}})
        assert (await answer(kit, "done"))["success"], "what was done is not told as what was not"
        kit.channel.accepting = False
        frame(kit, {"type": "get_symbols", "request_id": "s", "data": {}})
        await kit.idle()
        assert len(kit.channel.of("command_result")) == 2
