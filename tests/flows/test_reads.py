"""Long answers in pages, and ticks by cursor: nothing left out, nothing twice."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.facts import a_deal, a_position, an_order
from support.fake_terminal import OFFSET_MS, FakeTerminal, symbol_info
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.model import Deal, TickBlock
from mt5_bridge.core.times import DAY, HOUR, MINUTE
from mt5_bridge.flows import pages
from mt5_bridge.journal import changes
from mt5_bridge.terminal.clock import BrokerClock, Segment
from mt5_bridge.terminal.frames import Request, pack
from mt5_bridge.terminal.port import Priority

MEBIBYTE = 1 << 20


async def answer(kit: FlowKit, name: str, **params: Any) -> dict[str, Any]:
    """The whole `command_result`."""
    if "commands" not in kit.tasks:
        kit.run("commands")
    before = len(kit.channel.of("command_result"))
    kit.control.on_frame(json.dumps({"type": name, "data": params, "request_id": "r"}).encode())
    await eventually(lambda: len(kit.channel.of("command_result")) > before, 60, name)
    told: dict[str, Any] = kit.channel.of("command_result")[before]["data"]
    return told


async def all_pages(kit: FlowKit, name: str, **params: Any) -> list[list[Any]]:
    """Every page, asked for one after the other."""
    found: list[list[Any]] = []
    cursor: str | None = None
    while True:
        told = await answer(kit, name, **params, **({} if cursor is None else {"cursor": cursor}))
        assert told["success"], told
        found.append(told["data"])
        cursor = told.get("next")
        if cursor is None:
            return found


def largest_answer(kit: FlowKit) -> int:
    return max(len(frame) for frame in kit.channel.frames if b'"command_result"' in frame[:40])


def tickets(page: list[Any]) -> list[int]:
    return [row["ticket"] for row in page]


# --- lists


@simulated
async def test_what_fits_is_one_page(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for name in ("get_positions", "get_orders", "get_symbols", "get_history"):
            assert "next" not in await answer(kit, name), name


@simulated
async def test_no_answer_is_too_large_for_a_common_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pages.ANSWER_BYTES < MEBIBYTE - 1000
    monkeypatch.setattr(pages.fitting, "__defaults__", (20_000,))
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.positions = {n: a_position(n) for n in range(1, 121)}
        kit.terminal.orders = {n: an_order(n) for n in range(1, 121)}
        kit.terminal.symbols |= {f"S{n:05}": symbol_info(f"S{n:05}") for n in range(119)}
        for name in ("get_positions", "get_orders", "get_symbols"):
            found = await all_pages(kit, name)
            assert len(found) >= 2
            key = "name" if name == "get_symbols" else "ticket"
            told = [row[key] for page in found for row in page]
            assert told == sorted(set(told))
            assert len(told) == 120
        assert largest_answer(kit) < 20_500


@simulated
async def test_history_comes_in_pages_also_where_many_deals_have_one_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages.fitting, "__defaults__", (10_000,))
    async with FlowKit.open(tmp_path) as kit:
        now = kit.terminal.now_msc
        kit.terminal.deals = [a_deal(n, time_msc=now - DAY // 2 + n // 100) for n in range(200)]
        found = await all_pages(kit, "get_history")
        assert len(found) >= 3
        assert [ticket for page in found for ticket in tickets(page)] == list(range(200))


class Patient(FakeTerminal):
    """Notes the spans that history is asked for, and how urgently."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int, Priority]] = []

    async def get_history_deals(
        self,
        from_msc: int | None = None,
        to_msc: int | None = None,
        *,
        ticket: int | None = None,
        position: int | None = None,
        priority: Priority = Priority.HIGH,
        timeout: float = 5.0,
    ) -> list[Deal]:
        if from_msc is not None and to_msc is not None:
            self.asked.append((from_msc, to_msc, priority))
        return await super().get_history_deals(
            from_msc, to_msc, ticket=ticket, position=position, priority=priority, timeout=timeout
        )


@simulated
async def test_a_long_history_is_read_in_pieces_that_let_others_pass(tmp_path: Path) -> None:
    terminal = Patient()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        now = terminal.now_msc
        terminal.deals = [a_deal(n, time_msc=now - n * 20 * DAY) for n in range(1, 100)]
        terminal.asked.clear()
        (page,) = await all_pages(kit, "get_history", **{"from": 0})
        assert tickets(page) == list(range(99, 0, -1)), "each once, the oldest first"
        assert 8 < len(terminal.asked) <= 33
        assert {priority for *_, priority in terminal.asked} == {Priority.LOW}
        assert [end for _, end, _ in terminal.asked[:-1]] == [start for start, *_ in terminal.asked[1:]]
        terminal.asked.clear()
        await answer(kit, "get_history")
        assert len(terminal.asked) == 1, "a day is one piece"


