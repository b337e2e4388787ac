import asyncio
import math
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from support.eventually import eventually
from support.fake_terminal import OFFSET_MS, START_MS, FakeTerminal
from support.flow_kit import BARS, FlowKit, clock_of_loop
from support.simulated import leap, run_simulated, simulated

from mt5_bridge.core.bars import KEPT, Ledger, opening
from mt5_bridge.core.errors import BrokerError, JournalError, MT5DataError, MT5TimeoutError
from mt5_bridge.core.times import DAY, HOUR, MINUTE, from_iso
from mt5_bridge.flows import bars as flow
from mt5_bridge.journal.changes import Memo
from mt5_bridge.redpanda.faults import RecordRefused
from mt5_bridge.terminal.clock import BrokerClock, Segment
from mt5_bridge.terminal.port import TerminalState

NOW = opening(START_MS + OFFSET_MS, "M1")
"""When the minute opened in which a test begins, on the broker's clock."""
SHORT_MS = 1_500
MEMO = "bars/EURUSD/M1"
TOLD = {
    "symbol", "timeframe", "time", "open", "high", "low", "close", "tick_volume", "spread", "real_volume", "corrected",
}  # fmt: skip


def told(kit: FlowKit, timeframe: str = "M1", symbol: str = "EURUSD") -> list[tuple[int, float, bool]]:
    """(minutes since the test's first, close, corrected) of what the broker got, in order."""
    return of([f["data"] for f in kit.producer.of(BARS)], timeframe, symbol)


