"""What account, symbol and terminal refuse, each with its retcode; `order_check` says the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.paper import buy, check, pending, sell, send

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl

Start = Callable[..., MarketControl]

DEAL = {"action": mt5.TRADE_ACTION_DEAL, "type": mt5.ORDER_TYPE_BUY, "volume": 0.1}
LIMIT = {"action": mt5.TRADE_ACTION_PENDING, "type": mt5.ORDER_TYPE_BUY_LIMIT, "volume": 0.1, "price": 1.0}


def refused(**request: Any) -> int:
    """The retcode of a request, which check and send agree on."""
    checked = check(**request)
    sent = send(**request)
    assert checked.retcode == sent.retcode
    assert checked.comment == sent.comment
    return int(sent.retcode)


# Who may trade at all.


def test_the_investor_only_looks(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "DATA_DIR": str(tmp_path),
        "MT5_PASSWORD": "main",
        "account": {"investor_password": "look"},
    }
    mt5.install(clock="manual", **settings)
    assert mt5.initialize()
    mt5.symbol_select("EURUSD")
    assert mt5.account_info().trade_allowed
    assert mt5.login(5000001, "wrong") is False
    assert mt5.login(5000001, "look")
    assert mt5.account_info().trade_allowed is False
    assert refused(**DEAL) == mt5.TRADE_RETCODE_TRADE_DISABLED
    assert mt5.login(5000001, "main")
    assert mt5.account_info().trade_allowed
    # The password is the account's: it is kept, whatever the rules say later.
    mt5.install(clock="manual", DATA_DIR=str(tmp_path), MT5_PASSWORD="main")
    assert mt5.initialize(login=5000001, password="look", server="Paper-Demo")
    assert mt5.account_info().trade_allowed is False
    mt5.uninstall()


@pytest.mark.parametrize(
    ("rules", "retcode", "flags"),
    [
        ({"trade_allowed": False}, mt5.TRADE_RETCODE_TRADE_DISABLED, (False, True)),
        ({"trade_expert": False}, mt5.TRADE_RETCODE_SERVER_DISABLES_AT, (True, False)),
    ],
)
def test_the_server_takes_no_orders(
    start: Start, rules: dict[str, Any], retcode: int, flags: tuple[bool, bool]
) -> None:
    start(account=rules)
    assert refused(**DEAL) == retcode
    info = mt5.account_info()
    assert (info.trade_allowed, info.trade_expert) == flags


def test_autotrading_is_off_in_the_terminal(market: MarketControl) -> None:
    market.terminal.autotrading = False
    assert refused(**DEAL) == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    assert mt5.terminal_info().trade_allowed is False


def test_a_symbol_outside_the_market_watch_has_no_price(market: MarketControl) -> None:
    assert refused(**DEAL, symbol="GBPUSD") == mt5.TRADE_RETCODE_PRICE_OFF


def test_the_market_is_closed(start: Start) -> None:
    market = start(sessions="real")
    position, order = buy().order, send(**LIMIT).order
    market.advance(3.5 * 86_400)
    close = {**DEAL, "type": mt5.ORDER_TYPE_SELL, "position": position}
    for request in (
        DEAL, LIMIT, close,
        {"action": mt5.TRADE_ACTION_SLTP, "position": position, "sl": 1.0},
        {"action": mt5.TRADE_ACTION_MODIFY, "order": order, "price": 1.01},
        {"action": mt5.TRADE_ACTION_REMOVE, "order": order},
        {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": position, "position_by": position},
    ):  # fmt: skip
        assert refused(**request) == mt5.TRADE_RETCODE_MARKET_CLOSED


@pytest.mark.parametrize("rule", [{"trade_mode": "disabled"}, {"calc_mode": "serv_collateral"}])
def test_a_symbol_may_take_no_requests(start: Start, rule: dict[str, Any]) -> None:
    start(symbols={"EURUSD": rule})
    assert refused(**DEAL) == mt5.TRADE_RETCODE_TRADE_DISABLED
    assert refused(**LIMIT) == mt5.TRADE_RETCODE_TRADE_DISABLED


def reopened(folder: Path, **rules: Any) -> MarketControl:
    market = mt5.install(clock="manual", DATA_DIR=str(folder), PAPER_MARGIN_MODE="netting", **rules)
    assert mt5.initialize(), mt5.last_error()
    mt5.symbol_select("EURUSD")
    market.tick("EURUSD", 1.1, 1.1001)
    return market


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("closeonly", mt5.TRADE_RETCODE_CLOSE_ONLY), ("longonly", mt5.TRADE_RETCODE_LONG_ONLY)],
)
def test_what_only_closes_passes_and_what_reverses_does_not(tmp_path: Path, mode: str, expected: int) -> None:
    reopened(tmp_path)
    buy(0.3)
    reopened(tmp_path, symbols={"EURUSD": {"trade_mode": mode}})
    assert sell(0.5).retcode == expected
    assert sell(0.1, sl=5.0, tp=5.0).retcode == mt5.TRADE_RETCODE_DONE
    assert sell(0.2).retcode == mt5.TRADE_RETCODE_DONE
    assert sell(0.1).retcode == expected
    mt5.uninstall()


# Limits.


def test_the_limit_of_orders(start: Start) -> None:
    start(account={"limit_orders": 2})
    for _ in range(2):
        send(**LIMIT)
    assert refused(**LIMIT) == mt5.TRADE_RETCODE_LIMIT_ORDERS
    assert buy().retcode == mt5.TRADE_RETCODE_DONE  # positions are no orders


def test_the_limit_of_positions_counts_pendings_on_a_hedging_account(start: Start) -> None:
    start(account={"limit_positions": 2})
    position = buy().order
    send(**LIMIT)
    assert refused(**DEAL) == mt5.TRADE_RETCODE_LIMIT_POSITIONS
    assert refused(**LIMIT) == mt5.TRADE_RETCODE_LIMIT_POSITIONS
    assert sell(position=position).retcode == mt5.TRADE_RETCODE_DONE
    assert buy().retcode == mt5.TRADE_RETCODE_DONE


def test_the_limit_of_positions_counts_symbols_on_a_netting_account(start: Start) -> None:
    start(margin_mode="netting", account={"limit_positions": 1})
    mt5.symbol_select("GBPUSD")
    send(**LIMIT)
    assert buy().retcode == mt5.TRADE_RETCODE_DONE
    assert buy().retcode == mt5.TRADE_RETCODE_DONE
    assert send(**LIMIT).retcode == mt5.TRADE_RETCODE_DONE
    assert refused(**DEAL, symbol="GBPUSD") == mt5.TRADE_RETCODE_LIMIT_POSITIONS


def test_the_limit_of_volume_in_one_direction(start: Start) -> None:
    """The example of SYMBOL_VOLUME_LIMIT in the MQL5 reference, in tenths of a lot."""
    start(symbols={"EURUSD": {"volume_limit": 0.5}})
    assert refused(**{**DEAL, "volume": 0.6}) == mt5.TRADE_RETCODE_LIMIT_VOLUME
    assert buy(0.5).retcode == mt5.TRADE_RETCODE_DONE
    assert refused(**LIMIT) == mt5.TRADE_RETCODE_LIMIT_VOLUME
    above = {**LIMIT, "type": mt5.ORDER_TYPE_SELL_LIMIT, "price": 1.2}
    assert refused(**{**above, "volume": 0.6}) == mt5.TRADE_RETCODE_LIMIT_VOLUME
    assert send(**{**above, "volume": 0.5}).retcode == mt5.TRADE_RETCODE_DONE
    assert refused(**DEAL) == mt5.TRADE_RETCODE_LIMIT_VOLUME


def test_a_netting_reversal_counts_what_remains(start: Start) -> None:
    start(margin_mode="netting", symbols={"EURUSD": {"volume_limit": 0.5}})
    buy(0.5)
    assert refused(**{**DEAL, "type": mt5.ORDER_TYPE_SELL, "volume": 1.1}) == mt5.TRADE_RETCODE_LIMIT_VOLUME
    assert sell(1.0).retcode == mt5.TRADE_RETCODE_DONE


def test_fifo_closes_the_oldest_first(start: Start) -> None:
    market = start(account={"fifo_close": True})
    assert mt5.account_info().fifo_close is True
    first = buy().order
    market.advance(1)
    second, third = sell().order, buy().order
    close = {**DEAL, "type": mt5.ORDER_TYPE_SELL, "position": third}
    assert refused(**close) == mt5.TRADE_RETCODE_FIFO_CLOSE
    by = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": second, "position_by": third}
    assert refused(**by) == mt5.TRADE_RETCODE_FIFO_CLOSE
    assert sell(position=first).retcode == mt5.TRADE_RETCODE_DONE
    assert send(**by).retcode == mt5.TRADE_RETCODE_DONE


def test_fifo_is_for_hedging_accounts_alone(start: Start) -> None:
    start(margin_mode="netting", account={"fifo_close": True})
    assert mt5.account_info().fifo_close is False


# What a symbol allows.


@pytest.mark.parametrize(
    ("allowed", "request_", "retcode"),
    [
        (["limit"], DEAL, mt5.TRADE_RETCODE_INVALID_ORDER),
        (["market"], LIMIT, mt5.TRADE_RETCODE_INVALID_ORDER),
        (["market", "tp"], {**DEAL, "sl": 1.0}, mt5.TRADE_RETCODE_INVALID_STOPS),
        (["market", "sl"], {**DEAL, "tp": 1.2}, mt5.TRADE_RETCODE_INVALID_STOPS),
        (["market"], {"action": mt5.TRADE_ACTION_CLOSE_BY}, mt5.TRADE_RETCODE_INVALID_ORDER),
    ],
)
def test_kinds_of_orders(start: Start, allowed: list[str], request_: dict[str, Any], retcode: int) -> None:
    start(symbols={"EURUSD": {"order_mode": allowed}})
    assert refused(**request_) == retcode


def test_prices_keep_the_step_of_the_symbol(start: Start) -> None:
    start(symbols={"EURUSD": {"tick_size": 0.0005}})
    assert refused(**{**LIMIT, "price": 1.0001}) == mt5.TRADE_RETCODE_INVALID_PRICE
    assert refused(**{**DEAL, "sl": 1.0001}) == mt5.TRADE_RETCODE_INVALID_STOPS
    assert send(**{**LIMIT, "price": 1.0005}).retcode == mt5.TRADE_RETCODE_DONE


def test_levels_are_judged_as_they_are_kept(market: MarketControl) -> None:
    """In the symbol's digits: 1.099998 is 1.1, the bid."""
    for level in (1.1, 1.099998):
        assert refused(**{**DEAL, "sl": level}) == mt5.TRADE_RETCODE_INVALID_STOPS
    for level in (1.1, 1.100004):
        assert refused(**{**DEAL, "tp": level}) == mt5.TRADE_RETCODE_INVALID_STOPS
        assert refused(**{**LIMIT, "price": 1.1, "tp": level}) == mt5.TRADE_RETCODE_INVALID_STOPS
    for price in (1.1001, 1.100098):
        assert refused(**{**LIMIT, "price": price}) == mt5.TRADE_RETCODE_INVALID_PRICE
    ticket = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0999999).order
    assert mt5.orders_get(ticket=ticket)[0].price_open == 1.1
    modify = {"action": mt5.TRADE_ACTION_MODIFY, "order": ticket}
    assert refused(**{**modify, "price": 1.100098}) == mt5.TRADE_RETCODE_INVALID_PRICE
    assert refused(**{**modify, "price": 1.099, "sl": 1.098996}) == mt5.TRADE_RETCODE_INVALID_STOPS
    assert refused(**{**modify, "price": 1.1000004}) == mt5.TRADE_RETCODE_NO_CHANGES
    stop_limit = {**LIMIT, "type": mt5.ORDER_TYPE_BUY_STOP_LIMIT, "price": 1.2}
    assert refused(**{**stop_limit, "stoplimit": 1.200006}) == mt5.TRADE_RETCODE_INVALID_PRICE
    assert send(**{**stop_limit, "stoplimit": 1.200004}).retcode == mt5.TRADE_RETCODE_DONE


