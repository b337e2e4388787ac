"""symbol_info, Market Watch, and ticks by flag."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.catalogue import catalogue

Start = Callable[..., MarketControl]
DAY = 86_400
PRICES = (
    "time", "spread", "bid", "bidhigh", "bidlow", "ask", "askhigh", "asklow", "session_open", "session_close",
    "price_change", "trade_tick_value", "trade_tick_value_profit", "trade_tick_value_loss",
)  # fmt: skip
TEXTS = ("basis", "category", "bank", "description", "exchange", "formula", "isin", "page", "path")


def ticks_since(symbol: str, second: int) -> Any:
    return mt5.copy_ticks_range(symbol, second, 2_000_000_000, mt5.COPY_TICKS_ALL)


@pytest.mark.parametrize("symbol", ["GBPUSD", "EURJPY", "XAUUSD", "US500", "BTCUSD"])
def test_the_days_figures_are_those_of_its_ticks(start: Start, symbol: str) -> None:
    market = start(ticks="", speed="0.05")
    mt5.symbol_select(symbol)
    for seconds in (0.0, 3600.0, 17.0, 1.2 * DAY, 60.0):
        market.advance(seconds)
        info = mt5.symbol_info(symbol)
        midnight = (market.now() // 1000 + 7200) // DAY * DAY
        today = ticks_since(symbol, midnight)
        before = mt5.copy_ticks_range(symbol, midnight - 3600, midnight, mt5.COPY_TICKS_ALL)
        closed = float(before["bid"][before["time"] < midnight][-1])
        assert (info.bidhigh, info.bidlow) == (today["bid"].max(), today["bid"].min())
        assert (info.askhigh, info.asklow) == (today["ask"].max(), today["ask"].min())
        assert (info.session_open, info.session_close) == (today["bid"][0], closed)
        assert info.price_change == pytest.approx((info.bid / closed - 1) * 100, abs=1e-4)
        assert (info.time, info.bid, info.ask) == tuple(today[["time", "bid", "ask"]][-1])
        assert info.spread == round((info.ask - info.bid) / info.point)


def test_a_weekend_shows_fridays_figures(start: Start) -> None:
    market = start(ticks="", sessions="real", speed="0.05")
    mt5.symbol_select("GBPUSD")
    market.advance(2 * DAY + 22 * 3600 - 1)
    friday = mt5.symbol_info("GBPUSD")
    market.advance(DAY)
    assert mt5.symbol_info("GBPUSD") == friday
    market.advance(DAY + 60)
    monday = mt5.symbol_info("GBPUSD")
    assert monday.session_close == friday.bid
    assert monday.bidhigh != friday.bidhigh


def test_a_recordings_first_day_has_no_day_before(start: Start) -> None:
    start(loop=False)
    mt5.symbol_select("USDJPY")
    info = mt5.symbol_info("USDJPY")
    assert info.session_close == info.session_open > 0


def test_a_days_figures_follow_a_symbol_given_by_hand(market: MarketControl) -> None:
    for bid in (1.1, 1.2, 0.9, 1.0):
        market.tick("EURUSD", bid, bid + 0.0002)
        market.advance(1)
    info = mt5.symbol_info("EURUSD")
    assert (info.bidhigh, info.bidlow, info.askhigh, info.asklow) == (1.2, 0.9, 1.2002, 0.9002)
    market.market.change_offset(7200 + 12 * 3600)
    market.advance(1)
    assert mt5.symbol_info("EURUSD").bidhigh == 1.2
    market.advance(DAY)
    market.tick("EURUSD", 1.5, 1.5001)
    tomorrow = mt5.symbol_info("EURUSD")
    assert (tomorrow.bidhigh, tomorrow.bidlow, tomorrow.session_close) == (1.5, 1.5, 1.0)
    assert tomorrow.price_change == 50.0


@pytest.mark.parametrize("symbol", list(catalogue()))
def test_every_field_is_there_and_of_its_kind(start: Start, symbol: str) -> None:
    start()
    before = mt5.symbol_info(symbol)._asdict()
    mt5.symbol_select(symbol)
    values = mt5.symbol_info(symbol)._asdict()
    if symbol != "EURUSD":
        assert not before["visible"]
        assert [before[name] for name in PRICES] == [0] * len(PRICES)
    assert [type(value) for value in values.values()] == [type(value) for value in before.values()]
    rules = {name: value for name, value in values.items() if name not in (*PRICES, "select", "visible")}
    assert rules == {name: before[name] for name in rules}
    assert all(values[name] for name in PRICES if name != "price_change")
    assert values["price_change"] or symbol in ("EURUSD", "USDJPY")  # whose recordings have no day before
    assert all(isinstance(values[name], str) for name in TEXTS)
    assert values["path"].endswith("\\" + symbol)
    assert values["ticks_bookdepth"] == 10
    assert values["trade_tick_size"] == values["point"] == pytest.approx(10 ** -values["digits"])
    assert 0 < values["volume_step"] <= values["volume_min"] < values["volume_max"]
    assert values["swap_long"] * values["swap_short"] != 0
    assert values["swap_rollover3days"] in (mt5.DAY_OF_WEEK_WEDNESDAY, mt5.DAY_OF_WEEK_FRIDAY)


def test_a_suffix_is_part_of_every_name(start: Start) -> None:
    start(symbol_suffix=".m")
    assert [info.name for info in mt5.symbols_get()] == [name + ".m" for name in catalogue()]
    assert all(info.path.endswith(info.name) for info in mt5.symbols_get())
    assert mt5.symbol_info("EURUSD") is None


def test_a_symbol_leaves_the_watch_unless_something_of_it_is_open(market: MarketControl) -> None:
    assert mt5.symbol_select("GBPUSD", True)
    assert mt5.symbol_info("GBPUSD").select
    assert mt5.symbol_select("GBPUSD", False)
    assert not mt5.symbol_info("GBPUSD").select
    assert mt5.symbol_info_tick("GBPUSD") is None
    assert mt5.symbol_select("GBPUSD", False)
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "EURUSD", "volume": 0.1, "type": mt5.ORDER_TYPE_BUY}
    opened = mt5.order_send(request)
    assert mt5.symbol_select("EURUSD", False) is False
    assert mt5.last_error()[0] == mt5.RES_E_FAIL
    assert mt5.symbol_info("EURUSD").visible
    mt5.order_send({**request, "type": mt5.ORDER_TYPE_SELL, "position": opened.order})
    pending = {**request, "action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_LIMIT, "price": 1.05}
    placed = mt5.order_send(pending)
    assert mt5.symbol_select("EURUSD", False) is False
    mt5.order_send({"action": mt5.TRADE_ACTION_REMOVE, "order": placed.order})
    assert mt5.symbol_select("EURUSD", False) is True
    assert mt5.symbol_info("EURUSD").bid == 0.0


@pytest.mark.parametrize(
    ("currency", "chosen", "needed"),
    [
        ("USD", "EURJPY", {"EURUSD", "USDJPY"}),
        ("USD", "GBPUSD", set()),
        ("USD", "BTCUSD", set()),
        ("EUR", "GBPUSD", {"EURUSD"}),
        ("EUR", "GBPJPY", {"EURJPY"}),
        ("CHF", "EURJPY", {"EURUSD", "USDJPY", "USDCHF"}),
    ],
)
def test_rates_that_convert_are_selected_unseen(start: Start, currency: str, chosen: str, needed: set[str]) -> None:
    start(currency=currency)
    mt5.symbol_select("EURUSD", False)
    assert not [info.name for info in mt5.symbols_get() if info.select]
    mt5.symbol_select(chosen)
    needed = needed | ({"GBPUSD"} if (currency, chosen) == ("EUR", "GBPJPY") else set()) - {chosen}
    shown = {info.name for info in mt5.symbols_get() if info.visible}
    selected = {info.name for info in mt5.symbols_get() if info.select}
    assert shown == {chosen}
    assert needed <= selected
    for name in selected - shown:
        assert mt5.symbol_info(name).bid > 0
        assert mt5.symbol_info_tick(name).bid > 0
    mt5.symbol_select(chosen, False)
    assert not [info.name for info in mt5.symbols_get() if info.select]


def test_ticks_by_flag(market: MarketControl) -> None:
    """COPY_TICKS_INFO: bid or ask changed; COPY_TICKS_TRADE: a trade came; a tick that brings both is in both."""
    begin = market.now() // 1000 + 7200
    market.tick("EURUSD", 1.1, 1.1002)
    market.tick("EURUSD", 1.1, 1.1002, last=1.1002, volume=0.5)
    market.tick("EURUSD", 1.1001, 1.1002, last=1.1001, volume=2.0)
    market.tick("EURUSD", 1.1001, 1.1002, last=1.10015, volume=1.0)
    market.tick("EURUSD", 1.1001, 1.1003)
    market.tick("EURUSD", 1.1001, 1.1003)

    def flags(kind: int) -> list[int]:
        return [int(flag) for flag in mt5.copy_ticks_range("EURUSD", begin, begin + 1, kind)["flags"]]

    bid, ask, trade = mt5.TICK_FLAG_BID, mt5.TICK_FLAG_ASK, mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME
    bought, sold = trade | mt5.TICK_FLAG_BUY, bid | trade | mt5.TICK_FLAG_SELL
    everything = [bid | ask, ask, bought, sold, trade, ask, bid | ask]
    assert flags(mt5.COPY_TICKS_ALL)[-7:] == everything
    assert flags(mt5.COPY_TICKS_INFO)[-5:] == [bid | ask, ask, sold, ask, bid | ask]
    assert flags(mt5.COPY_TICKS_TRADE) == [bought, sold, trade]
    assert flags(mt5.COPY_TICKS_INFO | mt5.COPY_TICKS_TRADE) == flags(mt5.COPY_TICKS_ALL)
    ticks = mt5.copy_ticks_from("EURUSD", begin, 100, mt5.COPY_TICKS_ALL)[-7:]
    assert ticks["last"].tolist() == [0, 0, 1.1002, 1.1001, 1.10015, 1.10015, 1.10015]
    assert ticks["volume_real"].tolist() == [0, 0, 0.5, 2, 1, 1, 1]
    assert ticks["volume"].tolist() == [0, 0, 0, 2, 1, 1, 1]
    assert mt5.copy_ticks_from("EURUSD", begin, 2, mt5.COPY_TICKS_TRADE)["flags"].tolist() == [bought, sold]
    info = mt5.symbol_info("EURUSD")
    assert (info.last, info.volume_real, info.volumehigh_real) == (1.10015, 1.0, 2.0)


def test_the_current_tick_is_the_newest_of_those_copied(start: Start) -> None:
    """With flags of its own, a trade's sides among them: a bridge may take either for the other."""
    market = start(ticks="", speed="3")
    mt5.symbol_select("GBPUSD")
    seen = []

    def compare(symbol: str) -> None:
        tick = mt5.symbol_info_tick(symbol)
        assert tuple(tick) == mt5.copy_ticks_from(symbol, tick.time, 1000, mt5.COPY_TICKS_ALL)[-1].item()
        seen.append(tick.flags)

    for step in range(60):
        market.advance(0.3)
        if step == 40:
            market.market.change_offset(10_800)
        compare("GBPUSD")
    assert {mt5.TICK_FLAG_ASK, mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK} <= set(seen)
    market.tick("EURUSD", 1.1, 1.1002, last=1.1002, volume=2.5)
    compare("EURUSD")
    assert seen[-1] & mt5.TICK_FLAG_BUY
    market.tick("EURUSD", 1.1, 1.1003)
    compare("EURUSD")
    tick = mt5.symbol_info_tick("EURUSD")
    assert (tick.flags, tick.last, tick.volume, tick.volume_real) == (mt5.TICK_FLAG_ASK, 1.1002, 2, 2.5)


