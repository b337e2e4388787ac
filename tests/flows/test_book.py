import asyncio
from zoneinfo import ZoneInfo

import msgspec
import pytest
from support.facts import a_position, an_exposure, an_order
from support.fake_terminal import START_MS, FakeTerminal, symbol_info
from support.flow_kit import clock_of_loop
from support.simulated import leap, simulated

from mt5_bridge.core.decision import Day
from mt5_bridge.core.errors import MT5ConnectionError, MT5DataError
from mt5_bridge.core.model import AssetClass, Deed, MarginMode, OrderRequest
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.book import Book, Change, read_retrying
from mt5_bridge.terminal.port import Priority, Snapshot

UTC = ZoneInfo("UTC")
NOW = START_MS


def a_book(terminal: FakeTerminal | None = None) -> tuple[Book, FakeTerminal]:
    terminal = terminal or FakeTerminal()
    clock = clock_of_loop()
    terminal.keep_time(clock.now_ms)
    terminal.tick("EURUSD", 1.1, 1.1001, after_ms=0)
    return Book(terminal, clock, UTC), terminal


def opens(terminal: FakeTerminal, magic: int, volume: float = 0.1) -> int:
    return terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=volume, magic=magic)).order


# --- reading


@simulated
async def test_a_refresh_tells_what_changed() -> None:
    book, terminal = a_book()
    told: list[Change] = []
    book.on_change(told.append)
    await book.refresh()
    assert told == [Change(account=True)]
    assert book.complete_reads == 1
    ticket = opens(terminal, 7)
    terminal.orders[11] = an_order(11)
    await book.refresh()
    assert [p.ticket for p in told[-1].opened] == [ticket]
    assert [o.ticket for o in told[-1].placed] == [11]
    assert [d.magic for d in told[-1].deals] == [7]
    assert told[-1].positions
    terminal.positions[ticket] = msgspec.structs.replace(terminal.positions[ticket], stop_loss=1.0)
    await book.refresh()
    assert [p.stop_loss for p in told[-1].changed] == [1.0]
    count = len(told)
    terminal.positions[ticket] = msgspec.structs.replace(terminal.positions[ticket], profit=5.0, price_current=1.2)
    await book.refresh()
    assert len(told) == count
    del terminal.positions[ticket], terminal.orders[11]
    await book.refresh()
    assert [p.ticket for p in told[-1].closed] == [ticket]
    assert [o.ticket for o in told[-1].gone] == [11]


@simulated
async def test_a_critical_read_waits_for_no_other_and_is_not_overwritten_by_an_older_one() -> None:
    book, terminal = a_book()
    told: list[Change] = []
    book.on_change(told.append)
    ticket = opens(terminal, 7)
    lagging = terminal.holds["get_history_deals"] = asyncio.Event()
    older = asyncio.create_task(book.refresh())
    await asyncio.sleep(0.01)
    del terminal.holds["get_history_deals"], terminal.positions[ticket]
    later = opens(terminal, 8)
    newer = await book.refresh(priority=Priority.CRITICAL)
    assert not older.done()
    assert list(book.positions) == [p.ticket for p in newer.positions] == [later]
    lagging.set()
    assert await older is newer, "whoever asked earlier is served by what was asked for later"
    assert list(book.positions) == [later]
    assert [[p.ticket for p in change.opened] for change in told] == [[later]]
    assert sorted(deal.magic for change in told for deal in change.deals) == [7, 8]


@simulated
async def test_those_who_can_wait_share_one_read() -> None:
    book, terminal = a_book()
    await book.refresh()
    opens(terminal, 7)
    assert not book.about_to_read
    asking = [asyncio.create_task(book.refresh(spaced=True)) for _ in range(5)]
    await asyncio.sleep(0)
    assert book.about_to_read
    before = terminal.calls.count("snapshot")
    first, *others = await asyncio.gather(*asking)
    assert terminal.calls.count("snapshot") == before + 1
    assert all(each is first for each in others)
    assert not book.about_to_read


@simulated
async def test_whoever_asks_once_a_shared_read_has_begun_gets_the_next() -> None:
    book, terminal = a_book()
    lagging = terminal.holds["snapshot"] = asyncio.Event()
    early = asyncio.create_task(book.refresh(spaced=True))
    await asyncio.sleep(0.2)
    late = asyncio.create_task(book.refresh(spaced=True))
    await asyncio.sleep(0.2)
    del terminal.holds["snapshot"]
    lagging.set()
    assert await early is not await late


@simulated
async def test_a_shared_read_that_fails_fails_for_all_who_share_it() -> None:
    book, terminal = a_book()
    await book.refresh()
    terminal.failures["snapshot"] = MT5ConnectionError("away")
    asking = [asyncio.create_task(book.refresh(spaced=True)) for _ in range(3)]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in outcomes] == [MT5ConnectionError] * 3
    assert terminal.calls.count("snapshot") == 2
    del terminal.failures["snapshot"]
    assert (await book.refresh(spaced=True)).positions == []