@pytest.mark.parametrize("open_there", [False, True])
def test_positions_are_closed_by_under_their_own_symbol(start: Start, open_there: bool) -> None:
    market = start()
    mt5.symbol_select("GBPUSD")
    market.tick("GBPUSD", 1.3, 1.3001)
    if open_there:
        buy(symbol="GBPUSD")
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": buy().order, "position_by": sell().order}
    assert refused(**request, symbol="GBPUSD") == mt5.TRADE_RETCODE_INVALID
    assert send(**request).retcode == mt5.TRADE_RETCODE_DONE


def test_an_order_is_removed_under_its_own_symbol(start: Start) -> None:
    market = start(symbols={"EURUSD": {"freeze_level": 50}})
    mt5.symbol_select("GBPUSD")
    market.tick("GBPUSD", 1.3, 1.3001)
    remove = {"action": mt5.TRADE_ACTION_REMOVE, "order": pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.0999).order}
    assert refused(**remove) == mt5.TRADE_RETCODE_FROZEN
    assert refused(**remove, symbol="GBPUSD") == mt5.TRADE_RETCODE_INVALID_ORDER
    assert mt5.orders_total() == 1


def test_nothing_changes_within_the_freeze_level(start: Start) -> None:
    start(symbols={"EURUSD": {"freeze_level": 20}})
    position = buy(sl=1.0999).order
    other = sell().order
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.1).order
    for request in (
        {**DEAL, "type": mt5.ORDER_TYPE_SELL, "position": position},
        {"action": mt5.TRADE_ACTION_SLTP, "position": position, "sl": 1.0},
        {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": other, "position_by": position},
        {"action": mt5.TRADE_ACTION_MODIFY, "order": order, "price": 1.09},
        {"action": mt5.TRADE_ACTION_REMOVE, "order": order},
    ):
        assert refused(**request) == mt5.TRADE_RETCODE_FROZEN
    assert buy(position=other).retcode == mt5.TRADE_RETCODE_DONE


def test_a_currency_nobody_converts_cannot_be_traded(start: Start) -> None:
    start(currency="PLN")
    assert refused(**DEAL) == mt5.TRADE_RETCODE_PRICE_OFF
    assert refused(**LIMIT) == mt5.TRADE_RETCODE_PRICE_OFF
    assert mt5.order_calc_margin(0, "EURUSD", 1.0, 1.1) is None
    assert mt5.last_error()[0] == mt5.RES_E_NOT_FOUND
    assert mt5.order_calc_profit(0, "EURUSD", 1.0, 1.1, 1.2) is None


# Money.


def test_a_reversal_needs_the_margin_of_the_whole_order(start: Start) -> None:
    start(margin_mode="netting", balance=1500)
    buy(0.5)
    whole = {**DEAL, "type": mt5.ORDER_TYPE_SELL, "volume": 1.5}
    assert refused(**whole) == mt5.TRADE_RETCODE_NO_MONEY
    assert sell(1.2).retcode == mt5.TRADE_RETCODE_DONE


def test_a_pending_that_reserves_margin_needs_it_at_once(start: Start) -> None:
    market = start(balance=1000, symbols={"EURUSD": {"margin_rates": {"buy_limit": 1.0}}})
    assert refused(**{**LIMIT, "volume": 1.1}) == mt5.TRADE_RETCODE_NO_MONEY
    ticket = send(**{**LIMIT, "volume": 0.9}).order
    account = mt5.account_info()
    assert (account.margin, account.margin_initial, account.margin_free) == (900.0, 900.0, 100.0)
    assert refused(**DEAL) == mt5.TRADE_RETCODE_NO_MONEY
    market.tick("EURUSD", 0.9998, 0.9999)
    # What it reserved is its own to spend.
    assert mt5.positions_get(ticket=ticket)
    assert mt5.account_info().margin_initial == 0.0
