import asyncio
import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.eventually import eventually
from support.fake_terminal import OFFSET_MS, FakeTerminal, symbol_info
from support.flow_kit import TICKS, FakeChannel, FakeProducer, FlowKit
from support.properties import heavy
from support.simulated import leap, run_simulated, simulated

from mt5_bridge.core.errors import (
    BrokerError,
    JournalError,
    MT5ConnectionError,
    MT5DataError,
    MT5StateError,
)
from mt5_bridge.core.model import TICK_RECORD, Cursor, TickBlock
from mt5_bridge.flows import ticks as flow
from mt5_bridge.journal import changes
from mt5_bridge.redpanda.faults import RecordRefused
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.port import PollResult, TerminalState

ALL = ("ticks", "cursors")


def published(producer: FakeProducer, symbol: str = "EURUSD") -> list[tuple[int, int]]:
    """(ms, seq) of what the broker got, in order."""
    ticks = [r.json["data"] for r in producer.records if r.topic == TICKS]
    return [(t["time_msc"], t["seq"]) for t in ticks if t["symbol"] == symbol]


def held(terminal: FakeTerminal, symbol: str = "EURUSD") -> list[tuple[int, int]]:
    """(ms, seq) of every tick that the terminal holds."""
    found: list[tuple[int, int]] = []
    for record in struct.Struct(TICK_RECORD).iter_unpack(terminal.ticks.get(symbol, b"")):
        msc = record[5] - OFFSET_MS
        seq = found[-1][1] + 1 if found and found[-1][0] == msc else 0
        found.append((msc, seq))
    return found


def tick(kit: FlowKit, symbol: str = "EURUSD", *, after_ms: int = 1, bid: float = 1.1) -> None:
    leap(after_ms / 1000)
    kit.terminal.tick(symbol, bid, bid + 0.0001, after_ms=0)


async def started(kit: FlowKit) -> None:
    """Polling, and the symbol begun."""
    kit.run(*ALL)
    await eventually(lambda: kit.ticks._feeds and all(f.read for f in kit.ticks._feeds.values()), 5)


# --- ticks out


@simulated
async def test_publishes_each_tick_once_in_order_with_its_own_time(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        for n in range(5):
            tick(kit, after_ms=n % 2)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:]
        record = next(r for r in kit.producer.records if r.topic == TICKS)
        data = record.json["data"]
        assert record.key == b"EURUSD"
        assert record.timestamp_ms == data["time_msc"]
        assert dict(record.headers)["schema"] == b"tick_data/1"
        assert set(data) == {"symbol", "bid", "ask", "last", "volume", "spread", "time", "time_msc", "flags", "seq"}
        assert data["spread"] == 10
        stats = kit.ticks.stats
        assert (stats.published, stats.last_tick_msc) == (5, published(kit.producer)[-1][0])
        assert stats.age_ms is not None
        assert kit.book.quotes["EURUSD"].bid == 1.1
        stored = (await kit.journal.cursors())["EURUSD"]
        assert stored.time_msc == published(kit.producer)[-1][0] + OFFSET_MS


@simulated
async def test_polls_at_its_rate_and_counts_the_slots_it_missed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        polls = kit.ticks.stats.polls
        await asyncio.sleep(10)
        assert 98 <= kit.ticks.stats.polls - polls <= 102
        assert kit.ticks.stats.missed_slots == 0
        hold = kit.terminal.holds["poll_ticks"] = asyncio.Event()
        await asyncio.sleep(0.95)
        kit.terminal.holds.clear()
        hold.set()
        await asyncio.sleep(1)
        assert 8 <= kit.ticks.stats.missed_slots <= 10


@simulated
async def test_a_new_symbol_begins_now_or_some_time_ago(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path / "now") as kit:
        tick(kit)
        await started(kit)
        await asyncio.sleep(1)
        assert published(kit.producer) == []
    async with FlowKit.open(tmp_path / "ago", backfill_ms=60_000) as kit:
        tick(kit)
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)