@simulated
async def test_bars_go_on_where_they_ended(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        start = kit.terminal.clock.to_broker(kit.terminal.now_msc) // MINUTE * MINUTE - 500 * MINUTE
        for n in range(500):
            kit.terminal.bar("EURUSD", "M1", start + n * MINUTE)
        first = kit.terminal.clock.to_utc(start)
        found = await all_pages(kit, "get_rates", symbol="EURUSD", timeframe="M1", count=200, **{"from": first})
        assert [len(page) for page in found] == [200, 200, 100]
        times = [bar["time"] for page in found for bar in page]
        assert times == sorted(set(times))
        newest = await answer(kit, "get_rates", symbol="EURUSD", timeframe="M1", count=50)
        assert len(newest["data"]) == 50
        assert "next" not in newest


@simulated
async def test_bars_from_long_before_the_first_and_over_a_hole(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        now = kit.terminal.clock.to_broker(kit.terminal.now_msc) // MINUTE * MINUTE
        starts = [now - 900 * DAY, now - 899 * DAY, now - 3 * MINUTE, now - 2 * MINUTE]
        for start in starts:
            kit.terminal.bar("EURUSD", "M1", start)
        asked = {"symbol": "EURUSD", "timeframe": "M1", "count": 3, "from": 0}
        found = await all_pages(kit, "get_rates", **asked)
        assert [len(page) for page in found] == [3, 1]


@simulated
async def test_months_are_of_any_length(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        first = datetime(2010, 1, 1, tzinfo=UTC)
        months = [first.replace(year=2010 + n // 12, month=1 + n % 12) for n in range(120)]
        for month in months:
            kit.terminal.bar("EURUSD", "MN1", round(month.timestamp() * 1000))
        since = kit.terminal.clock.to_utc(round(first.timestamp() * 1000))
        found = await answer(kit, "get_rates", symbol="EURUSD", timeframe="MN1", count=120, **{"from": since})
        assert len(found["data"]) == 120


# --- what nobody can be asked for


class Strict(FakeTerminal):
    """Fails as clocks and frames do when they get what does not fit into them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = BrokerClock(timezone="Europe/Athens", offset_ms=OFFSET_MS)
        self.most = 0

    def taken(self, *times: int) -> None:
        """Seconds of 32 bits, as the terminal's package takes them."""
        assert all(0 <= self.clock.to_broker(time) // 1000 < 1 << 31 for time in times)

    async def get_ticks(
        self, symbol: str, from_msc: int, to_msc: int | None = None, count: int | None = None, *, timeout: float = 60.0
    ) -> list[TickBlock]:
        self.most = max(self.most, count or 0)
        self.taken(from_msc, to_msc or from_msc)
        pack(Request(1, "ticks", [count]))
        return await super().get_ticks(symbol, from_msc, to_msc, count, timeout=timeout)

    async def get_history_deals(
        self, from_msc: int | None = None, to_msc: int | None = None, **more: Any
    ) -> list[Deal]:
        if from_msc is not None and to_msc is not None:
            self.taken(from_msc, to_msc)
        return await super().get_history_deals(from_msc, to_msc, **more)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("get_ticks", {"from_msc": 1 << 53}),
        ("get_ticks", {"to_msc": 1 << 53}),
        ("get_ticks", {"from_msc": 0, "to_msc": 0}),
        ("get_ticks", {"to_msc": 0}),
        ("get_ticks", {"cursor": "9999999999999999:0"}),
        ("get_ticks", {"cursor": "0:9999999999999999999"}),
        ("get_ticks", {"cursor": "0:-9999999999999999999"}),
        ("get_rates", {"timeframe": "M1", "cursor": "9999999999999999999"}),
        ("get_rates", {"timeframe": "MN1", "from": "0001-01-01", "count": 10_000}),
        ("get_rates", {"timeframe": "M1", "from": "9999-12-31"}),
        ("get_history", {"from": "0001-01-01"}),
        ("get_history", {"from": "9999-12-31"}),
        ("get_history", {"to": "0001-01-01"}),
        ("get_history", {"to": "9999-12-31"}),
        ("get_history", {"from": 0, "to": "9999-12-31", "kind": "orders"}),
        ("get_history", {"cursor": "9999999999999999:-9999999999999999999"}),
        ("get_history", {"cursor": "0:9999999999999999999"}),
    ],
)
def test_times_out_of_this_world_are_answered(tmp_path: Path, name: str, params: dict[str, Any]) -> None:
    """And end nothing: a defect would end the bridge, and with it whatever guards the account."""

    @simulated
    async def run() -> None:
        terminal = Strict()
        async with FlowKit.open(tmp_path, terminal=terminal) as kit:
            kit.terminal.tick("EURUSD", 1.1, 1.1001)
            assert (await answer(kit, name, symbol="EURUSD", **params))["success"]
            assert terminal.most < 1000, "no more than was asked for"

    run()


# --- ticks


def burst(terminal: FakeTerminal, count: int) -> None:
    """Several in one ms, and some in the same second."""
    for n in range(count):
        terminal.tick("EURUSD", 1.1 + n * 1e-5, 1.2, after_ms=(0, 0, 1, 700)[n % 4])


def identity(rows: list[Any]) -> list[tuple[int, int]]:
    return [(row["time_msc"], row["seq"]) for row in rows]


@simulated
async def test_ticks_by_cursor_are_read_without_loss_while_they_come(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        start = kit.terminal.now_msc
        cursor: dict[str, Any] = {"from_msc": start}
        told: list[Any] = []
        for count in (0, 3, 50, 0, 1, 200, 7):
            burst(kit.terminal, count)
            while True:
                page = await answer(kit, "get_ticks", symbol="EURUSD", count=20, **cursor)
                cursor = {"cursor": page["next"]}
                told += page["data"]
                if not page["data"]:
                    break
        assert len(told) == 262, "with the one that was there"
        assert identity(told) == sorted(set(identity(told)))
        assert [row["bid"] for row in told[-7:]] == [1.1 + n * 1e-5 for n in range(7)]


@simulated
async def test_a_cursor_from_before_the_brokers_clock_stepped_back(tmp_path: Path) -> None:
    """Its raw time comes again: what followed in the hour after it bears smaller ones."""
    async with FlowKit.open(tmp_path) as kit:
        step = kit.terminal.now_msc + HOUR
        kit.terminal.clock = BrokerClock(timeline=[Segment(0, 0, 3 * HOUR), Segment(1, step + 2 * HOUR, 2 * HOUR)])
        for minutes in (10, 30, 70):
            kit.terminal.now_msc = step + minutes * MINUTE
            kit.terminal.tick("EURUSD", 1.1, 1.2, after_ms=0)
        told = await answer(kit, "get_ticks", symbol="EURUSD", cursor=f"{step - MINUTE}:0")
        assert identity(told["data"]) == [(step + minutes * MINUTE, 0) for minutes in (10, 30, 70)]


@simulated
async def test_the_newest_ticks_tell_where_to_go_on(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        nothing = await answer(kit, "get_ticks", symbol="EURUSD")
        assert nothing["data"] == []
        burst(kit.terminal, 40)
        first = await answer(kit, "get_ticks", symbol="EURUSD", cursor=nothing["next"])
        assert len(first["data"]) == 41, "also what came before anything was there"
        await asyncio.sleep(60)
        newest = await answer(kit, "get_ticks", symbol="EURUSD", count=5)
        assert identity(newest["data"]) == identity(first["data"])[-5:]
        assert newest["next"] == first["next"]
        burst(kit.terminal, 3)
        assert len((await answer(kit, "get_ticks", symbol="EURUSD", cursor=newest["next"]))["data"]) == 3


@simulated
async def test_ticks_up_to_a_time_end_there(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        start = kit.terminal.now_msc
        burst(kit.terminal, 100)
        end = kit.terminal.now_msc
        burst(kit.terminal, 10)
        found = await all_pages(kit, "get_ticks", symbol="EURUSD", from_msc=start, to_msc=end, count=30)
        assert [len(page) for page in found[:3]] == [30, 30, 30]
        rows = [row for page in found for row in page]
        assert len(rows) == sum(1 for row in rows if row["time_msc"] <= end) >= 100
        assert "next" not in await answer(kit, "get_ticks", symbol="EURUSD", to_msc=end, count=3)


@simulated
async def test_ten_thousand_ticks_come_in_frames_that_a_backend_takes(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        start = kit.terminal.now_msc
        burst(kit.terminal, 9_999)  # beside the one that was there
        first = await answer(kit, "get_ticks", symbol="EURUSD", from_msc=start, count=10_000)
        assert 4000 < len(first["data"]) < 10_000
        second = await answer(kit, "get_ticks", symbol="EURUSD", cursor=first["next"], count=10_000)
        both = identity(first["data"]) + identity(second["data"])
        assert len(both) == 10_000
        assert both == sorted(set(both))
        assert largest_answer(kit) < MEBIBYTE


@simulated
async def test_ticks_wait_for_the_brokers_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.clock._timeline = ()
        told = await answer(kit, "get_ticks", symbol="EURUSD")
        assert told["error"]["code"] == "not_ready"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("get_ticks", {"symbol": "EURUSD", "cursor": "soon"}),
        ("get_ticks", {"symbol": "EURUSD", "cursor": 5}),
        ("get_history", {"cursor": "12"}),
        ("get_positions", {"cursor": "x"}),
        ("get_rates", {"symbol": "EURUSD", "timeframe": "M1", "cursor": "1:2"}),
    ],
)
def test_a_cursor_that_is_none(tmp_path: Path, name: str, params: dict[str, Any]) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            assert (await answer(kit, name, **params))["error"]["code"] == "invalid_params"

    run()


@simulated
async def test_many_bars_are_cut_to_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.fitting, "__defaults__", (2000,))
    async with FlowKit.open(tmp_path) as kit:
        start = kit.terminal.clock.to_broker(kit.terminal.now_msc) // MINUTE * MINUTE - 30 * MINUTE
        for n in range(30):
            kit.terminal.bar("EURUSD", "M1", start + n * MINUTE)
        found = await all_pages(kit, "get_rates", symbol="EURUSD", timeframe="M1", count=30)
        assert len(found) > 2
        assert sum(map(len, found)) == 30


# --- never in the way of a stop


@simulated
async def test_reads_that_hang_hold_up_neither_a_stop_nor_a_close(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("commands")
        kit.terminal.tick("EURUSD", 1.1, 1.1001)
        for name in ("get_ticks", "get_rates", "get_history_deals", "get_symbols"):
            kit.terminal.holds[name] = asyncio.Event()
        for n in range(3):
            await kit.command("get_ticks", request_id=f"t{n}", symbol="EURUSD")
            await kit.command("get_rates", request_id=f"r{n}", symbol="EURUSD", timeframe="M1")
            await kit.command("get_history", request_id=f"h{n}")
            await kit.command("get_symbols", request_id=f"s{n}")
        await asyncio.sleep(0.1)
        await kit.command("emergency_stop", request_id="stop")
        await eventually(lambda: [f for f in kit.channel.of("command_result") if f["request_id"] == "stop"], 1)
        await kit.command("get_account", request_id="late")
        await eventually(lambda: [f for f in kit.channel.of("command_result") if f["request_id"] == "late"], 5)
        for event in kit.terminal.holds.values():
            event.set()
        await eventually(lambda: len(kit.channel.of("command_result")) == 14, 30)


# --- signals


@simulated
async def test_signals_newest_first_in_pages(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        for number in range(5):
            symbol = "EURUSD" if number % 2 else "NOSUCH"
            await journalled(kit, f"s-{number}", symbol)
        pages_told = await all_pages(kit, "get_signals", count=2)
        assert [row["signal_id"] for page in pages_told for row in page] == [f"s-{n}" for n in (4, 3, 2, 1, 0)]
        assert [len(page) for page in pages_told] == [2, 2, 1]
        [only] = await all_pages(kit, "get_signals", symbol="EURUSD")
        assert [row["signal_id"] for row in only] == ["s-3", "s-1"]


@simulated
async def test_one_signal_s_life(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await journalled(kit, "s-1", "EURUSD")
        life = (await answer(kit, "get_signal", signal_id="s-1"))["data"]
        assert (life["signal_id"], life["status"], life["intents"], life["topic"]) == ("s-1", None, [], None)
        missing = await answer(kit, "get_signal", signal_id="s-2")
        assert (missing["success"], missing["error"]["code"]) == (False, "not_found")


async def journalled(kit: FlowKit, signal_id: str, symbol: str) -> None:
    """A signal in the inbox, as it was received."""
    await kit.journal.commit(
        changes.SignalReceived(
            key=signal_id, signal_id=signal_id, source="websocket", account="", symbol=symbol, action="BUY",
            payload=b"{}", received_msc=kit.clock.now_ms(),
        )
    )  # fmt: skip
