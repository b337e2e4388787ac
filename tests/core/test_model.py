"""The terminal's terms: which number, which side, which price."""

import json
from pathlib import Path

import pytest
from support.facts import a_deal, a_quote

from mt5_bridge.core.model import (
    TICK_RECORD_SIZE,
    Action,
    DealEntry,
    Execution,
    Filling,
    OrderState,
    OrderType,
    Side,
    TickBlock,
    TradeMode,
)

CONTRACT = Path(__file__).parents[1] / "contract" / "mt5_contract.json"
CONSTANTS = json.loads(CONTRACT.read_text(encoding="utf-8"))["constants"]["values"]


def test_sides() -> None:
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)
    assert (Side.BUY.type, Side.SELL.type) == (0, 1)


@pytest.mark.parametrize("action", Action)
def test_every_action_is_one_kind(action: Action) -> None:
    others = {Action.CLOSE, Action.CLOSE_BY, Action.MODIFY, Action.CANCEL}
    assert action.is_market is (action in {Action.BUY, Action.SELL})
    assert action.opens is (action not in others)
    assert action.is_pending is (action.opens and not action.is_market)
    assert (action.side is None) is (action in others)
    if action.opens:
        assert OrderType[action.value].side is action.side
        assert action.side is (Side.BUY if action.value.startswith("BUY") else Side.SELL)


def test_prices_by_side() -> None:
    quote = a_quote(1.1, 1.2)
    assert (quote.price_to_open(Side.BUY), quote.price_to_open(Side.SELL)) == (1.2, 1.1)
    assert (quote.price_to_close(Side.BUY), quote.price_to_close(Side.SELL)) == (1.1, 1.2)


def test_a_deals_share_of_the_balance() -> None:
    deal = a_deal(1, profit=10.0, swap=-1.0, commission=-2.0, fee=-0.5)
    assert deal.net == 6.5
    assert (deal.is_trade, deal.side) == (True, Side.BUY)
    assert a_deal(1, type=1).side is Side.SELL
    assert not a_deal(1, type=2).is_trade


def test_a_tick_block_counts_its_records() -> None:
    assert TickBlock("EURUSD", bytes(3 * TICK_RECORD_SIZE)).count == 3


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (OrderType, "ORDER_TYPE_"),
        (OrderState, "ORDER_STATE_"),
        (DealEntry, "DEAL_ENTRY_"),
        (TradeMode, "SYMBOL_TRADE_MODE_"),
        (Execution, "SYMBOL_TRADE_EXECUTION_"),
        (Filling, "ORDER_FILLING_"),
    ],
)
def test_numbers_are_the_official_packages(enum: type, prefix: str) -> None:
    for member in enum:  # type: ignore[attr-defined]  # all of them are enums
        name = prefix + member.name.replace("LONG_ONLY", "LONGONLY").replace("SHORT_ONLY", "SHORTONLY").replace(
            "CLOSE_ONLY", "CLOSEONLY"
        )
        assert CONSTANTS[name] == member.value