def test_a_tick_is_a_quote_or_no_tick(market: MarketControl) -> None:
    for bad in ({"last": -1.0}, {"volume": -1.0}):
        with pytest.raises(ValueError, match="no trade"):
            market.tick("EURUSD", 1.1, 1.2, **bad)


def test_duplicates_and_edges_of_tick_ranges(market: MarketControl) -> None:
    """A range ends with the tick that falls on its last second's beginning; equal ticks are all there."""
    market.advance(10)
    begin = market.now() // 1000 + 7200
    for late in (0, 0, 999, 1, 1):
        market.advance(late / 1000)
        market.tick("EURUSD", 1.2, 1.2001)
    ticks = mt5.copy_ticks_range("EURUSD", begin, begin + 1, mt5.COPY_TICKS_ALL)
    assert (ticks["time_msc"] - begin * 1000).tolist() == [0, 0, 999, 1000]
    assert len(mt5.copy_ticks_from("EURUSD", begin + 1, 100, mt5.COPY_TICKS_ALL)) == 2
    assert len(mt5.copy_ticks_range("EURUSD", begin + 1, begin, mt5.COPY_TICKS_ALL)) == 0
    assert len(mt5.copy_ticks_from("EURUSD", begin, 3, mt5.COPY_TICKS_ALL)) == 3


