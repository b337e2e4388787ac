"""What a tick does to what waits."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from support.paper import ALWAYS, begin, pending

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.market.clock import ManualClock

Start = Callable[..., MarketControl]

FILLINGS = [mt5.ORDER_FILLING_FOK, mt5.ORDER_FILLING_IOC, mt5.ORDER_FILLING_RETURN]


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_pending_of_a_computed_volume_fills_once(market: MarketControl, filling: int) -> None:
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.099, volume=0.1 * 3, type_filling=filling).order
    market.advance(1)
    market.tick("EURUSD", 1.098, 1.0981)
    filled_once(order)


@pytest.mark.parametrize("filling", FILLINGS)
def test_so_does_one_that_an_older_version_kept_as_it_was_written(tmp_path: Path, filling: int) -> None:
    market = begin(tmp_path)
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0, volume=0.3, type_filling=filling).order
    mt5.uninstall()
    (account,) = tmp_path.glob("paper/**/*.sqlite")
    with sqlite3.connect(account) as db:
        db.execute("UPDATE orders SET volume_initial = ?, volume_current = ?", (0.1 * 3, 0.1 * 3))
    db.close()
    try:
        market = mt5.install(clock=ManualClock(market.now()), DATA_DIR=str(tmp_path))
        assert mt5.initialize()
        market.tick("EURUSD", 0.99, 0.9901)
        filled_once(order)
    finally:
        mt5.uninstall()


def filled_once(order: int) -> None:
    """The order became a position of 0.3 lots and nothing else."""
    assert [position.volume for position in mt5.positions_get()] == [0.3]
    assert [(one.ticket, one.state) for one in mt5.history_orders_get(*ALWAYS)] == [(order, mt5.ORDER_STATE_FILLED)]
    assert mt5.orders_total() == 0
    assert mt5.account_info().margin > 0
