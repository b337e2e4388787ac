"""Facts for decisions: an account in dollars, a few symbols, and a context in which a BUY of EURUSD passes."""

from typing import Any

import msgspec

from mt5_bridge.core.decision import Context, Day, Exposure, Limits, Readiness
from mt5_bridge.core.halt import Halt
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import (
    AccountInfo,
    Action,
    Deal,
    DealEntry,
    Execution,
    MarginMode,
    Order,
    OrderState,
    OrderType,
    Position,
    Quote,
    Side,
    SymbolInfo,
    TradeMode,
)

NOW = 1_700_000_000_000
READY = Readiness(reconciled=True, connected=True, terminal_trade_allowed=True, account_trade_allowed=True)
LIMITS = Limits(trading_enabled=True, account=1001)


def an_account(**changes: Any) -> AccountInfo:
    return msgspec.structs.replace(
        AccountInfo(
            login=1001,
            server="Paper-Demo",
            currency="USD",
            leverage=100,
            balance=10_000.0,
            equity=10_000.0,
            margin=0.0,
            free_margin=10_000.0,
            margin_level=0.0,
            profit=0.0,
            margin_mode=MarginMode.HEDGING,
            trade_allowed=True,
        ),
        **changes,
    )


def a_symbol(name: str = "EURUSD", **changes: Any) -> SymbolInfo:
    """EURUSD on a dollar account, unless changed: 5 digits, a tick worth a dollar a lot."""
    return msgspec.structs.replace(
        SymbolInfo(
            name=name,
            digits=5,
            point=0.00001,
            tick_size=0.00001,
            tick_value=1.0,
            contract_size=100_000.0,
            volume_min=0.01,
            volume_max=100.0,
            volume_step=0.01,
            stops_level=0,
            freeze_level=0,
            trade_mode=TradeMode.FULL,
            execution=Execution.MARKET,
            filling_bits=1,
            currency_base=name[:3],
            currency_profit=name[3:6],
        ),
        **changes,
    )


def a_quote(bid: float = 1.1000, ask: float = 1.1001, symbol: str = "EURUSD") -> Quote:
    return Quote(symbol, bid, ask, 0.0, 0.0, NOW)


def a_signal(action: Action = Action.BUY, **changes: Any) -> TradingSignal:
    """A BUY of 0.1 EURUSD with its stop 100 points away, unless changed."""
    fields: dict[str, Any] = {"symbol": "EURUSD", "signal_id": "s1", "volume": 0.1}
    if action.opens:
        fields["stop_loss"] = 1.0991 if action.value.startswith("BUY") else 1.1010
    return TradingSignal(action=action, **{**fields, **changes})


def a_position(ticket: int = 1, side: Side = Side.BUY, **changes: Any) -> Position:
    return msgspec.structs.replace(
        Position(
            ticket=ticket,
            symbol="EURUSD",
            side=side,
            volume=0.5,
            price_open=1.0950,
            price_current=1.1000,
            stop_loss=1.0900 if side is Side.BUY else 1.1100,
            take_profit=0.0,
            swap=0.0,
            profit=0.0,
            time_msc=NOW - 60_000,
            magic=0,
            comment="",
            identifier=ticket,
        ),
        **changes,
    )


def an_order(ticket: int = 11, type: OrderType = OrderType.BUY_LIMIT, **changes: Any) -> Order:
    return msgspec.structs.replace(
        Order(
            ticket=ticket,
            symbol="EURUSD",
            type=type,
            state=OrderState.PLACED,
            volume_initial=0.2,
            volume_current=0.2,
            price=1.0900,
            stop_limit_price=0.0,
            stop_loss=1.0850,
            take_profit=0.0,
            time_setup_msc=NOW - 60_000,
            time_done_msc=0,
            expiration_msc=0,
            magic=0,
            comment="",
        ),
        **changes,
    )


def a_deal(ticket: int, *, type: int = 0, entry: DealEntry = DealEntry.IN, **changes: Any) -> Deal:
    return msgspec.structs.replace(
        Deal(
            ticket=ticket,
            order=ticket,
            position_id=ticket,
            symbol="EURUSD" if type < 2 else "",
            type=type,
            entry=entry,
            volume=0.1,
            price=1.1,
            profit=0.0,
            swap=0.0,
            commission=0.0,
            fee=0.0,
            time_msc=NOW,
            magic=0,
            reason=0,
            comment="",
        ),
        **changes,
    )


def an_exposure(magic: int = 7, **changes: Any) -> Exposure:
    return msgspec.structs.replace(
        Exposure(magic=magic, symbol="EURUSD", side=Side.BUY, volume=0.1, risk=10.0, margin=100.0), **changes
    )


def a_day(**changes: Any) -> Day:
    return msgspec.structs.replace(
        Day(date="2023-11-14", start_equity=10_000.0, trades=0, peak_equity=10_000.0, start_msc=NOW - NOW % 86_400_000),
        **changes,
    )


def limits(**changes: Any) -> Limits:
    return msgspec.structs.replace(LIMITS, **changes)


def a_context(action: Action = Action.BUY, *, signal: dict[str, Any] | None = None, **changes: Any) -> Context:
    """A context in which the signal passes every guard; `signal` changes the signal, the rest the context."""
    fields: dict[str, Any] = {
        "now_msc": NOW,
        "created_msc": NOW - 100,
        "limits": LIMITS,
        "halt": Halt(),
        "readiness": READY,
        "account": an_account(),
        "symbol": a_symbol(),
        "quote": a_quote(),
        "day": a_day(),
        "loss_per_lot": 1000.0 if action.opens else None,
        "margin_per_lot": 1100.0,
    }
    return Context(signal=a_signal(action, **(signal or {})), **{**fields, **changes})