@simulated
async def test_when_the_reader_of_a_shared_read_goes_another_reads() -> None:
    book, _ = a_book()
    await book.refresh()
    reader, *others = [asyncio.create_task(book.refresh(spaced=True)) for _ in range(3)]
    await asyncio.sleep(0)
    reader.cancel()
    others[0].cancel()
    outcomes = await asyncio.gather(reader, *others, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in outcomes] == [True, True, False]
    assert not book.about_to_read


@simulated
async def test_a_failed_read_leaves_the_picture() -> None:
    book, terminal = a_book()
    opens(terminal, 7)
    await book.refresh()
    for name in ("snapshot", "get_history_deals"):
        terminal.positions.clear()
        terminal.failures[name] = MT5DataError("None", code=-10001)
        with pytest.raises(MT5DataError):
            await book.refresh()
        assert len(book.positions) == 1
        assert book.complete_reads == 1
        del terminal.failures[name]


@simulated
async def test_reading_goes_on_until_it_succeeds() -> None:
    book, terminal = a_book()
    terminal.failures["snapshot"] = MT5ConnectionError("away")
    reading = asyncio.create_task(read_retrying(book, priority=Priority.HIGH, pause_s=0.5))
    await asyncio.sleep(3)
    assert not reading.done()
    del terminal.failures["snapshot"]
    assert (await reading).positions == []


@simulated
async def test_history_that_lags_is_read_for_a_while_after_a_change() -> None:
    book, terminal = a_book()
    await book.refresh()
    terminal.lag_ms = 3000
    opens(terminal, 7)
    await book.refresh()
    assert book.day is not None
    assert book.day.trades == 0
    await asyncio.sleep(4)
    await book.refresh()
    assert book.day.trades == 1
    await asyncio.sleep(4)
    asked = terminal.calls.count("get_history_deals")
    await book.refresh()
    assert terminal.calls.count("get_history_deals") == asked


# --- names and symbols


@simulated
async def test_names_and_rules_are_asked_once_a_connection() -> None:
    book, terminal = a_book()
    terminal.symbols["XAUUSD.m"] = symbol_info("XAUUSD.m")
    for _ in range(2):
        assert await book.resolve("XAUUSD") == "XAUUSD.m"
        assert (await book.symbol("XAUUSD.m")) is not None
    assert terminal.calls.count("resolve_symbol") == terminal.calls.count("get_symbol") == 1
    assert book.classes == {"XAUUSD.m": AssetClass.METAL}
    book.lost_connection()
    await book.resolve("XAUUSD")
    assert terminal.calls.count("resolve_symbol") == 2
    assert await book.symbol("NOPE") is None
    terminal.failures["get_symbol"] = MT5DataError("None", code=-10001)
    with pytest.raises(MT5DataError):
        await book.symbol("EURUSD")


# --- in flight


@simulated
async def test_an_opening_counts_until_a_later_read_shows_it() -> None:
    book, terminal = a_book()
    await book.refresh()
    book.reserve(an_exposure(7))
    await book.refresh()
    assert len(book.in_flight()) == 1
    assert not book.in_flight(but=7)
    terminal.list_lag_ms = 1000
    opens(terminal, 7)
    book.settle(7)
    await book.refresh()
    assert len(book.in_flight()) == 1
    await asyncio.sleep(1.5)
    await book.refresh()
    assert not book.in_flight()
    assert len(book.positions) == 1


@simulated
async def test_a_read_asked_before_the_outcome_releases_nothing() -> None:
    book, terminal = a_book()
    await book.refresh()
    book.reserve(an_exposure(7))
    terminal.holds["get_history_deals"] = asyncio.Event()
    opens(terminal, 8)
    reading = asyncio.create_task(book.refresh())
    await asyncio.sleep(0.1)
    book.settle(7)
    terminal.holds["get_history_deals"].set()
    await reading
    assert len(book.in_flight()) == 1


@simulated
async def test_what_was_open_and_is_closed_already_no_longer_counts() -> None:
    book, terminal = a_book()
    await book.refresh()
    book.reserve(an_exposure(7))
    ticket = opens(terminal, 7)
    terminal.execute(OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, position=ticket))
    book.settle(7)
    await book.refresh()
    assert not book.in_flight()


@simulated
async def test_what_no_list_ever_shows_counts_for_five_seconds() -> None:
    book, _ = a_book()
    await book.refresh()
    book.reserve(an_exposure(7))
    book.settle(7)
    await book.refresh()
    assert len(book.in_flight()) == 1
    await asyncio.sleep(5)
    await book.refresh()
    assert not book.in_flight()


