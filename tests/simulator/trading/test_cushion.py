"""The quick look at the equity: never too hopeful, and of some use."""

from collections.abc import Callable

from support.paper import buy, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.trading.cushion import Cushion

Start = Callable[..., MarketControl]
HELD = ("EURUSD", "USDJPY", "EURJPY", "XAUUSD")


def begin(start: Start, **settings: str) -> MarketControl:
    market = start(balance=100_000, **settings)
    for symbol in HELD:
        assert mt5.symbol_select(symbol)
    market.advance(60)
    for symbol in HELD:
        buy(0.3, symbol=symbol)
        sell(0.1, symbol=symbol)
    return market


def next_ticks(market: MarketControl) -> dict[str, int]:
    return {symbol: market.market.feeds[symbol].index_after(market.now()) for symbol in HELD}


def least_equity(market: MarketControl, ticks: dict[str, int]) -> float:
    """The lowest at any tick from these on, each looked at."""
    account = market.terminal.session.account
    moments = {market.now()}
    for symbol, number in ticks.items():
        feed = market.market.feeds[symbol]
        moments.update(feed.raw(number, feed.index_after(market.now()))[0].tolist())
    lowest = float("inf")
    for moment in sorted(moments):
        account.msc = moment
        lowest = min(lowest, account.estimate().equity)
    return lowest


def test_it_is_never_sure_of_more_than_there_is(start: Start) -> None:
    market = begin(start, speed="20", seed="3")
    cushion = Cushion(market.market, market.terminal.session.account)
    sure = 0
    for step in range(120):
        ticks = next_ticks(market)
        market.advance(0.3 if step % 20 else 30)
        lowest = least_equity(market, ticks)
        assert not cushion.holds(ticks, ticks, market.now(), lowest)
        assert not cushion.holds(
            next_ticks(market), (), market.now(), market.terminal.session.account.estimate().equity
        )
        sure += cushion.holds(ticks, ticks, market.now(), lowest - 1_000)
    assert sure > 115


def test_it_is_not_sure_of_prices_it_has_not_seen(start: Start) -> None:
    market = begin(start)
    cushion = Cushion(market.market, market.terminal.session.account)
    ticks = next_ticks(market)
    for held in market.terminal.session.account.exposures().values():
        held.least = None
    without = {symbol: number for symbol, number in ticks.items() if symbol != "USDJPY"}
    assert not cushion.holds(without, (), market.now(), 0.0)
    assert cushion.holds(ticks, (), market.now(), 0.0)


def test_a_gap_is_seen_at_once(start: Start) -> None:
    market = begin(start)
    cushion = Cushion(market.market, market.terminal.session.account)
    assert cushion.holds(next_ticks(market), (), market.now(), 90_000)
    ticks = next_ticks(market)
    market.tick("EURUSD", 0.5, 0.5001)
    assert not cushion.holds(ticks, ["EURUSD"], market.now(), 90_000)


def test_a_symbol_without_a_tick_has_no_extremes(start: Start) -> None:
    market = begin(start)
    feed = market.market.feeds["GBPUSD"]
    after = feed.index_after(market.now())
    assert feed.extremes(after, after) is None
    for count in (1, 10, 1_000):
        _, bids, asks = feed.raw(after - count, after)
        expected = int(bids.min()) / feed.scale, int(asks.max()) / feed.scale
        assert feed.extremes(after - count, after) == expected
