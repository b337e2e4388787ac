"""What the terminal shows: the package's structures, made from the books, the market and the settings."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.margin import currency_digits, price_value
from mt5_bridge.simulator.core.matching import is_buy
from mt5_bridge.simulator.core.records import Deal, Order, Position
from mt5_bridge.simulator.core.rules import COMMENTS, Request
from mt5_bridge.simulator.market.bars import MAX_BARS
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.daystats import Day
from mt5_bridge.simulator.market.depth import Book
from mt5_bridge.simulator.market.market import Quote
from mt5_bridge.simulator.structs import (
    AccountInfo,
    BookInfo,
    OrderCheckResult,
    OrderSendResult,
    SymbolInfo,
    TerminalInfo,
    Tick,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,
)
from mt5_bridge.simulator.terminal import MARGIN_MODES, Terminal
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.dealer import Check, Outcome
from mt5_bridge.simulator.trading.session import Session
from mt5_bridge.simulator.trading.valuation import Pricer

BUILD = 5200
BUILD_DATE = "01 Aug 2025"
_COMPANY = "MT5 Bridge paper trading"
_BLANK = {
    **dict.fromkeys(SymbolInfo.__match_args__[:31], 0),
    **dict.fromkeys(SymbolInfo.__match_args__[31:83], 0.0),
    **dict.fromkeys(SymbolInfo.__match_args__[83:], ""),
}


def position(record: Position, pricer: Pricer | None) -> TradePosition:
    """An open position at the current quote."""
    price, profit = record.price_open, 0.0
    if pricer is not None:
        price = pricer.quote.bid if record.type == c.POSITION_TYPE_BUY else pricer.quote.ask
        profit = pricer.profit(record)
    return TradePosition(
        (
            record.ticket, record.time_msc // 1000, record.time_msc, record.time_update_msc // 1000,
            record.time_update_msc, record.type, record.magic, record.identifier, record.reason, record.volume,
            record.price_open, record.sl, record.tp, price, record.swap, profit, record.symbol, record.comment, "",
        )
    )  # fmt: skip


def order(record: Order, quote: Quote | None = None) -> TradeOrder:
    """An order, waiting (with the current quote) or done."""
    price = record.price_current
    if quote is not None:
        price = quote.ask if is_buy(record.type) else quote.bid
    return TradeOrder(
        (
            record.ticket, record.time_setup_msc // 1000, record.time_setup_msc, record.time_done_msc // 1000,
            record.time_done_msc, record.time_expiration, record.type, record.type_time, record.type_filling,
            record.state, record.magic, record.position_id, record.position_by_id, record.reason,
            record.volume_initial, record.volume_current, record.price_open, record.sl, record.tp, price,
            record.price_stoplimit, record.symbol, record.comment, "",
        )
    )  # fmt: skip


def deal(record: Deal) -> TradeDeal:
    """A deal of the history."""
    return TradeDeal(
        (
            record.ticket, record.order, record.time_msc // 1000, record.time_msc, record.type, record.entry,
            record.magic, record.position_id, record.reason, record.volume, record.price, record.commission,
            record.swap, record.profit, record.fee, record.symbol, record.comment, "",
        )
    )  # fmt: skip


def tick(record: tuple[Any, ...]) -> Tick:
    """A tick with its own flags: the structure has the fields of the packed form, in their order."""
    return Tick(record)


def book(levels: Book) -> tuple[BookInfo, ...]:
    """The market book as the terminal lists it: from the highest price down, what is offered before what is bid for."""
    rows = [(c.BOOK_TYPE_SELL, level) for level in reversed(levels.asks)]
    rows += [(c.BOOK_TYPE_BUY, level) for level in levels.bids]
    return tuple(BookInfo((kind, level.price, round(level.volume), level.volume)) for kind, level in rows)


def request(record: Request) -> TradeRequest:
    """The request as it was understood."""
    return TradeRequest(
        (
            record.action, record.magic, record.order, record.symbol, record.volume, record.price, record.stoplimit,
            record.sl, record.tp, record.deviation, record.type, record.type_filling, record.type_time,
            record.expiration, record.comment, record.position, record.position_by,
        )
    )  # fmt: skip


def sent(outcome: Outcome, record: Request, request_id: int) -> OrderSendResult:
    """The answer to `order_send`."""
    comment = COMMENTS.get(outcome.retcode, "")
    return OrderSendResult(
        (
            outcome.retcode, outcome.deal, outcome.order, outcome.volume, outcome.price, outcome.bid, outcome.ask,
            comment, request_id, 0, request(record),
        )
    )  # fmt: skip


def checked(check: Check, record: Request) -> OrderCheckResult:
    """The answer to `order_check`."""
    after = check.after
    return OrderCheckResult(
        (
            check.retcode, check.balance, after.equity, after.profit, after.margin, after.free, after.level,
            COMMENTS.get(check.retcode, ""), request(record),
        )
    )  # fmt: skip


def account_info(terminal: Terminal, session: Session, login: int) -> AccountInfo:
    """The account at current prices; `login` is whose it says it is."""
    account = session.account
    value, rules = account.valuation(), account.rules
    return AccountInfo.of(
        {
            "login": login,
            "trade_mode": c.ACCOUNT_TRADE_MODE_DEMO,
            "leverage": account.leverage,
            "limit_orders": rules.limit_orders,
            "margin_so_mode": (
                c.ACCOUNT_STOPOUT_MODE_MONEY if rules.stop_out_mode == "money" else c.ACCOUNT_STOPOUT_MODE_PERCENT
            ),
            "trade_allowed": rules.trade_allowed and not terminal.read_only and not session.investor,
            "trade_expert": rules.trade_expert,
            "margin_mode": MARGIN_MODES[account.mode],
            "currency_digits": currency_digits(account.currency),
            "fifo_close": rules.fifo_close and account.mode is MarginMode.HEDGING,
            "balance": float(account.ledger.balance),
            "credit": float(account.ledger.credit),
            "profit": value.profit,
            "equity": value.equity,
            "margin": value.margin,
            "margin_free": value.free,
            "margin_level": value.level,
            "margin_so_call": rules.margin_call,
            "margin_so_so": rules.stop_out,
            "margin_initial": round(account.waiting_margin(), account.digits),
            "assets": value.assets,
            "name": "Paper trader",
            "server": session.server,
            "currency": account.currency,
            "company": _COMPANY,
        },
        default=0.0,
    )


def terminal_info(terminal: Terminal) -> TerminalInfo:
    """The terminal program."""
    program, data = _places(terminal.config.data_dir)
    return TerminalInfo.of(
        {
            **dict.fromkeys(TerminalInfo.__match_args__[:10], False),
            "connected": True,
            "dlls_allowed": True,
            "trade_allowed": terminal.autotrading,
            "build": BUILD + terminal.updates,
            "maxbars": MAX_BARS,
            "codepage": 0,
            "ping_last": 1_000,
            "community_balance": 0.0,
            "retransmission": 0.0,
            "company": _COMPANY,
            "name": "Paper terminal",
            "language": "English",
            "path": program,
            "data_path": data,
            "commondata_path": data,
        }
    )


@lru_cache(maxsize=4)  # making a path is most of what it costs to ask for the terminal
def _places(data_dir: Path | None) -> tuple[str, str]:
    """Folders of program and data: people make paths of them. Without `DATA_DIR` the second need not be there."""
    if data_dir is not None:
        folder = str(data_dir / "paper")
        return folder, folder
    from tempfile import gettempdir  # late: nothing else in the process needs it

    return str(Path(__file__).parent.parent), str(Path(gettempdir()) / "mt5-bridge-paper")


def symbol_info(spec: SymbolSpec, terminal: Terminal, account: Account) -> SymbolInfo:
    """A symbol's rules, with prices when it is in Market Watch, zeros where it is not."""
    values = dict(_rules(spec))
    selected = terminal.is_selected(spec.name)
    values.update(select=selected, visible=terminal.watch.shows(spec.name))
    quote = terminal.market.quote(spec.name, account.msc) if selected else None
    day = terminal.market.day(spec.name, account.msc) if selected else None
    if quote is not None and day is not None:
        values.update(_of_day(spec, day, quote))
        tick_value = price_value(spec) * spec.tick
        values.update(
            time=terminal.market.server_time(quote.time_msc) // 1000,
            bid=quote.bid,
            ask=quote.ask,
            spread=round((quote.ask - quote.bid) * spec.scale),
            trade_tick_value=tick_value * account.profit_rate(spec.name, quote.bid, gain=True),
            trade_tick_value_profit=tick_value * account.profit_rate(spec.name, quote.bid, gain=True),
            trade_tick_value_loss=tick_value * account.profit_rate(spec.name, quote.ask, gain=False),
        )
    return SymbolInfo.of(values)


