"""From the terminal's structs to the bridge's: the one place where broker time becomes UTC."""

import struct
from collections.abc import Iterator

from mt5_bridge.core.model import (
    TICK_RECORD,
    TICK_RECORD_SIZE,
    AccountInfo,
    Bar,
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
    TerminalInfo,
    TickBlock,
    TradeMode,
    TradeResult,
)
from mt5_bridge.terminal.clock import BrokerClock
from mt5_bridge.terminal.raw import (
    RawAccount,
    RawDeal,
    RawOrder,
    RawPosition,
    RawResult,
    RawSymbol,
    RawTerminal,
    RawTick,
)

_TICK = struct.Struct(TICK_RECORD)
_RATE = struct.Struct("<qddddQiQ")
_TIME_MSC = struct.Struct("<q")
_TIME_MSC_AT = 40
_MARGIN_MODES = {0: MarginMode.NETTING, 1: MarginMode.EXCHANGE, 2: MarginMode.HEDGING}

Tick = tuple[int, int, float, float, float, float, int]
"""(utc_msc, seq, bid, ask, last, volume, flags)"""


def quote(symbol: str, raw: RawTick, clock: BrokerClock) -> Quote:
    """The last prices; the volume is the finer one where the broker gives it."""
    return Quote(symbol, raw.bid, raw.ask, raw.last, raw.volume_real or raw.volume, clock.to_utc(raw.time_msc))


def account(raw: RawAccount) -> AccountInfo:
    """The account."""
    return AccountInfo(
        login=raw.login,
        server=raw.server,
        currency=raw.currency,
        leverage=raw.leverage,
        balance=raw.balance,
        equity=raw.equity,
        margin=raw.margin,
        free_margin=raw.margin_free,
        margin_level=raw.margin_level,
        profit=raw.profit,
        margin_mode=_MARGIN_MODES[raw.margin_mode],
        trade_allowed=raw.trade_allowed,
        trade_expert=raw.trade_expert,
        credit=raw.credit,
        name=raw.name,
        company=raw.company,
        fifo_close=raw.fifo_close,
    )


def terminal(raw: RawTerminal) -> TerminalInfo:
    """The terminal program."""
    return TerminalInfo(
        connected=raw.connected,
        trade_allowed=raw.trade_allowed,
        tradeapi_disabled=raw.tradeapi_disabled,
        name=raw.name,
        company=raw.company,
        build=raw.build,
        path=raw.path,
        ping_last_us=raw.ping_last,
    )


def symbol(raw: RawSymbol) -> SymbolInfo:
    """A symbol's rules. A tick size of 0 (some brokers) means one point."""
    return SymbolInfo(
        name=raw.name,
        digits=raw.digits,
        point=raw.point,
        tick_size=raw.trade_tick_size or raw.point,
        tick_value=raw.trade_tick_value,
        contract_size=raw.trade_contract_size,
        volume_min=raw.volume_min,
        volume_max=raw.volume_max,
        volume_step=raw.volume_step,
        stops_level=raw.trade_stops_level,
        freeze_level=raw.trade_freeze_level,
        trade_mode=TradeMode(raw.trade_mode),
        execution=Execution(raw.trade_exemode),
        filling_bits=raw.filling_mode,
        volume_limit=raw.volume_limit,
        order_mode=raw.order_mode,
        expiration_mode=raw.expiration_mode,
        calc_mode=raw.trade_calc_mode,
        currency_base=raw.currency_base,
        currency_profit=raw.currency_profit,
        currency_margin=raw.currency_margin,
        description=raw.description,
        path=raw.path,
        spread_points=raw.spread,
        selected=raw.select,
    )


def position(raw: RawPosition, clock: BrokerClock) -> Position:
    """An open position."""
    return Position(
        ticket=raw.ticket,
        symbol=raw.symbol,
        side=Side.BUY if raw.type == 0 else Side.SELL,
        volume=raw.volume,
        price_open=raw.price_open,
        price_current=raw.price_current,
        stop_loss=raw.sl,
        take_profit=raw.tp,
        swap=raw.swap,
        profit=raw.profit,
        time_msc=clock.to_utc(raw.time_msc),
        magic=raw.magic,
        comment=raw.comment,
        identifier=raw.identifier,
    )


