"""Quotes, fills and depth on a step of prices that is longer than a point."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]
FIVE = {"GBPUSD": {"tick_size": 5e-5}}


def points(prices: object) -> set[int]:
    """How far prices lie from a step of five points."""
    return set((np.rint(np.array(prices) * 1e5).astype(int) % 5).tolist())


def test_quotes_are_the_walks_rounded_outward(start: Start) -> None:
    def ticks(**settings: object) -> np.ndarray:
        market = start(ticks="", **settings)
        market.advance(60)
        return np.array(mt5.copy_ticks_from("GBPUSD", 0, 1000, mt5.COPY_TICKS_ALL))

    fine, coarse = ticks(), ticks(symbols=FIVE)
    assert points(coarse["bid"]) == points(coarse["ask"]) == {0}
    assert (coarse["time_msc"] == fine["time_msc"]).all()
    for inner, outer in ((fine["bid"], coarse["bid"]), (coarse["ask"], fine["ask"])):
        assert ((inner - outer > -1e-9) & (inner - outer < 5e-5 - 1e-9)).all()


def test_orders_fill_and_the_book_stands_on_the_steps(start: Start) -> None:
    market = start(ticks="", symbols={"GBPUSD": {"tick_size": 5e-5, "slippage": 40}})
    mt5.symbol_select("GBPUSD")
    mt5.market_book_add("GBPUSD")
    fills = []
    for _ in range(10):
        market.advance(10)
        bought = mt5.order_send(action=mt5.TRADE_ACTION_DEAL, symbol="GBPUSD", volume=0.01, type=mt5.ORDER_TYPE_BUY)
        assert bought.retcode == mt5.TRADE_RETCODE_DONE
        fills.append(bought.price)
        prices = [row.price for row in mt5.market_book_get("GBPUSD")]
        assert points(prices) == {0}
        assert len(set(prices)) == 20
    assert points(fills) == {0}
    assert len(set(fills)) > 2


def test_trades_of_a_recording_are_moved_to_the_nearest_step(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "acme.csv"
    path.write_text(
        "timestamp,bid,ask,last,volume\n2024-01-03 12:00:00,0.02,100.07,,\n2024-01-03 12:00:01,99.97,100.02,100.02,3\n"
    )
    start(ticks=path, loop=False, symbols={"ACME": {"tick_size": 0.05}}).advance(60)
    first, second = mt5.copy_ticks_from("ACME", 0, 10, mt5.COPY_TICKS_ALL).tolist()
    assert first[1:4] == (0.05, 100.1, 0.0)  # never a price of 0
    assert second[1:4] == (99.95, 100.05, 100.0)
    assert second[6] & mt5.TICK_FLAG_LAST


def test_ticks_by_hand_are_as_they_are_given(start: Start) -> None:
    market = start(symbols=FIVE)
    market.tick("GBPUSD", 1.30001, 1.30002)
    mt5.symbol_select("GBPUSD")
    assert mt5.symbol_info_tick("GBPUSD").bid == 1.30001