def _of_day(spec: SymbolSpec, day: Day, quote: Quote) -> dict[str, object]:
    """ENUM_SYMBOL_INFO_DOUBLE of the MQL5 reference; the change is in percent of the day before's close."""
    scale = spec.scale
    by_last = spec.chart_mode == c.SYMBOL_CHART_MODE_LAST and day.last
    price = day.last if by_last else round(quote.bid * scale)
    return {
        "bidhigh": day.bid_high / scale,
        "bidlow": day.bid_low / scale,
        "askhigh": day.ask_high / scale,
        "asklow": day.ask_low / scale,
        "last": day.last / scale,
        "lasthigh": day.last_high / scale,
        "lastlow": day.last_low / scale,
        "volume": int(day.last_volume),
        "volumehigh": int(day.volume_high),
        "volumelow": int(day.volume_low),
        "volume_real": day.last_volume,
        "volumehigh_real": day.volume_high,
        "volumelow_real": day.volume_low,
        "session_deals": day.deals,
        "session_volume": day.volume,
        "session_turnover": day.turnover / scale * spec.contract_size,
        "session_aw": round(day.turnover / scale / day.volume, spec.digits) if day.volume else 0.0,
        "session_open": day.opened / scale,
        "session_close": day.closed / scale,
        "price_change": round((price / day.closed - 1) * 100, 4),
    }