def order(raw: RawOrder, clock: BrokerClock) -> Order:
    """An order, pending or of the past."""
    return Order(
        ticket=raw.ticket,
        symbol=raw.symbol,
        type=OrderType(raw.type),
        state=OrderState(raw.state),
        volume_initial=raw.volume_initial,
        volume_current=raw.volume_current,
        price=raw.price_open,
        stop_limit_price=raw.price_stoplimit,
        stop_loss=raw.sl,
        take_profit=raw.tp,
        time_setup_msc=clock.to_utc(raw.time_setup_msc),
        time_done_msc=clock.to_utc(raw.time_done_msc),
        expiration_msc=clock.to_utc(raw.time_expiration * 1000),
        magic=raw.magic,
        comment=raw.comment,
        position_id=raw.position_id,
        position_by_id=raw.position_by_id,
    )


def deal(raw: RawDeal, clock: BrokerClock) -> Deal:
    """A deal, balance operations included."""
    return Deal(
        ticket=raw.ticket,
        order=raw.order,
        position_id=raw.position_id,
        symbol=raw.symbol,
        type=raw.type,
        entry=DealEntry(raw.entry),
        volume=raw.volume,
        price=raw.price,
        profit=raw.profit,
        swap=raw.swap,
        commission=raw.commission,
        fee=raw.fee,
        time_msc=clock.to_utc(raw.time_msc),
        magic=raw.magic,
        reason=raw.reason,
        comment=raw.comment,
    )


def result(raw: RawResult) -> TradeResult:
    """The answer to an order."""
    return TradeResult(
        retcode=raw.retcode,
        deal=raw.deal,
        order=raw.order,
        volume=raw.volume,
        price=raw.price,
        bid=raw.bid,
        ask=raw.ask,
        comment=raw.comment,
    )


def bars(symbol_name: str, timeframe: str, data: bytes, clock: BrokerClock) -> list[Bar]:
    """Bars of `copy_rates_*`, as packed by the terminal."""
    return [
        Bar(
            symbol=symbol_name,
            timeframe=timeframe,
            time_msc=clock.to_utc(time * 1000),
            open=first,
            high=high,
            low=low,
            close=close,
            tick_volume=tick_volume,
            spread=spread,
            real_volume=real_volume,
        )
        for time, first, high, low, close, tick_volume, spread, real_volume in _RATE.iter_unpack(data)
    ]


def raw_time_at(data: bytes, index: int) -> int:
    """Raw broker ms of a tick in a block's data; negative indices count from the end."""
    if index < 0:
        index += len(data) // TICK_RECORD_SIZE
    return int(_TIME_MSC.unpack_from(data, index * TICK_RECORD_SIZE + _TIME_MSC_AT)[0])


def ticks(block: TickBlock, clock: BrokerClock, epoch: int | None = None) -> list[Tick]:
    """The ticks of a block with UTC times and their number within the ms.

    Args:
        block: as the terminal packed it.
        clock: its timeline converts each tick with the offset valid at it.
        epoch: the epoch of the cursor the block was read from.

    Returns:
        Oldest first.
    """
    data = block.data
    if len(data) == TICK_RECORD_SIZE:
        # What a quiet poll brings of a symbol, ten times a second: half the cost of the general way.
        _, bid, ask, last, volume, raw, flags, real = _TICK.unpack(data)
        return [(raw - clock.offset_at(raw, epoch), block.first_seq, bid, ask, last, real or float(volume), flags)]
    rows: list[Tick] = []
    if not data:
        return rows
    seq = block.first_seq - 1
    previous = raw_time_at(data, 0)
    for run, offset in runs(data, clock, epoch):
        for _, bid, ask, last, volume, raw, flags, real in _TICK.iter_unpack(run):
            if raw == previous:
                seq += 1
            else:
                seq, previous = 0, raw
            rows.append((raw - offset, seq, bid, ask, last, real or float(volume), flags))
    return rows


def runs(data: bytes, clock: BrokerClock, epoch: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Packed ticks, cut where the broker's offset changes: (ticks, offset in ms)."""
    if not data:
        return
    offset = clock.offset_at(raw_time_at(data, 0), epoch)
    start = 0
    # A block that spans a change of the offset is rare: only then each tick is looked up.
    if offset != clock.offset_at(raw_time_at(data, -1), epoch):
        for index in range(len(data) // TICK_RECORD_SIZE):
            found = clock.offset_at(raw_time_at(data, index), epoch)
            if found != offset:
                yield data[start * TICK_RECORD_SIZE : index * TICK_RECORD_SIZE], offset
                start, offset = index, found
    yield data[start * TICK_RECORD_SIZE :], offset