@simulated
async def test_of_a_poll_only_the_newest_where_that_is_wished(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, latest_only=True) as kit:
        await started(kit)
        for _ in range(5):
            tick(kit)
        await asyncio.sleep(1)
        tick(kit)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[-2:]


@simulated
async def test_the_broker_gets_what_a_long_poll_brings_in_pieces(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        for _ in range(2500):
            tick(kit, after_ms=0)
        await asyncio.sleep(2)
        assert published(kit.producer) == held(kit.terminal)[before:]


@simulated
async def test_waits_for_the_brokers_offset_to_be_known(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.clock = BrokerClock()
        await started(kit)
        before = len(held(kit.terminal))
        tick(kit)
        await asyncio.sleep(2)
        assert published(kit.producer) == []
        kit.terminal.clock = BrokerClock(offset_ms=OFFSET_MS)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:]


@simulated
async def test_ticks_without_a_number_are_left_out_and_counted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        for bid in (1.1, math.nan, math.inf, 1.2):
            tick(kit, bid=bid)
        await asyncio.sleep(1)
        ticks = held(kit.terminal)[before:]
        assert published(kit.producer) == [ticks[0], ticks[3]]
        assert kit.ticks.stats.unusable == 2
        tick(kit, bid=math.nan)
        await asyncio.sleep(1)
        assert kit.ticks.stats.unusable == 3


# --- the socket


@simulated
async def test_in_standard_mode_the_latest_tick_goes_to_the_socket(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hybrid=False, backfill_ms=60_000) as kit:
        await started(kit)
        for n in range(3):
            tick(kit, bid=1.2 + n / 10)
        await asyncio.sleep(1)
        (frame,) = kit.channel.of("tick_data")
        assert frame["data"]["bid"] == 1.4
        assert set(kit.channel.latest) >= {"tick:EURUSD"}
        assert await kit.journal.cursors() == {}


@simulated
async def test_in_standard_mode_nothing_of_the_past_is_read(tmp_path: Path) -> None:
    channel = FakeChannel()
    async with FlowKit.open(tmp_path, hybrid=False, channel=channel) as kit:
        await kit.journal.commit(changes.CursorMoved(symbol="EURUSD", epoch=0, time_msc=1, count=1))
        await kit.ticks.restore()
        await started(kit)
        kit.terminal.become(TerminalState.DISCONNECTED)
        for _ in range(3):
            tick(kit, bid=1.5)
        leap(3600)
        tick(kit, bid=1.6)
        kit.terminal.become(TerminalState.CONNECTED)
        await asyncio.sleep(1)
        tick(kit, bid=1.7)
        await asyncio.sleep(1)
        # A quote that came by another way shows how far behind the cursor is.
        leap(3600)
        tick(kit, bid=1.8)
        kit.book.quotes |= kit.terminal.quotes
        await asyncio.sleep(1)
        tick(kit, bid=1.9)
        await asyncio.sleep(1)
        assert [f["data"]["bid"] for f in channel.of("tick_data")] == [1.6, 1.7, 1.9]
        assert "catch_up" not in kit.terminal.calls


# --- symbols


@simulated
async def test_symbols_of_the_settings_that_are_not_there_are_looked_for_after_each_connection(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, symbols=("EURUSD", "LATER", "TWO", "EURUSD", "NOPOINT")) as kit:
        kit.terminal.symbols |= {"TWO.a": symbol_info("TWO.a"), "TWO.b": symbol_info("TWO.b")}
        kit.terminal.symbols["NOPOINT"] = symbol_info("NOPOINT", point=0.0)
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert kit.ticks.symbols == ("EURUSD",)
        assert set(kit.ticks.missing) == {"LATER", "TWO", "NOPOINT"}
        assert "ambiguous" in kit.ticks.missing["TWO"]
        asked = kit.terminal.calls.count("resolve_symbol")
        await asyncio.sleep(10)
        assert kit.terminal.calls.count("resolve_symbol") == asked, "once a connection"
        kit.terminal.symbols["LATER"] = symbol_info("LATER")
        kit.terminal.become(TerminalState.DISCONNECTED)
        await asyncio.sleep(1)
        kit.terminal.become(TerminalState.CONNECTED)
        await asyncio.sleep(2)
        assert list(kit.ticks.symbols) == ["EURUSD", "LATER"]


@simulated
async def test_one_symbol_that_cannot_be_asked_does_not_stop_the_others(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, symbols=("BAD", "EURUSD")) as kit:
        real = kit.terminal.resolve_symbol

        async def ailing(name: str, **more: Any) -> str:
            if name == "BAD":
                raise MT5DataError("symbol_info BAD: Call failed", code=-1)
            return await real(name, **more)

        kit.terminal.resolve_symbol = ailing  # type: ignore[method-assign]  # a terminal with one broken symbol
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert kit.ticks.symbols == ("EURUSD",)
        assert not kit.ticks.missing
        kit.terminal.resolve_symbol = real  # type: ignore[method-assign]  # mended
        kit.terminal.symbols["BAD"] = symbol_info("BAD")
        await asyncio.sleep(6)
        assert list(kit.ticks.symbols) == ["EURUSD", "BAD"]


@simulated
async def test_a_terminal_that_cannot_be_asked_is_asked_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.failures["resolve_symbol"] = MT5ConnectionError("pipe")
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert kit.ticks.stats.poll_failures > 3
        del kit.terminal.failures["resolve_symbol"]
        await asyncio.sleep(1)
        assert kit.ticks.symbols == ("EURUSD",)


@simulated
async def test_subscribes_and_unsubscribes_while_it_runs(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.tick("GBPUSD.m", 1.3, 1.3001)
        await started(kit)
        assert await kit.ticks.subscribe("GBPUSD") == "GBPUSD.m"
        assert await kit.ticks.subscribe("GBPUSD.m") == "GBPUSD.m"
        await asyncio.sleep(1)
        tick(kit, "GBPUSD.m")
        await asyncio.sleep(1)
        assert len(published(kit.producer, "GBPUSD.m")) == 1
        assert await kit.ticks.unsubscribe("GBPUSD")
        assert not await kit.ticks.unsubscribe("GBPUSD")
        assert not await kit.ticks.unsubscribe("NONE")
        tick(kit, "GBPUSD.m")
        await asyncio.sleep(1)
        assert len(published(kit.producer, "GBPUSD.m")) == 1
        await kit.ticks.subscribe("GBPUSD.m")
        await asyncio.sleep(1)
        assert published(kit.producer, "GBPUSD.m") == held(kit.terminal, "GBPUSD.m")[1:]
        assert await kit.ticks.unsubscribe("EURUSD")
        kit.terminal.become(TerminalState.DISCONNECTED)
        kit.terminal.become(TerminalState.CONNECTED)
        await asyncio.sleep(1)
        assert kit.ticks.symbols == ("GBPUSD.m",), "what was unsubscribed does not come back by itself"


async def unsubscribed_on_the_way(kit: FlowKit) -> asyncio.Event:
    """A symbol is unsubscribed while its second tick is with the broker, which answers once the event is set."""
    await started(kit)
    tick(kit)
    await asyncio.sleep(1)
    hang = kit.producer.hang = asyncio.Event()
    tick(kit)
    await asyncio.sleep(1)
    await kit.ticks.unsubscribe("EURUSD")
    return hang


@simulated
async def test_an_unsubscribed_symbol_leaves_no_work_and_keeps_its_cursor(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        hang = await unsubscribed_on_the_way(kit)
        await asyncio.sleep(0)
        assert not kit.ticks._delivery.tasks
        cursor = (await kit.journal.cursors())["EURUSD"]
        assert cursor.time_msc == published(kit.producer)[-1][0] + OFFSET_MS
        hang.set()
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[-2:], "what was handed over may have left already"
        assert (await kit.journal.cursors())["EURUSD"] == cursor
        kit.journal.break_down()
        await kit.ticks.subscribe("EURUSD")
        await kit.ticks.unsubscribe("EURUSD")
        kit.journal.mend()


@simulated
async def test_what_fails_of_a_symbol_that_is_gone_starts_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        hang = await unsubscribed_on_the_way(kit)
        await kit.ticks.close()
        kit.producer.connected = False
        hang.set()
        await asyncio.sleep(1)
        assert not kit.ticks._delivery.tasks


@simulated
async def test_a_missing_symbol_can_be_given_up(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, symbols=("NONE",)) as kit:
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert not await kit.ticks.unsubscribe("NONE")
        assert not kit.ticks.missing


# --- faults


@simulated
async def test_a_poll_that_fails_is_asked_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        kit.terminal.failures["poll_ticks"] = MT5StateError("closing")
        tick(kit)
        await asyncio.sleep(2)
        del kit.terminal.failures["poll_ticks"]
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:]
        assert kit.ticks.stats.poll_failures > 5


@simulated
async def test_without_a_broker_nothing_is_read_and_nothing_lost(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        kit.producer.connected = False
        await asyncio.sleep(1)
        polls = kit.ticks.stats.polls
        for _ in range(20):
            tick(kit)
            await asyncio.sleep(0.1)
        assert kit.ticks.stats.polls == polls
        kit.producer.connected = True
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:]


@simulated
async def test_a_producer_that_cannot_take_at_once_is_waited_for(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        tick(kit)
        await asyncio.sleep(1)
        kit.producer.full = True
        tick(kit, bid=math.nan)
        tick(kit)
        await asyncio.sleep(1)
        assert published(kit.producer) == [held(kit.terminal)[-3], held(kit.terminal)[-1]]
        assert (kit.ticks.stats.published, kit.ticks.stats.unusable) == (2, 1)
        kit.producer.error = BrokerError("not acknowledged in time")
        tick(kit)
        await asyncio.sleep(1)
        kit.producer.error = None
        await asyncio.sleep(1)
        assert published(kit.producer)[-1] == held(kit.terminal)[-1]


class Refusing(FakeProducer):
    """Refuses EURUSD, and what comes with it; `offered` are the keys of each offer."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = True
        self.offered: list[list[bytes]] = []

    def offer(self, topic: str, parts: Any, headers: Any = ()) -> Any:
        self.offered.append([key for key, _ in parts])
        return super().offer(topic, parts, headers)

    async def publish(self, topic: str, key: bytes | None, records: Any, headers: Any = ()) -> None:
        if self.refuses and key == b"EURUSD":
            raise RecordRefused("in the future", "timestamp")
        await super().publish(topic, key, records, headers)


@simulated
async def test_what_travels_with_a_refused_tick_goes_by_itself_until_that_is_mended(tmp_path: Path) -> None:
    producer = Refusing()
    producer.refuses = False
    pair = [b"EURUSD", b"USDJPY"]
    async with FlowKit.open(tmp_path, producer=producer, symbols=("EURUSD", "USDJPY")) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        await started(kit)
        before = len(held(kit.terminal))

        async def both(times: int) -> None:
            for _ in range(times):
                tick(kit)
                tick(kit, "USDJPY", bid=150.0)
                await asyncio.sleep(0.3)

        await both(2)
        producer.refuses, producer.offered = True, []
        await both(10)
        assert sorted(producer.offered[0]) == pair
        assert sorted(producer.offered[1:3]) == [[key] for key in pair]
        assert all(offer == [b"USDJPY"] for offer in producer.offered[3:])
        assert len(published(producer, "USDJPY")) == 12, "none waits for the other symbol"
        assert kit.ticks.stats.failed_publishes == 3, "together, then one by one"
        producer.refuses = False
        await asyncio.sleep(6)
        producer.offered.clear()
        await both(2)
        assert sorted(producer.offered[-1]) == pair, "together again"
        assert published(producer) == held(kit.terminal)[before:]


@simulated
async def test_those_that_fail_together_for_a_while_go_together_again(tmp_path: Path) -> None:
    producer = Refusing()
    producer.refuses = False
    async with FlowKit.open(tmp_path, producer=producer, symbols=("EURUSD", "USDJPY")) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        await started(kit)
        tick(kit)
        tick(kit, "USDJPY", bid=150.0)
        await asyncio.sleep(0.3)  # the first ones go by themselves, behind where their symbol begins
        for fails in (False, True, False):
            producer.error = BrokerError("not acknowledged in time") if fails else None
            producer.offered.clear()
            failures = kit.ticks.stats.failed_publishes
            tick(kit)
            tick(kit, "USDJPY", bid=150.0)
            await asyncio.sleep(0.25)
            assert sorted(producer.offered[0]) == [b"EURUSD", b"USDJPY"]
            assert not any(feed.apart for feed in kit.ticks._feeds.values())
            assert (kit.ticks.stats.failed_publishes > failures) == fails


@simulated
async def test_what_was_handed_over_is_not_asked_for_before_its_end_has_been_looked_at(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        await asyncio.sleep(1)
        (feed,) = kit.ticks._feeds.values()
        feed.busy, feed.handed = asyncio.get_running_loop().create_future(), True
        feed.busy.set_result(None)
        assert not kit.ticks._to_ask(may_publish=True)
        feed.handed = False
        assert kit.ticks._to_ask(may_publish=True) == ["EURUSD"]


@simulated
async def test_ticks_the_broker_refuses_hold_up_no_other_symbol(tmp_path: Path) -> None:
    producer = Refusing()
    async with FlowKit.open(tmp_path, producer=producer, symbols=("EURUSD", "USDJPY")) as kit:
        kit.terminal.tick("USDJPY", 150.0, 150.01)
        await started(kit)
        before = len(held(kit.terminal))
        for _ in range(10):
            tick(kit)
            tick(kit, "USDJPY", bid=150.0)
            await asyncio.sleep(0.3)
        assert len(published(producer, "USDJPY")) == 10
        assert kit.ticks.stats.failed_publishes == 1, "asked again after a while, not at every poll"
        producer.refuses = False
        await asyncio.sleep(6)
        assert published(producer) == held(kit.terminal)[before:]


@simulated
async def test_cursors_that_cannot_be_written_are_written_later(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        await asyncio.sleep(1)
        kit.journal.break_down()
        tick(kit)
        await asyncio.sleep(3)
        with pytest.raises(JournalError):
            await kit.ticks.save_cursors()
        kit.journal.mend()
        await asyncio.sleep(1)
        assert (await kit.journal.cursors())["EURUSD"].time_msc == published(kit.producer)[-1][0] + OFFSET_MS
        kit.journal.break_down()
        tick(kit)
        await asyncio.sleep(1)
        await kit.ticks.close()
        kit.journal.mend()


@simulated
async def test_the_cursor_moves_on_acknowledgement_only(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        await asyncio.sleep(1)
        start = (await kit.journal.cursors())["EURUSD"]
        kit.producer.hang = asyncio.Event()
        tick(kit)
        await asyncio.sleep(2)
        assert (await kit.journal.cursors())["EURUSD"] == start
        kit.producer.hang.set()
        await asyncio.sleep(1)
        assert (await kit.journal.cursors())["EURUSD"] != start


@simulated
async def test_where_a_symbol_began_survives_a_crash_before_its_first_tick(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.producer.connected = False
        terminal = kit.terminal
        await started(kit)
        await asyncio.sleep(1)
        before = len(held(terminal))
        tick(kit)
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal) as kit:
        tick(kit)
        kit.run(*ALL)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(terminal)[before:]


@simulated
async def test_no_tick_leaves_before_the_disk_knows_where_its_symbol_began(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        await started(kit)
        before = len(held(kit.terminal))
        tick(kit)
        await asyncio.sleep(12)
        assert published(kit.producer) == []
        kit.journal.mend()
        tick(kit)
        await asyncio.sleep(6)
        assert published(kit.producer) == held(kit.terminal)[before:]
        kit.journal.break_down()
        tick(kit)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:], "where it began is known by now"
        kit.journal.mend()


@simulated
async def test_a_defect_in_delivery_is_told(tmp_path: Path) -> None:
    class Broken(FakeProducer):
        async def publish(self, *args: Any, **more: Any) -> None:
            raise ZeroDivisionError

    async with FlowKit.open(tmp_path, producer=Broken()) as kit:
        await started(kit)
        tick(kit)
        await eventually(lambda: kit.defects, 5)
        kit.defects.clear()
        for task in kit.tasks.values():
            task.cancel()
        await asyncio.sleep(1)
        kit.defects.clear()


@simulated
async def test_a_symbol_whose_history_has_no_more_is_left_to_the_live_host_for_a_while(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        quote = kit.terminal.quotes["EURUSD"]
        leap(120)
        # The terminal shows a newer quote, and its history has no tick of it yet.
        kit.terminal.quotes["EURUSD"] = msgspec.structs.replace(quote, time_msc=kit.clock.now_ms())
        await asyncio.sleep(9)
        assert kit.ticks.stats.catch_ups == 1
        await asyncio.sleep(5)
        assert kit.ticks.stats.catch_ups == 2


@simulated
async def test_results_for_symbols_no_longer_streamed_are_dropped(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        hold = kit.terminal.holds["poll_ticks"] = asyncio.Event()
        tick(kit)
        await asyncio.sleep(0.2)
        await kit.ticks.unsubscribe("EURUSD")
        kit.terminal.holds.clear()
        hold.set()
        await asyncio.sleep(1)
        assert published(kit.producer) == []


# --- many symbols


class Sliced(FakeTerminal):
    """Looks at so many symbols in a slice, as a host whose time is up.

    Attributes:
        sizes: how many symbols each call asked about.
    """

    room = 7

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def poll_ticks(self, cursors: Mapping[str, Cursor | None], **how: Any) -> PollResult:
        self.sizes.append(len(cursors))
        looked_at = dict(islice(cursors.items(), self.room))
        result = await super().poll_ticks(looked_at, **how)
        left = [symbol for symbol in cursors if symbol not in looked_at]
        return msgspec.structs.replace(result, unfinished=[*result.unfinished, *left])


def many(count: int) -> Sliced:
    terminal = Sliced()
    for number in range(count):
        terminal.tick(f"S{number:03d}", 1.1, 1.2, after_ms=0)
    return terminal


@simulated
async def test_many_symbols_are_asked_about_slice_by_slice_and_all_in_one_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "SLICE_SYMBOLS", 20)
    names = tuple(f"S{number:03d}" for number in range(45))
    async with FlowKit.open(tmp_path, terminal=(terminal := many(45)), symbols=names) as kit:
        await started(kit)
        terminal.sizes.clear()
        for round_ in range(3):
            for symbol in names:
                kit.terminal.tick(symbol, 1.1 + round_ / 100, 1.2, after_ms=0)
            leap(0.001)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert {symbol: published(kit.producer, symbol) for symbol in names} == {
            symbol: held(terminal, symbol)[1:] for symbol in names
        }
        assert max(terminal.sizes) == 20
        assert kit.ticks.stats.missed_slots == 0
        assert not kit.ticks._delivery.tasks


@simulated
async def test_many_symbols_begin_some_time_ago_all_at_once(tmp_path: Path) -> None:
    names = tuple(f"S{number:03d}" for number in range(15))
    async with FlowKit.open(tmp_path, terminal=(terminal := many(15)), symbols=names, backfill_ms=60_000) as kit:
        kit.run(*ALL)
        await asyncio.sleep(5)
        assert all(published(kit.producer, symbol) == held(terminal, symbol) for symbol in names)


@simulated
async def test_symbols_that_take_long_to_find_do_not_hold_up_those_found(tmp_path: Path) -> None:
    names = tuple(f"S{number:03d}" for number in range(20))
    async with FlowKit.open(tmp_path, terminal=(terminal := many(20)), symbols=names) as kit:
        real = terminal.resolve_symbol

        async def slow(name: str, **more: Any) -> str:
            await asyncio.sleep(1)
            return await real(name, **more)

        terminal.resolve_symbol = slow  # type: ignore[method-assign]  # a broker with thousands of symbols
        kit.run(*ALL)
        await asyncio.sleep(3)
        tick(kit, "S000")
        await asyncio.sleep(3)
        assert len(kit.ticks.symbols) < 10
        assert published(kit.producer, "S000") == held(terminal, "S000")[1:]


@simulated
async def test_a_slice_that_fails_while_another_is_delivered_loses_nothing(tmp_path: Path) -> None:
    names = tuple(f"S{number:03d}" for number in range(10))
    async with FlowKit.open(tmp_path, terminal=(terminal := many(10)), symbols=names) as kit:
        await started(kit)
        real, calls = terminal.poll_ticks, itertools.count()

        async def failing(cursors: Mapping[str, Cursor | None], **how: Any) -> PollResult:
            if next(calls) % 2:
                raise MT5ConnectionError("the host was killed")
            return await real(cursors, **how)

        terminal.poll_ticks = failing  # type: ignore[method-assign]  # every second slice
        for symbol in names:
            kit.terminal.tick(symbol, 1.3, 1.4, after_ms=0)
        leap(0.001)
        await asyncio.sleep(1)
        terminal.poll_ticks = real  # type: ignore[method-assign]
        await asyncio.sleep(1)
        assert all(published(kit.producer, symbol) == held(terminal, symbol)[1:] for symbol in names)


# --- what is counted


@simulated
async def test_gaps_repeats_and_what_a_newer_tick_replaced_are_counted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, latest_only=True) as kit:
        await started(kit)
        for _ in range(5):
            tick(kit)
        await asyncio.sleep(1)
        stats = kit.ticks.stats
        assert (stats.published, stats.conflated, stats.resent, stats.gaps) == (1, 4, 0, 0)
        kit.producer.error = BrokerError("not acknowledged in time")
        tick(kit)
        await asyncio.sleep(0.15)
        kit.producer.error = None
        await asyncio.sleep(1)
        assert (stats.published, stats.resent) == (2, stats.failed_publishes)
        real = kit.terminal._behind

        def rewritten(*args: Any) -> TickBlock:
            return msgspec.structs.replace(real(*args), lost=1)

        kit.terminal._behind = rewritten  # type: ignore[method-assign,assignment]  # the broker changed its history
        tick(kit)
        await asyncio.sleep(1)
        assert (stats.published, stats.gaps) == (3, 1)


# --- the PC sleeps, the market does


@simulated
async def test_after_the_pc_slept_all_it_missed_is_read(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        tick(kit)
        await asyncio.sleep(1)
        for _ in range(200):
            tick(kit, after_ms=100_000)  # nobody runs meanwhile
        await asyncio.sleep(3)
        tick(kit)
        await asyncio.sleep(3)
        assert published(kit.producer) == held(kit.terminal)[before:]
        assert kit.ticks.stats.missed_slots > 100_000
        assert kit.ticks.stats.gaps == 0


@simulated
async def test_over_a_weekend_nothing_is_asked_of_history(tmp_path: Path) -> None:
    """The cursor of a closed market is as old as its last tick: it is not behind."""
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        before = len(held(kit.terminal))
        tick(kit)
        await asyncio.sleep(1)
        for _ in range(5):
            leap(10 * 3600)
            await asyncio.sleep(1)
        assert kit.ticks.stats.catch_ups == 0
        tick(kit)
        await asyncio.sleep(1)
        tick(kit)
        await asyncio.sleep(1)
        assert published(kit.producer) == held(kit.terminal)[before:]


@simulated
async def test_an_epoch_that_has_nothing_left_is_done_with(tmp_path: Path) -> None:
    """Broker time stepped back: the terminal says where the next epoch begins, without a tick."""
    async with FlowKit.open(tmp_path) as kit:
        await started(kit)
        tick(kit)
        await asyncio.sleep(1)
        (feed,) = kit.ticks._feeds.values()
        assert feed.acked is not None
        next_epoch = Cursor(feed.acked.time_msc - 3_600_000, 0, feed.acked.epoch + 1)
        kit.ticks._advance("EURUSD", next_epoch, None, may_publish=True)
        assert feed.read == feed.acked == next_epoch
        await kit.ticks.save_cursors()
        assert (await kit.journal.cursors())["EURUSD"] == next_epoch


# --- P5, whatever happens


class FlakyProducer(FakeProducer):
    """Fails at the calls told, after having taken a part of what it was given.

    Attributes:
        faults: how many records it takes before it fails, by number of calls from now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[int, int] = {}

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.faults = {call - 1: taken for call, taken in self.faults.items()}
        taken = self.faults.pop(-1, None)
        if taken is None:
            await super().publish(topic, key, records, headers)
        else:
            await super().publish(topic, key, records[:taken], headers)
            raise BrokerError("not acknowledged in time")


ACTIONS = st.one_of(
    st.tuples(st.just("ticks"), st.lists(st.sampled_from([0, 0, 1, 40, 1000, 40_000]), min_size=1, max_size=8)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.15, 1.0, 7.0])),
    st.tuples(st.just("fail"), st.tuples(st.integers(0, 3), st.integers(0, 5))),
    st.tuples(st.just("connected"), st.booleans()),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("terminal"), st.booleans()),
    st.tuples(st.just("offset"), st.booleans()),
    st.tuples(st.just("journal"), st.booleans()),
    st.tuples(st.just("subscribe"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
)


async def act(kit: FlowKit, what: str, how: Any) -> None:
    assert isinstance(kit.producer, FlakyProducer)
    match what:
        case "ticks":
            for after_ms in how:
                tick(kit, after_ms=after_ms)
        case "wait":
            await asyncio.sleep(how)
        case "fail":
            kit.producer.faults[how[0]] = how[1]
        case "connected" | "full":
            setattr(kit.producer, what, how)
        case "terminal":
            kit.terminal.become(TerminalState.CONNECTED if how else TerminalState.DISCONNECTED)
        case "offset":
            kit.terminal.clock = BrokerClock(offset_ms=OFFSET_MS if how else None)
        case "journal":
            kit.journal.mend() if how else kit.journal.break_down()
        case "subscribe":
            subscribe = how and kit.terminal.state is TerminalState.CONNECTED
            await (kit.ticks.subscribe("EURUSD") if subscribe else kit.ticks.unsubscribe("EURUSD"))


@settings(max_examples=heavy(60))
@given(st.lists(ACTIONS, max_size=25))
def test_every_tick_at_least_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, Any]]
) -> None:
    """P5: the union of what was published is all the terminal holds, first occurrences in order."""
    folder = tmp_path_factory.mktemp("ticks")

    async def run() -> None:
        terminal, producer = FakeTerminal(login=1001), FlakyProducer()
        async with FlowKit.open(folder, terminal=terminal, producer=producer) as kit:
            tick(kit)
            await started(kit)
            await asyncio.sleep(1)
        begun = len(held(terminal))
        todo = list(actions)
        while True:
            async with FlowKit.open(folder, terminal=terminal, producer=producer, ready=False) as kit:
                kit.run(*ALL)
                while todo and todo[0][0] != "restart":
                    await act(kit, *todo.pop(0))
                if not todo:
                    for what in ("connected", "terminal", "offset", "journal", "subscribe"):
                        await act(kit, what, True)
                    producer.faults.clear()
                    tick(kit)
                    wanted = held(terminal)[begun:]
                    for _ in range(60):
                        await asyncio.sleep(1)
                        if set(wanted) <= set(published(producer)):
                            break
                    assert list(dict.fromkeys(published(producer))) == wanted
                    return
                if todo.pop(0)[1]:
                    await kit.crash()
                elif kit.journal.broken:
                    kit.journal.mend()

    run_simulated(run())