@simulated
async def test_on_netting_the_deal_shows_it() -> None:
    book, terminal = a_book()
    terminal.netting()
    opens(terminal, 1)
    await book.refresh()
    assert book.netting
    book.reserve(an_exposure(7))
    opens(terminal, 7)
    book.settle(7)
    await book.refresh()
    assert not book.in_flight()


@simulated
async def test_on_netting_a_deal_counts_until_its_position_is_listed() -> None:
    """The lists may lag behind the history, too."""
    book, terminal = a_book()
    terminal.netting()
    await book.refresh()
    book.reserve(an_exposure(7))
    terminal.list_lag_ms = 2000
    opens(terminal, 7)
    book.settle(7)
    await book.refresh()
    assert (len(book.positions), len(book.in_flight())) == (0, 1)
    await asyncio.sleep(3)
    await book.refresh()
    assert (len(book.positions), len(book.in_flight())) == (1, 0)


@simulated
async def test_a_position_that_shows_early_counts_once() -> None:
    book, terminal = a_book()
    await book.refresh()
    book.reserve(an_exposure(7))
    opens(terminal, 7)
    await book.refresh()
    assert not book.in_flight()
    assert book.day_so_far is not None
    assert book.day_so_far.trades == 1
    book.mark_unknown(7)
    assert len(book.in_flight()) == 1
    assert book.day_so_far.trades == 0
    assert book.blocked == {"EURUSD"}
    book.settle(7)
    assert not book.blocked


@simulated
async def test_marks_of_unknown_magics_change_nothing() -> None:
    book, _ = a_book()
    book.mark_unknown(1)
    book.settle(1)
    book.release(1)
    assert not book.in_flight()
    assert book.day_so_far is None


def a_change(ticket: int, stop: float, magic: int) -> OrderRequest:
    return OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=ticket, stop_loss=stop, magic=magic)


@simulated
async def test_a_stop_about_to_be_loosened_counts_with_the_larger_risk() -> None:
    book, terminal = a_book()
    ticket = opens(terminal, 7)
    terminal.positions[ticket] = msgspec.structs.replace(terminal.positions[ticket], stop_loss=1.095)
    await book.refresh()
    (before,) = (await book.risks()).values()
    book.change(a_change(ticket, 1.09, magic=70))
    book.change(a_change(ticket, 1.0975, magic=71))
    (during,) = (await book.risks()).values()
    assert before is not None
    assert during is not None
    assert during > before
    book.changed(71)
    await book.refresh()
    assert (await book.risks())[ticket] == during, "the outcome of the looser one is not known yet"
    book.changed(70)
    assert (await book.risks())[ticket] == during, "nor read"
    await book.refresh()
    assert (await book.risks())[ticket] == before
    book.change(a_change(ticket, 0.0, magic=72))
    assert (await book.risks())[ticket] is None
    book.changed(72)
    book.changed(99)
    await book.refresh()
    assert (await book.risks())[ticket] == before


@simulated
async def test_a_pending_order_about_to_move_counts_with_the_larger_risk() -> None:
    book, terminal = a_book()
    terminal.orders[11] = an_order(11)
    await book.refresh()
    (before,) = (await book.risks()).values()
    order = terminal.orders[11]
    request = OrderRequest(
        deed=Deed.MODIFY, symbol="EURUSD", order=11, price=order.price + 0.01, stop_loss=order.stop_loss, magic=70
    )
    book.change(request)
    (during,) = (await book.risks()).values()
    assert before is not None
    assert during is not None
    assert during > before


@simulated
async def test_a_day_that_comes_back_with_the_clock_is_read_whole() -> None:
    book, terminal = a_book()
    opens(terminal, 7)
    await book.refresh()
    assert book.day is not None
    assert book.day.trades == 1
    leap(DAY / 1000)
    opens(terminal, 8)
    await book.refresh()
    assert book.day.trades == 1
    leap(-DAY / 1000)
    await book.refresh()
    assert book.day.trades == 1


# --- readiness


@simulated
async def test_deals_of_a_read_that_was_overtaken_are_trades_all_the_same() -> None:
    book, terminal = a_book()
    opens(terminal, 5)
    await book.refresh()
    lagging = terminal.holds["get_history_deals"] = asyncio.Event()
    opens(terminal, 6)
    older = asyncio.create_task(book.refresh())
    await asyncio.sleep(0.01)
    del terminal.holds["get_history_deals"]
    await book.refresh(priority=Priority.CRITICAL)
    book.reserve(an_exposure(7))

    def trades() -> int:
        assert book.day_so_far is not None
        return book.day_so_far.trades + len(book.in_flight())

    assert trades() == 3
    opens(terminal, 7)
    lagging.set()
    await older
    assert trades() == 3