def of(bars: list[dict[str, Any]], timeframe: str = "M1", symbol: str = "EURUSD") -> list[tuple[int, float, bool]]:
    return [
        ((from_iso(b["time"]) + OFFSET_MS - NOW) // MINUTE, b["close"], b["corrected"])
        for b in bars
        if (b["timeframe"], b["symbol"]) == (timeframe, symbol)
    ]


def minute(terminal: FakeTerminal, number: int, close: float = 1.1, symbol: str = "EURUSD", **values: Any) -> None:
    terminal.bar(symbol, "M1", NOW + number * MINUTE, close, **values)


def a_terminal(*minutes: int) -> FakeTerminal:
    terminal = FakeTerminal()
    terminal.keep_time(clock_of_loop().now_ms)
    terminal.tick("EURUSD", 1.1, 1.2)
    for number in minutes:
        minute(terminal, number)
    return terminal


def opened(folder: Path, **settings: Any) -> AbstractAsyncContextManager[FlowKit]:
    return FlowKit.open(folder, **{"bars": ("M1",), "tick_hz": 1.0, **settings})


def go(kit: FlowKit) -> None:
    kit.run("ticks", "bars")


async def until(number: int, after_ms: int = 5_000) -> None:
    """The simulated time goes on to some seconds into a minute, in leaps from one minute's end to the next."""
    clock = clock_of_loop()
    target = NOW - OFFSET_MS + number * MINUTE + after_ms
    while (left := target - clock.now_ms()) > 0:
        end = opening(clock.now_ms() + OFFSET_MS, "M1") - OFFSET_MS + MINUTE - SHORT_MS
        if clock.now_ms() + 2 * SHORT_MS < end < target:
            leap((end - clock.now_ms()) / 1000)
            left = target - end
        await asyncio.sleep(min(left, 3 * SHORT_MS) / 1000)


async def ledger(kit: FlowKit, memo: str = MEMO) -> Ledger:
    stored = await kit.journal.memo(memo)
    assert stored is not None
    return msgspec.msgpack.decode(stored, type=Ledger)


# --- a bar's way


@simulated
async def test_a_bar_is_told_once_it_is_over(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(-2, -1, 0)) as kit:
        go(kit)
        await until(0, 50_000)
        assert told(kit) == []  # what was over before it began is none of ours
        minute(kit.terminal, 1, 1.2)
        await until(1)
        assert told(kit) == [(0, 1.1, False)]
        (record,) = [r for r in kit.producer.records if r.topic == BARS]
        assert set(record.json["data"]) == TOLD
        assert record.key == b"EURUSD"
        assert record.timestamp_ms == NOW + MINUTE - OFFSET_MS
        assert dict(record.headers)["schema"] == b"bar_data/1"
        await until(2)
        assert told(kit) == [(0, 1.1, False), (1, 1.2, False)]
        status = kit.bars.status()
        assert (status["published"], status["corrected"], status["series"]) == (2, 0, 1)
        assert status["timeframes"] == ["M1"]
        assert from_iso(status["newest"]) == NOW + MINUTE - OFFSET_MS
        assert (await ledger(kit)).told_msc == NOW + MINUTE - OFFSET_MS


@simulated
async def test_a_bar_that_no_other_follows_waits_for_its_last_tick(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await until(1, 1_000)
        assert told(kit) == []
        minute(kit.terminal, 0, 1.15)
        await until(1, 6_000)
        assert told(kit) == [(0, 1.15, False)]


@simulated
async def test_a_bar_that_ends_while_the_terminal_is_asked_is_told_right_after(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        hold = kit.terminal.holds["get_rates"] = asyncio.Event()
        go(kit)
        await until(1, 3_000)
        kit.terminal.holds.clear()
        hold.set()
        await asyncio.sleep(3)
        assert told(kit) == [(0, 1.1, False)]


@simulated
async def test_half_a_bar_of_a_terminal_without_its_server_is_not_told(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        kit.terminal.terminal = msgspec.structs.replace(kit.terminal.terminal, connected=False)
        await kit.book.refresh()
        go(kit)
        await until(3)
        assert told(kit) == []
        kit.terminal.terminal = msgspec.structs.replace(kit.terminal.terminal, connected=True)
        await kit.book.refresh()
        for number in (0, 1, 2, 3):
            minute(kit.terminal, number, 1.15)
        await until(5)
        assert told(kit) == [(number, 1.15, False) for number in range(4)]


@simulated
async def test_every_timeframe_by_the_brokers_clock(tmp_path: Path) -> None:
    terminal = a_terminal(0)
    hour, day = opening(NOW, "H1"), opening(NOW, "D1")
    terminal.bar("EURUSD", "H1", hour)
    terminal.bar("EURUSD", "D1", day)
    async with opened(tmp_path, terminal=terminal, bars=("M1", "H1", "D1")) as kit:
        go(kit)
        await asyncio.sleep(2)
        leap((hour + HOUR - OFFSET_MS - clock_of_loop().now_ms()) / 1000 - 2)
        await asyncio.sleep(10)
        assert len(told(kit, "H1")) == 1
        assert told(kit, "D1") == []
        leap((day + DAY - OFFSET_MS - clock_of_loop().now_ms()) / 1000 - 2)
        await asyncio.sleep(10)
        ((began, _, _),) = told(kit, "D1")
        assert began * MINUTE == day - NOW


@simulated
async def test_a_corrected_bar_is_told_as_such_and_one_filled_in_later_too(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await until(2)
        kit.terminal.tick("EURUSD", 1.1, 1.2)
        minute(kit.terminal, 2)
        await until(3)
        assert told(kit) == [(0, 1.1, False), (2, 1.1, False)]
        minute(kit.terminal, 0, tick_volume=8)
        minute(kit.terminal, 1, 1.15)
        await until(14)
        assert told(kit)[2:] == [(0, 1.1, True), (1, 1.15, False)]
        assert kit.bars.stats.corrected == 1
        await until(16)
        assert len(told(kit)) == 4


@simulated
async def test_after_each_connection_the_terminal_is_asked_again(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await until(1)
        minute(kit.terminal, 0, 1.15)
        kit.terminal.become(TerminalState.DISCONNECTED)
        await asyncio.sleep(5)
        looks = kit.bars.stats.looks
        await asyncio.sleep(120)
        assert kit.bars.stats.looks == looks
        kit.terminal.become(TerminalState.CONNECTED)
        await asyncio.sleep(2)
        assert told(kit)[-1] == (0, 1.15, True)


@simulated
async def test_a_closed_market_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await until(2)
        looks = kit.bars.stats.looks
        for _ in range(120):
            leap(58)
            await asyncio.sleep(2)
        assert 10 <= kit.bars.stats.looks - looks <= 13
        leap(DAY / 1000)
        began = opening(clock_of_loop().now_ms() + OFFSET_MS, "M1")
        kit.terminal.tick("EURUSD", 1.2, 1.3)
        kit.terminal.bar("EURUSD", "M1", began, 1.2)
        await asyncio.sleep(70)
        assert told(kit) == [(0, 1.1, False), ((began - NOW) // MINUTE, 1.2, False)]


@simulated
async def test_a_bar_without_a_price_is_left_out_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        minute(kit.terminal, 0, math.nan)
        minute(kit.terminal, 1, 1.2)
        await until(20)
        assert told(kit) == [(1, 1.2, False)]
        assert kit.bars.stats.unusable == 1


# --- going on


@simulated
async def test_an_outage_of_the_broker_is_made_up_for(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await until(1)
        kit.producer.connected = False
        for number in range(1, 200):
            minute(kit.terminal, number)
        leap(180 * MINUTE / 1000)
        kit.producer.connected = True
        await asyncio.sleep(5)
        assert told(kit) == [(number, 1.1, False) for number in range(181)]


@simulated
async def test_a_publish_that_fails_is_made_again(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0, 1, 2, 3)) as kit:
        kit.producer.error = BrokerError("gone")
        go(kit)
        await until(3)
        assert kit.bars.status()["troubles"] == {"EURUSD M1": "gone"}
        assert kit.bars.stats.failures > 3
        kit.producer.error = None
        await asyncio.sleep(60)
        assert told(kit)[:3] == [(0, 1.1, False), (1, 1.1, False), (2, 1.1, False)]
        assert kit.bars.status()["troubles"] == {}


@simulated
async def test_a_long_way_behind_is_read_in_pages_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", 50)
    terminal = a_terminal(*range(-400, -300), *range(-100, 1))
    async with opened(tmp_path, terminal=terminal) as kit:
        begun = Ledger(NOW - OFFSET_MS - 500 * MINUTE)
        await kit.journal.commit(Memo(name=MEMO, value=msgspec.msgpack.encode(begun)))
        go(kit)
        await asyncio.sleep(10)
        wanted = [(number, 1.1, False) for number in (*range(-400, -300), *range(-100, 0))]
        assert told(kit) == wanted
        await until(3)
        assert told(kit) == [*wanted, (0, 1.1, False)]


@simulated
async def test_a_page_that_failed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", 50)
    async with opened(tmp_path, terminal=a_terminal(*range(-400, 1))) as kit:
        await kit.journal.commit(Memo(name=MEMO, value=msgspec.msgpack.encode(Ledger(NOW - OFFSET_MS - 400 * MINUTE))))
        kit.producer.error = BrokerError("gone")
        go(kit)
        await asyncio.sleep(10)
        kit.producer.error = None
        await asyncio.sleep(60)
        assert [number for number, _, _ in told(kit)][:399] == list(range(-399, 0))


@simulated
async def test_what_the_terminal_no_longer_has_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PAGE", 50)
    async with opened(tmp_path, terminal=a_terminal(*range(-20, 1))) as kit:
        await kit.journal.commit(Memo(name=MEMO, value=msgspec.msgpack.encode(Ledger(NOW - OFFSET_MS - 140 * MINUTE))))
        kit.terminal.rate_faults["EURUSD"] = MT5DataError("no history", code=-1)
        go(kit)
        await eventually(lambda: kit.bars.stats.given_up == 1)
        kit.terminal.rate_faults.clear()
        await asyncio.sleep(10)
        assert [number for number, _, _ in told(kit)][:20] == list(range(-20, 0))


@simulated
async def test_symbols_come_and_go(tmp_path: Path) -> None:
    terminal = a_terminal(0)
    terminal.tick("GBPUSD", 1.3, 1.4)
    async with opened(tmp_path, terminal=terminal) as kit:
        go(kit)
        for number in range(10):
            minute(terminal, number, symbol="EURUSD")
            minute(terminal, number, symbol="GBPUSD")
        await until(1)
        await kit.ticks.subscribe("GBPUSD")
        await until(3)
        assert [n for n, _, _ in told(kit, symbol="GBPUSD")] == [1, 2]
        assert await kit.ticks.unsubscribe("GBPUSD")
        await until(6)
        assert [n for n, _, _ in told(kit, symbol="GBPUSD")] == [1, 2]
        await kit.ticks.subscribe("GBPUSD")
        await until(7)
        assert [n for n, _, _ in told(kit, symbol="GBPUSD")] == [1, 2, 3, 4, 5, 6]
        assert [n for n, _, _ in told(kit)] == list(range(7))


@simulated
async def test_what_was_asked_for_a_symbol_that_went_meanwhile_is_not_told(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0, 1, 2)) as kit:
        go(kit)
        await asyncio.sleep(2)
        hold = kit.terminal.holds["get_rates"] = asyncio.Event()
        await until(1)
        assert await kit.ticks.unsubscribe("EURUSD")
        kit.bars._follow()
        kit.terminal.holds.clear()
        hold.set()
        await until(3)
        assert told(kit) == []


@simulated
async def test_one_symbols_trouble_is_not_the_others(tmp_path: Path) -> None:
    terminal = a_terminal(0, 1, 2)
    terminal.tick("GBPUSD", 1.3, 1.4)
    async with opened(tmp_path, terminal=terminal, symbols=("GBPUSD", "EURUSD")) as kit:
        for number in range(3):
            minute(terminal, number, symbol="GBPUSD")
        terminal.rate_faults["GBPUSD"] = MT5DataError("no history")
        go(kit)
        await until(1)
        assert told(kit) == [(0, 1.1, False)]
        terminal.rate_faults["GBPUSD"] = MT5TimeoutError("hangs")
        await until(2)
        assert [n for n, _, _ in told(kit)] == [0, 1]
        terminal.rate_faults.clear()
        publish = kit.producer.publish

        async def picky(topic: str, key: bytes | None, *rest: Any) -> None:
            if topic == BARS and key == b"EURUSD":
                raise RecordRefused("in the future", "timestamp")
            await publish(topic, key, *rest)

        kit.producer.publish = picky  # type: ignore[method-assign,assignment]  # this broker refuses one symbol
        await until(5)
        # Its history could not be read until now: it begins now.
        assert [n for n, _, _ in told(kit)] == [0, 1]
        assert kit.bars.status()["troubles"] == {"EURUSD M1": "in the future"}


@simulated
async def test_a_defect_of_the_way_ends_the_flow(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0, 1)) as kit:
        kit.producer.publish = None  # type: ignore[method-assign,assignment]  # calling it is a TypeError
        go(kit)
        await until(1)
        assert isinstance(kit.defects.pop(), TypeError)


# --- the journal


@simulated
async def test_without_the_journal_no_bar_leaves(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await asyncio.sleep(1)
        kit.journal.break_down()
        await until(2)
        assert told(kit) == []
        kit.journal.mend()
        await asyncio.sleep(60)
        assert told(kit) == [(0, 1.1, False)]


@simulated
async def test_what_arrived_is_noted_when_the_journal_works_again(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        hang = kit.producer.hang = asyncio.Event()
        go(kit)
        await until(1)
        kit.journal.break_down()
        hang.set()
        await asyncio.sleep(2)
        assert told(kit) == [(0, 1.1, False)]
        assert (await ledger(kit)).told_msc < NOW - OFFSET_MS
        kit.journal.mend()
        await asyncio.sleep(10)
        assert (await ledger(kit)).told_msc == NOW - OFFSET_MS
        assert len(told(kit)) == 1


@simulated
async def test_a_note_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(-2, -1, 0)) as kit:
        await kit.journal.commit(Memo(name=MEMO, value=b"\xc1"))
        go(kit)
        await until(2)
        assert told(kit) == [(0, 1.1, False)]


@simulated
async def test_a_series_waits_for_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0, 1)) as kit:

        async def unreadable(name: str) -> None:
            if name.startswith("read") and "memo" in name:
                raise JournalError("the disk does not answer")

        kit.journal.step = unreadable
        go(kit)
        await asyncio.sleep(5)
        assert kit.bars.status()["troubles"] == {"EURUSD M1": "the disk does not answer"}
        kit.journal.step = None
        await until(1)
        assert told(kit) == [(0, 1.1, False)]


@simulated
async def test_an_end_in_order_waits_for_what_is_leaving(tmp_path: Path) -> None:
    terminal = a_terminal(0, 1)
    async with opened(tmp_path, terminal=terminal) as kit:
        hang = kit.producer.hang = asyncio.Event()
        go(kit)
        await until(1)
        ending = asyncio.create_task(kit.bars.close())
        await asyncio.sleep(1)
        assert not ending.done()
        hang.set()
        await ending
        assert (await ledger(kit)).told_msc == NOW - OFFSET_MS
        await until(3)
        assert len(told(kit)) == 1


# --- the broker's clock


@simulated
async def test_waits_for_the_brokers_offset_to_be_known(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0, 1)) as kit:
        kit.terminal.clock = BrokerClock()
        go(kit)
        await until(1)
        assert "get_rates" not in kit.terminal.calls
        kit.terminal.clock = BrokerClock(offset_ms=OFFSET_MS)
        await until(3)
        assert told(kit) == [(1, 1.1, False)]


@simulated
async def test_a_page_read_while_the_offset_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "PAGE", 50)
    async with opened(tmp_path, terminal=a_terminal(*range(-400, 1))) as kit:
        begun = Ledger(NOW - OFFSET_MS - 400 * MINUTE)
        await kit.journal.commit(Memo(name=MEMO, value=msgspec.msgpack.encode(begun)))
        hold = kit.terminal.holds["get_rates"] = asyncio.Event()
        go(kit)
        await eventually(lambda: "get_rates" in kit.terminal.calls)
        kit.terminal.clock.restore([Segment(0, 0, OFFSET_MS + HOUR)])
        kit.terminal.clock.observe("EURUSD", NOW + OFFSET_MS + HOUR, NOW)
        kit.terminal.holds.clear()
        hold.set()
        await asyncio.sleep(10)
        # The terminal's bars are all an hour older than they seemed: those since then are told, each of them.
        assert [number for number, _, _ in told(kit)] == list(range(-399, -59))


@simulated
async def test_when_the_brokers_clock_goes_forward_the_bars_before_stay_what_they_were(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(*range(-5, 2))) as kit:
        go(kit)
        await until(2)
        step = NOW + 2 * MINUTE
        kit.terminal.clock = BrokerClock(
            timeline=[Segment(0, 0, OFFSET_MS), Segment(0, step + HOUR - MINUTE, OFFSET_MS + HOUR)]
        )
        for number in (62, 63, 64):
            minute(kit.terminal, number)
        await until(5)
        assert told(kit) == [(number, 1.1, False) for number in (0, 1, 2, 3, 4)]


@simulated
async def test_when_the_brokers_clock_goes_back_no_bar_comes_from_the_future(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(*range(-60, 0))) as kit:
        go(kit)
        await asyncio.sleep(1)
        back = NOW - HOUR
        # From the second minute on the last hour is gone through once more.
        kit.terminal.clock = BrokerClock(timeline=[Segment(0, 0, OFFSET_MS), Segment(1, back, OFFSET_MS - HOUR)])
        minute(kit.terminal, -60, 1.15)
        minute(kit.terminal, -59, 1.15)
        await until(2)
        assert told(kit) == [(0, 1.15, False), (1, 1.15, False)]
        times = [from_iso(f["data"]["time"]) for f in kit.producer.of(BARS)]
        assert max(times) < clock_of_loop().now_ms()


@simulated
async def test_the_brokers_clock_ends_bars_not_the_pcs(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(0)) as kit:
        go(kit)
        await asyncio.sleep(1)
        kit.terminal.clock.skew_ms = -30_000  # the PC is fast
        kit.bars.reconnected()
        await until(1, 20_000)
        assert told(kit) == []
        minute(kit.terminal, 0, 1.15)
        await until(1, 40_000)
        assert told(kit) == [(0, 1.15, False)]


# --- the socket


@simulated
async def test_in_standard_mode_bars_go_to_the_socket_and_none_is_lost(tmp_path: Path) -> None:
    async with opened(tmp_path, terminal=a_terminal(*range(300)), hybrid=False) as kit:
        go(kit)
        await until(1)
        kit.channel.connected = False
        leap(250 * MINUTE / 1000)
        kit.channel.connected = True
        kit.channel.confirming = False
        await asyncio.sleep(5)
        kit.channel.confirming = True
        await asyncio.sleep(40)
        bars = [frame["data"] for frame in kit.channel.of("bar_data")]
        assert of(bars)[:250] == [(number, 1.1, False) for number in range(250)]
        assert set(bars[0]) == TOLD


# --- deaths


class Crash:
    """Stops the world at a given step of the bars' flow: whoever gets there, and everyone after, waits for ever."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.name = at, 0, ""
        self.reached = asyncio.Event()

    async def __call__(self, name: str) -> None:
        if "Memo" in name or name in ("get_rates", "publish", "published") or "memo" in name:
            self.count += 1
            if self.count >= self.at:
                self.name = self.name or name
                self.reached.set()
        if self.reached.is_set():
            await asyncio.get_running_loop().create_future()


async def live(folder: Path, terminal: FakeTerminal, crash: Crash) -> tuple[bool, list[Any]]:
    """One life until the third minute, or until it is cut short; whether it was not, and what it told."""
    async with opened(folder, terminal=terminal) as kit:
        kit.journal.step = terminal.step = crash
        publish = kit.producer.publish

        async def watched(topic: str, *rest: Any) -> None:
            await crash("publish" if topic == BARS else "")
            await publish(topic, *rest)
            await crash("published" if topic == BARS else "")

        kit.producer.publish = watched  # type: ignore[method-assign,assignment]  # to die around it
        go(kit)
        ends = {asyncio.create_task(until(3)), asyncio.create_task(crash.reached.wait())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        if crash.reached.is_set():
            await kit.crash()
        return not crash.reached.is_set(), told(kit)


async def dies(at: int, *, corrected: bool) -> bool:
    """Die at that step, live again and check; whether the life was over before."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        terminal = a_terminal(*range(10))
        async with opened(Path(name), terminal=terminal) as kit:
            begun = Ledger(NOW - OFFSET_MS - 1)
            await kit.journal.commit(Memo(name=MEMO, value=msgspec.msgpack.encode(begun)))
        crash = Crash(at)
        whole, first = await live(Path(name), terminal, crash)
        if corrected:
            minute(terminal, 1, 1.15)
        async with opened(Path(name), terminal=terminal) as kit:
            go(kit)
            await asyncio.sleep(5)
            leap(60)
            await asyncio.sleep(5)
            check(first + told(kit), at, crash.name, whole=whole, corrected=corrected)
        return whole


def check(bars: list[tuple[int, float, bool]], at: int, name: str, *, whole: bool, corrected: bool) -> None:
    where = f"step {at}: {name}: {bars}"
    newest = max(number for number, _, _ in bars)
    assert {number for number, _, _ in bars} == set(range(newest + 1)), where
    copies = [b for b in bars if b[0] != 1 or not corrected]
    repeated = [b for b in copies if copies.count(b) > 1]
    assert len(set(copies)) == newest + 1 - corrected, where
    assert not repeated or (not whole and name in ("published", "committed Memo", "commit Memo")), where
    if corrected:
        mine = [b for b in bars if b[0] == 1]
        assert mine[-1][1] == 1.15, where
        assert all(b[2] for b in mine if b[1] == 1.15 and (1, 1.1, False) in mine), where


@pytest.mark.parametrize("corrected", [False, True])
def test_wherever_the_process_dies_no_bar_is_lost_nor_called_what_it_is_not(corrected: bool) -> None:
    at = 1
    while not run_simulated(dies(at, corrected=corrected)):
        at += 1
    assert at > 10, "the steps of one life"


def test_what_is_held_against_the_terminal_fits_a_page() -> None:
    assert KEPT < flow.PAGE
