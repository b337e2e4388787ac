"""What the broker books by hand: money in and out, and collateral."""

from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.margin import to_money
from mt5_bridge.simulator.core.records import Order
from mt5_bridge.simulator.terminal import Terminal
from mt5_bridge.simulator.trading.session import Session

Kind: TypeAlias = Literal["balance", "credit", "charge", "correction", "bonus", "commission", "interest"]
Amount: TypeAlias = Decimal | float | str

_DEALS: dict[Kind, int] = {
    "balance": c.DEAL_TYPE_BALANCE,
    "credit": c.DEAL_TYPE_CREDIT,
    "charge": c.DEAL_TYPE_CHARGE,
    "correction": c.DEAL_TYPE_CORRECTION,
    "bonus": c.DEAL_TYPE_BONUS,
    "commission": c.DEAL_TYPE_COMMISSION,
    "interest": c.DEAL_TYPE_INTEREST,
}


def book(terminal: Terminal, kind: Kind, amount: Amount, comment: str = "") -> int:
    """Books a balance operation of the account that is logged in; returns the deal's ticket.

    Args:
        terminal: the terminal.
        kind: what it is called; a credit counts into the equity alone.
        amount: in account money, negative to take away.
        comment: of the deal.

    Raises:
        TypeError: no account is logged in.
        ValueError: the amount is 0, or has more decimals than the currency.
    """
    session, now = _at_work(terminal)
    account = session.account
    try:
        exact = Decimal(str(amount))
    except InvalidOperation:
        exact = Decimal(0)
    if not exact.is_finite() or not exact or exact != to_money(exact, account.currency):
        raise ValueError(f"{amount} is no amount of {account.currency}")
    if not comment:
        comment = kind if kind != "balance" else "Deposit" if exact > 0 else "Withdrawal"
    deal = account.ledger.transfer(exact, terminal.market.server_time(now), _DEALS[kind], comment)
    account.commit(now)
    session.engine.reconsider(now)
    return deal.ticket


def grant(terminal: Terminal, symbol: str, volume: float) -> int:
    """Puts collateral into the account at the bid, which no trader can; returns the position's ticket.

    Raises:
        TypeError: no account is logged in.
        KeyError: no such symbol.
        ValueError: the symbol is no collateral, or has no price.
    """
    session, now = _at_work(terminal)
    feed, ledger = terminal.market.feeds[symbol], session.account.ledger
    quote = feed.quote(now)
    if feed.spec.calc_mode != c.SYMBOL_CALC_MODE_SERV_COLLATERAL or quote is None:
        raise ValueError(f"{symbol} is no collateral with a price")
    server_msc = terminal.market.server_time(now)
    order = Order(
        ticket=ledger.ticket(), symbol=symbol, type=c.ORDER_TYPE_BUY, type_time=c.ORDER_TIME_GTC,
        type_filling=c.ORDER_FILLING_FOK, state=c.ORDER_STATE_STARTED, volume_initial=volume, volume_current=volume,
        price_open=quote.bid, price_stoplimit=0.0, sl=0.0, tp=0.0, time_setup_msc=server_msc, magic=0,
        reason=c.ORDER_REASON_CLIENT, comment="collateral",
    )  # fmt: skip
    ledger.fill(order, quote.bid, server_msc)
    session.account.commit(now)
    session.engine.stale(symbol)
    return order.position_id


def _at_work(terminal: Terminal) -> tuple[Session, int]:
    if not terminal.connected:
        raise TypeError("no account is logged in: call initialize() first")
    return terminal.synced()
