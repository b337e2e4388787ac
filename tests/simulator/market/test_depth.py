"""The market book."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.catalogue import SymbolSpec, catalogue
from mt5_bridge.simulator.market.depth import book

SPECS = list(catalogue().values())


@given(st.sampled_from(SPECS), st.integers(-(10**6), 10**9), st.integers(1, 10**6), st.integers(0, 500))
def test_it_begins_at_the_quote_and_goes_outward(spec: SymbolSpec, number: int, points: int, spread: int) -> None:
    bid, ask = points / spec.scale, (points + spread) / spec.scale
    made = book(spec, bid, ask, number)
    assert made == book(spec, bid, ask, number)
    assert made.asks[0].price == ask
    assert made.bids[0].price == bid
    for side, sign in ((made.asks, 1), (made.bids, -1)):
        prices = [sign * level.price for level in side]
        assert prices == sorted(set(prices))
        assert all(level.price > 0 and level.volume >= spec.volume_step for level in side)
        steps = [level.volume / spec.volume_step for level in side]
        assert steps == pytest.approx([round(step) for step in steps])
    assert len(made.asks) == spec.book_depth
    assert made.asks[-1].volume > made.asks[0].volume


def test_another_tick_has_other_volumes() -> None:
    spec = SPECS[0]
    assert book(spec, 1.1, 1.1001, 5) != book(spec, 1.1, 1.1001, 6)


def test_it_is_listed_from_the_highest_price_down(market: MarketControl) -> None:
    assert mt5.market_book_add("EURUSD")
    rows = mt5.market_book_get("EURUSD")
    assert len(rows) == 2 * mt5.symbol_info("EURUSD").ticks_bookdepth == 20
    assert [row.type for row in rows] == [mt5.BOOK_TYPE_SELL] * 10 + [mt5.BOOK_TYPE_BUY] * 10
    prices = [row.price for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert (prices[9], prices[10]) == (1.1001, 1.1)
    assert all((type(row.volume), type(row.volume_dbl)) == (int, float) for row in rows)
    assert all(abs(row.volume - row.volume_dbl) <= 0.5 for row in rows)
    assert rows == mt5.market_book_get("EURUSD")
    market.tick("EURUSD", 1.2, 1.2001)
    assert mt5.market_book_get("EURUSD")[9].price == 1.2001


def test_it_is_there_only_while_subscribed(market: MarketControl) -> None:
    assert mt5.market_book_get("EURUSD") is None
    assert mt5.market_book_release("EURUSD") is False
    assert mt5.last_error()[0] == mt5.RES_S_OK
    assert mt5.market_book_add("EURUSD") is True
    assert mt5.market_book_add("EURUSD") is True
    assert mt5.market_book_release("EURUSD") is True
    assert mt5.market_book_get("EURUSD") is None
    mt5.market_book_add("EURUSD")
    mt5.initialize()
    assert mt5.market_book_get("EURUSD") is None


def test_some_symbols_have_none(market: MarketControl) -> None:
    feed = market.market.feeds["EURUSD"]
    feed.spec = msgspec.structs.replace(feed.spec, book_depth=0)
    assert mt5.market_book_add("EURUSD") is False
    assert market.market.book("EURUSD", market.now()).asks == ()


def test_without_a_quote_it_is_empty(market: MarketControl) -> None:
    assert market.market.book("EURUSD", market.now() - 30 * 86_400_000) == ((), ())


def test_it_shows_what_orders_fill_from_where_that_has_an_end(start: Callable[..., MarketControl]) -> None:
    market = start(symbols={"EURUSD": {"depth_volume": 2.0, "depth_levels": 3, "depth_step": 5}})
    made = market.market.book("EURUSD", market.now())
    assert made.asks == ((1.1001, 2.0), (1.10015, 2.0), (1.1002, 2.0))
    assert made.bids == ((1.1, 2.0), (1.09995, 2.0), (1.0999, 2.0))