@simulated
async def test_deals_that_come_after_midnight_are_those_of_the_day_before() -> None:
    book, terminal = a_book()
    for magic in (5, 6, 7):
        opens(terminal, magic)
    await book.refresh()
    leap((DAY - terminal.now_msc % DAY) / 1000 - 1)
    opens(terminal, 8)
    slow = terminal.holds["get_history_deals"] = asyncio.Event()
    reading = asyncio.create_task(book.refresh())
    await asyncio.sleep(1.5)
    slow.set()
    await reading
    assert book.day is not None
    assert (book.day.date, book.day.trades) == ("2023-11-15", 0)


@simulated
async def test_a_day_that_begins_after_its_read_is_not_built_from_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book, terminal = a_book()
    opens(terminal, 5)
    await book.refresh()
    await asyncio.sleep(6)
    real = book._difference

    def at_midnight(snapshot: Snapshot) -> Change:
        found = real(snapshot)
        reads.append(1)
        if len(reads) == 2:
            leap((DAY - terminal.now_msc % DAY) / 1000 + 0.001)
        return found

    reads: list[int] = []
    monkeypatch.setattr(book, "_difference", at_midnight)
    await book.refresh()
    assert book.day is not None
    assert book.day.date == "2023-11-14"
    await book.refresh()
    assert (book.day.date, book.day.trades) == ("2023-11-15", 0)


@simulated
async def test_readiness_is_what_the_last_read_says() -> None:
    book, terminal = a_book()
    assert book.readiness.why_not is not None
    assert not book.netting
    book.refused(by_server=True)
    book.refused(by_server=False)
    await book.refresh()
    book.reconciled.set()
    assert book.readiness.why_not is None
    book.refused(by_server=False)
    assert not book.readiness.terminal_trade_allowed
    book.refused(by_server=True)
    assert not book.readiness.expert_trade_allowed
    await book.refresh()
    assert book.readiness.why_not is None
    book.journal_healthy = False
    assert book.readiness.why_not == "the journal cannot be written"
    book.journal_healthy = True
    terminal.terminal = msgspec.structs.replace(terminal.terminal, tradeapi_disabled=True)
    await book.refresh()
    assert not book.readiness.api_allowed
    book.note(terminal.account, msgspec.structs.replace(terminal.terminal, tradeapi_disabled=False))
    assert book.readiness.why_not is None
    book.lost_connection()
    assert book.readiness.why_not is not None


# --- the day


@simulated
async def test_the_day_counts_manual_trades_and_rolls_over() -> None:
    book, terminal = a_book()
    opens(terminal, 0)
    await book.refresh()
    assert book.day is not None
    assert (book.day.date, book.day.trades) == ("2023-11-14", 1)
    book.block("EURUSD", "10017")
    assert book.blocked == {"EURUSD"}
    leap(2 * 3600)
    await book.refresh()
    assert (book.day.date, book.day.trades) == ("2023-11-15", 0)
    assert not book.blocked


@simulated
async def test_a_day_known_from_before_goes_on() -> None:
    book, _ = a_book()
    known = Day(date="2023-11-14", start_equity=9000.0, trades=4, peak_equity=12_000.0)
    book.restore_day(known)
    await book.refresh()
    assert book.day is not None
    assert (book.day.start_equity, book.day.trades, book.day.peak_equity) == (9000.0, 4, 12_000.0)


# --- risk


@simulated
async def test_risks_of_positions_and_orders_are_kept() -> None:
    book, terminal = a_book()
    terminal.positions = {
        1: a_position(1, volume=0.5, price_open=1.1, stop_loss=1.09),
        2: a_position(2, stop_loss=0.0),
        3: a_position(3, price_open=1.1, stop_loss=1.2),
    }
    terminal.orders = {11: an_order(11, price=1.09, stop_loss=1.085, volume_current=0.2)}
    await book.refresh()
    risks = await book.risks()
    assert risks == {1: pytest.approx(500.0), 2: None, 3: 0.0, 11: pytest.approx(100.0)}
    asked = terminal.calls.count("calc_profit")
    await book.risks()
    assert terminal.calls.count("calc_profit") == asked


@simulated
async def test_the_risks_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.flows.book._RISK_CACHE_MAX", 1)
    book, terminal = a_book()
    terminal.positions = {n: a_position(n, stop_loss=1.0 + n / 100) for n in (1, 2, 3)}
    await book.refresh()
    assert len(await book.risks()) == 3
    assert len(book._risk_cache) == 1


@simulated
async def test_margin_modes() -> None:
    book, terminal = a_book()
    for mode, netting in ((MarginMode.HEDGING, False), (MarginMode.NETTING, True), (MarginMode.EXCHANGE, True)):
        terminal.netting(mode)
        await book.refresh()
        assert book.netting is netting