@lru_cache(maxsize=64)  # of what is asked for each order, most never changes
def _rules(spec: SymbolSpec) -> dict[str, object]:
    return {
        **_BLANK,
        "custom": False,
        "chart_mode": spec.chart_mode,
        "ticks_bookdepth": spec.book_depth,
        "spread_float": True,
        "margin_hedged_use_leg": spec.margin_hedged_use_leg,
        "digits": spec.digits,
        "trade_calc_mode": spec.calc_mode,
        "trade_mode": spec.trade_mode,
        "trade_stops_level": spec.stops_level,
        "trade_freeze_level": spec.freeze_level,
        "trade_exemode": spec.execution,
        "swap_mode": spec.swap_mode,
        "swap_rollover3days": spec.swap_rollover3days,
        "expiration_mode": spec.expiration_bits,
        "filling_mode": spec.filling_bits,
        "order_mode": spec.order_mode,
        "order_gtc_mode": spec.order_gtc_mode,
        "point": spec.point,
        "trade_tick_size": spec.tick,
        "trade_accrued_interest": spec.accrued_interest,
        "trade_face_value": spec.face_value,
        "trade_liquidity_rate": spec.liquidity_rate,
        "session_price_settlement": spec.settlement_price,
        "trade_contract_size": spec.contract_size,
        "volume_min": spec.volume_min,
        "volume_max": spec.volume_max,
        "volume_step": spec.volume_step,
        "volume_limit": spec.volume_limit,
        "swap_long": spec.swap_long,
        "swap_short": spec.swap_short,
        "margin_initial": spec.margin_initial,
        "margin_maintenance": spec.margin_maintenance,
        "margin_hedged": spec.margin_hedged,
        "basis": spec.basis,
        "category": spec.category,
        "exchange": spec.exchange,
        "isin": spec.isin,
        "page": spec.page,
        "currency_base": spec.currency_base,
        "currency_profit": spec.currency_profit,
        "currency_margin": spec.currency_margin,
        "description": spec.description,
        "name": spec.name,
        "path": spec.path,
    }