@pytest.mark.parametrize("symbol", ["GBPUSD", "USDJPY"])
def test_many_ticks_are_the_same_as_few(start: Start, symbol: str) -> None:
    """Whole blocks are kept: asked again, in parts, or after the symbol changed hands, the same ticks come."""
    market = start()
    market.advance(DAY)
    begin = market.now() // 1000 + 7200 - DAY
    many = mt5.copy_ticks_from(symbol, begin, 40_000, mt5.COPY_TICKS_ALL)
    assert (mt5.copy_ticks_from(symbol, begin, 40_000, mt5.COPY_TICKS_ALL) == many).all()
    many_copy = many.copy()
    many["bid"] = 0.0  # whoever gets ticks may do with them as he likes
    parts = [np.array(many_copy[:0])]
    feed = market.market.feeds[symbol]
    first = feed.index_after(market.market.utc(begin * 1000) - 1)
    end = first + len(many_copy)
    parts.extend(feed.records(lo, min(lo + 700, end)) for lo in range(first, end, 700))
    assert (np.concatenate(parts) == many_copy).all()
    assert [feed.record(number) for number in range(first, first + 3)] == many_copy[:3].tolist()
    now = feed.index_after(market.now()) - 1
    assert [feed.record(now)] == feed.records(now, now + 1).tolist()
    market.tick(symbol, 1.0, 1.1)
    assert (mt5.copy_ticks_from(symbol, begin, 30_000, mt5.COPY_TICKS_ALL) == many_copy[:30_000]).all()
    market.market.change_offset(0)
    market.advance(1)
    assert (mt5.copy_ticks_from(symbol, begin, 9_000, mt5.COPY_TICKS_ALL) == many_copy[:9_000]).all()
